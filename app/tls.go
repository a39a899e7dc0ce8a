package app

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/config"
)

// certificates are what the proxy's listener shows and whom it lets in. They are
// read anew when their files change, so that a renewed certificate needs no
// restart; connections that are open go on with the old one. Files that cannot
// be used then are reported, and the old certificates stay.
type certificates struct {
	config *config.Config
	log    zerolog.Logger
	amiss  *amiss
	now    atomic.Pointer[tls.Config]
	seen   [sha256.Size]byte // of the files, as last looked at
}

// newCertificates is nil without a certificate: plain text.
func newCertificates(c *config.Config, log zerolog.Logger, wrong *amiss) (*certificates, error) {
	switch {
	case c.TLSCert == "" && c.TLSKey == "" && c.TLSClientCA == "":
		return nil, nil //nolint:nilnil // there are none
	case c.TLSCert == "":
		return nil, c.At(nil, "tls-cert", errors.New("want the certificate that tls-key or tls-client-ca go with"))
	case c.TLSKey == "":
		return nil, c.At(nil, "tls-key", errors.New("want the key of tls-cert"))
	}
	t := &certificates{config: c, log: log, amiss: wrong}
	made, seen, err := t.read()
	if err != nil {
		return nil, err
	}
	t.now.Store(made)
	t.seen = seen
	return t, nil
}

// listening is what a listener is to use.
func (t *certificates) listening() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.now.Load(), nil },
	}
}

func (t *certificates) read() (made *tls.Config, seen [sha256.Size]byte, err error) {
	c := t.config
	files := sha256.New()
	read := func(setting, file string) []byte {
		text, readErr := os.ReadFile(file) //nolint:gosec // the operator names it
		if readErr != nil && err == nil {
			err = c.At(nil, setting, readErr)
		}
		_, _ = files.Write(append(text, 0))
		return text
	}
	certPEM, keyPEM := read("tls-cert", c.TLSCert), read("tls-key", c.TLSKey)
	made = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if c.TLSClientCA != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(read("tls-client-ca", c.TLSClientCA)) && err == nil {
			err = c.At(nil, "tls-client-ca", errors.New("there is no certificate in the file: want CA certificates as PEM"))
		}
		made.ClientCAs, made.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	seen = [sha256.Size]byte(files.Sum(nil))
	if err != nil {
		return nil, seen, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, seen, c.At(nil, "tls-cert", fmt.Errorf("want a certificate chain, and its key in tls_key, as PEM: %w", err))
	}
	made.Certificates = []tls.Certificate{pair}
	return made, seen, nil
}

// watch looks at the files every so often until ctx ends.
func (t *certificates) watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		t.look()
	}
}

func (t *certificates) look() {
	made, seen, err := t.read()
	if seen == t.seen {
		return
	}
	t.seen = seen
	if err != nil {
		t.amiss.begin("tls_reload_failed", err.Error())
		t.log.Error().Str("event", "tls_reload_failed").Err(err).Msg("the certificates stay as they were")
		return
	}
	t.now.Store(made)
	t.amiss.over("tls_reload_failed")
	t.log.Info().Str("event", "tls_reloaded").Msg("new connections get the new certificate")
}

// lookEvery is how soon a renewed certificate is noticed: files are read, since
// the time stamps of what a mounted secret links to need not change.
const lookEvery = time.Second
