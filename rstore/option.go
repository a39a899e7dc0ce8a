package rstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/rueidis"
)

func (c *Config) option() (rueidis.ClientOption, error) {
	option, err := rueidis.ParseURL(c.URL)
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
	if c.WaitReplicas != 0 {
		// A write that waits for replicas has a connection to itself meanwhile.
		option.BlockingPoolSize, option.ReadBufferEachConn, option.WriteBufferEachConn = maxWaiting, 32<<10, 32<<10
	}
	return option, nil
}

// secure sets what TLS is to be done with.
func (c *Config) secure(option *tls.Config) error {
	if option == nil {
		if c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" {
			return errors.New("certificates and keys are for rediss:// only")
		}
		return nil
	}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return fmt.Errorf("the CA certificates: %w", err)
		}
		option.RootCAs = x509.NewCertPool()
		if !option.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("the CA certificates: there is none in %s", c.CAFile)
		}
	}
	if c.CertFile == "" && c.KeyFile == "" {
		return nil
	}
	if c.CertFile == "" || c.KeyFile == "" {
		return errors.New("the certificate for Redis: it and its key go together, and one is missing")
	}
	// Read once here, so that what cannot be used is said at the start, and then
	// for each connection: certificates are replaced while the process runs.
	if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
		return fmt.Errorf("the certificate for Redis: %w", err)
	}
	cert, key := c.CertFile, c.KeyFile
	option.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("the certificate for Redis: %w", err)
		}
		return &pair, nil
	}
	return nil
}
