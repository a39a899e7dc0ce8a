package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/internal/redact"
)

// Config is where requests are forwarded to. Backends is required.
type Config struct {
	// Name is what routes and logs call it; empty is the one of the rules at
	// large.
	Name string
	// Backends are the origins, each as ParseBackend takes it. They all do the
	// same work; a name that has several addresses counts as so many backends.
	Backends []string
	Balance  Balance
	// ConnectTimeout bounds connecting, TLS included. Default 5 s.
	ConnectTimeout time.Duration
	// ReadTimeout and WriteTimeout bound the time in which nothing at all comes
	// from the backend, or is taken by it, while it should. 0: no bound.
	ReadTimeout, WriteTimeout time.Duration
	// MaxHeader is the largest header of a response, in bytes. Default 64 KiB. A
	// backend that answers with a larger one has executed the request all the same.
	MaxHeader int
	// MaxConns bounds the connections to each backend. Default 4096.
	MaxConns int
	// MaxQueue bounds how many requests wait for one of those; further ones get
	// 503, as do those that waited for ConnectTimeout. Default MaxConns.
	MaxQueue int
	// HealthPath is asked for every HealthInterval (default 5 s): a backend that
	// does not answer 2xx or 3xx twice in a row is left out until it does. Empty:
	// only those that were left out for other reasons are looked at, by
	// connecting.
	HealthPath     string
	HealthInterval time.Duration
	// EjectAfter is how many exchanges in a row must fail for a backend to be left
	// out. 0: it never is for that reason.
	EjectAfter int
	// ResolveInterval is how often the backends' names are resolved anew. 0: only
	// with each connection.
	ResolveInterval time.Duration
	// CA is what https:// backends' certificates must come from (PEM); nil for
	// the system's authorities.
	CA []byte
	// Certificate and Key are what this proxy shows to https:// backends (PEM);
	// nil for nothing.
	Certificate, Key []byte
	// ServerName is the name that the certificate must have and that is asked for
	// (SNI); empty for the origin's.
	ServerName string
}

// Errors of a Config.
var (
	// ErrBackend is an origin that cannot be used.
	ErrBackend = errors.New("want http://host:port, https://host:port or unix:/path")
	// ErrCA is a file without authorities.
	ErrCA = errors.New("there is no certificate in it: want CA certificates as PEM")
	// ErrManyBackends is more than can be balanced.
	ErrManyBackends = fmt.Errorf("more than %d backends", maxEndpoints)
)

// Backend is an origin in the network's terms.
type Backend struct {
	Network string // tcp or unix
	Addr    string // host:port, or a path
	Host    string // host:port as clients would name it
	TLS     bool
}

// ParseBackend reads an origin: http://host:port, https://host:port (the port
// may be left out), or unix:/path of a socket.
func ParseBackend(origin string) (Backend, error) {
	if file, ok := strings.CutPrefix(origin, "unix:"); ok {
		if !path.IsAbs(file) {
			return Backend{}, fmt.Errorf("%q: %w, absolute", origin, ErrBackend)
		}
		return Backend{Network: "unix", Addr: path.Clean(file), Host: "localhost"}, nil
	}
	u, err := redact.Parse(origin)
	shown := redact.URL(origin)
	switch {
	case err != nil:
		return Backend{}, fmt.Errorf("%w: %w", ErrBackend, err)
	case u.Scheme != "http" && u.Scheme != "https":
		return Backend{}, fmt.Errorf("%q: %w", shown, ErrBackend)
	case u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		return Backend{}, fmt.Errorf("%q: %w, and nothing else", shown, ErrBackend)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if n, err := net.LookupPort("tcp", port); err != nil || n == 0 {
		return Backend{}, fmt.Errorf("%q: %w", shown, ErrBackend)
	}
	addr := net.JoinHostPort(u.Hostname(), port)
	return Backend{Network: "tcp", Addr: addr, Host: addr, TLS: u.Scheme == "https"}, nil
}

// isName: the address has to be resolved.
func (b *Backend) isName() bool {
	host, _, err := net.SplitHostPort(b.Addr)
	if b.Network != "tcp" || err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err != nil
}

// SetDefaults fills in what is not set.
func (u *Config) SetDefaults() {
	if u.ConnectTimeout <= 0 {
		u.ConnectTimeout = 5 * time.Second
	}
	if u.MaxHeader <= 0 {
		u.MaxHeader = 64 << 10
	}
	if u.MaxConns <= 0 {
		u.MaxConns = 4096
	}
	if u.MaxQueue <= 0 {
		u.MaxQueue = u.MaxConns
	}
	if u.HealthInterval <= 0 {
		u.HealthInterval = 5 * time.Second
	}
}

// tlsConfig is for the origin of that host.
func (u *Config) tlsConfig(host string) (*tls.Config, error) {
	c := &tls.Config{ServerName: u.ServerName, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(host)
	}
	if u.CA != nil {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(u.CA) {
			return nil, ErrCA
		}
	}
	if u.Certificate != nil {
		pair, err := tls.X509KeyPair(u.Certificate, u.Key)
		if err != nil {
			return nil, fmt.Errorf("the certificate for the backend: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// Check says what is wrong with it.
func (u *Config) Check() error {
	_, err := New(u, Network{}, &Trace{})
	return err
}

// New connects to nothing yet; see Watch. trace is kept.
func New(c *Config, n Network, trace *Trace) (*Upstream, error) {
	u := &Upstream{config: *c, network: n, trace: trace}
	u.config.SetDefaults()
	if len(c.Backends) == 0 {
		return nil, ErrBackend
	}
	if len(c.Backends) > maxEndpoints {
		return nil, ErrManyBackends
	}
	if _, err := c.tlsConfig(""); err != nil { // whether there is an https:// backend or not
		return nil, err
	}
	endpoints := make([]*endpoint, 0, len(c.Backends))
	for _, origin := range c.Backends {
		b, err := ParseBackend(origin)
		if err != nil {
			return nil, err
		}
		p, err := u.newEndpoint(origin, b, b.Addr)
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, p)
	}
	u.endpoints.Store(&endpoints)
	return u, nil
}

// newEndpoint is for one address of an origin.
func (u *Upstream) newEndpoint(origin string, b Backend, addr string) (*endpoint, error) {
	c := &u.config
	d := &dialer{
		network: b.Network, addr: addr, timeout: c.ConnectTimeout, dial: u.network.Dial,
		readTimeout: c.ReadTimeout, writeTimeout: c.WriteTimeout,
	}
	if b.TLS {
		var err error
		if d.tls, err = c.tlsConfig(b.Host); err != nil {
			return nil, err
		}
	}
	name := origin
	if addr != b.Addr {
		name += " (" + addr + ")"
	}
	return &endpoint{
		origin: origin, name: name, host: b.Host, dialer: d, maxHeader: c.MaxHeader, limit: int64(c.MaxConns) + int64(c.MaxQueue),
		client: &fasthttp.HostClient{
			Addr:               b.Host,
			Dial:               d.connect,
			MaxConns:           c.MaxConns,
			MaxConnWaitTimeout: c.ConnectTimeout,
			ConnPoolStrategy:   fasthttp.LIFO,
			ReadBufferSize:     16 << 10,
			// This package sends without the client's own Do, which would
			// repeat GET, HEAD and PUT; should it ever be called, it does not.
			MaxIdemponentCallAttempts: 1,
			RetryIfErr:                func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		},
	}, nil
}
