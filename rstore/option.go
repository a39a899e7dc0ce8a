package rstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// Errors of a Config: which of its fields they are about. An error that is none of
// them is about the URL.
var (
	ErrCA          = errors.New("the CA certificates")
	ErrCertificate = errors.New("the certificate for Redis")
	ErrKey         = errors.New("the key of the certificate for Redis")
	ErrNamespace   = errors.New("the namespace")
)

// Check is what New says of a configuration, without making a store.
func (c *Config) Check() error {
	copied := *c // which the defaults are filled into
	_, err := copied.option()
	return err
}

func (c *Config) option() (rueidis.ClientOption, error) {
	if strings.ContainsAny(c.Namespace, "{}") {
		return rueidis.ClientOption{}, fmt.Errorf("%w %q has a brace: a Cluster would read it as what decides a record's slot",
			ErrNamespace, c.Namespace)
	}
	option, err := parseURL(c.URL)
	if err != nil {
		return option, fmt.Errorf("the Redis URL: %w", err)
	}
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Journal == 0 {
		c.Journal = time.Minute
	}
	if c.JournalBytes <= 0 {
		c.JournalBytes = 64 << 20
	}
	if c.CacheBytes <= 0 {
		c.CacheBytes = 64 << 20
	}
	if err := c.secure(option.TLSConfig); err != nil {
		return option, err
	}
	option.DisableRetry = true
	option.ClientTrackingOptions = []string{"NOLOOP"}
	option.Dialer.Timeout = c.Timeout
	option.Dialer.KeepAlive = c.Timeout / 2 // also how often an idle connection is pinged
	option.ConnWriteTimeout = c.Timeout
	// One connection, and a moment's patience before writing to it when others
	// wait for answers: fewer, fuller packets, which costs Redis and us less
	// than it delays (docs/performance.md).
	option.PipelineMultiplex = -1
	option.MaxFlushDelay = 20 * time.Microsecond
	if c.Dial != nil {
		c.dialWith(&option)
	}
	if c.WaitReplicas != 0 {
		// A write that waits for replicas has a connection to itself meanwhile.
		// turns bounds how many there are. The pool must not: which server a slot of a
		// Cluster is counted for can be a second behind which one the library asks.
		option.BlockingPoolSize, option.ReadBufferEachConn, option.WriteBufferEachConn = math.MaxInt32, 32<<10, 32<<10
	}
	return option, nil
}

// dialWith has all connections be made by c.Dial. They have nothing to gain from a flush that
// is delayed. In a simulation's time such a delay never ends if the connection breaks
// meanwhile: the library (v1.0.79) then spins until its writer is done, and no time passes
// while a goroutine runs.
func (c *Config) dialWith(option *rueidis.ClientOption) {
	option.MaxFlushDelay = 0
	dial, network := c.Dial, "tcp"
	if option.DialCtxFn != nil {
		network = "unix"
	}
	option.DialCtxFn = func(ctx context.Context, addr string, _ *net.Dialer, secure *tls.Config) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil || secure == nil {
			return conn, err
		}
		if secure.ServerName == "" {
			secure = secure.Clone()
			secure.ServerName, _, _ = net.SplitHostPort(addr)
		}
		over := tls.Client(conn, secure)
		if err := over.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err //nolint:wrapcheck // as a dialer's
		}
		return over, nil
	}
}

// secure sets what TLS is to be done with.
func (c *Config) secure(option *tls.Config) error {
	if option == nil {
		switch {
		case c.CAFile != "":
			return fmt.Errorf("%w: they are for rediss:// only", ErrCA)
		case c.CertFile != "":
			return fmt.Errorf("%w: it is for rediss:// only", ErrCertificate)
		case c.KeyFile != "":
			return fmt.Errorf("%w: it is for rediss:// only", ErrKey)
		}
		return nil
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCA, err)
		}
		option.RootCAs = x509.NewCertPool()
		if !option.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%w: there is none in %s", ErrCA, c.CAFile)
		}
	}
	if c.CertFile == "" && c.KeyFile == "" {
		return nil
	}
	switch {
	case c.KeyFile == "":
		return fmt.Errorf("%w: it and its key go together, and that is missing", ErrCertificate)
	case c.CertFile == "":
		return fmt.Errorf("%w: it and the certificate go together, and that is missing", ErrKey)
	}
	// Read once here, so that what cannot be used is said at the start, and then
	// for each connection: certificates are replaced while the process runs.
	if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	cert, key := c.CertFile, c.KeyFile
	option.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		return &pair, nil
	}
	return nil
}
