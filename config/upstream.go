package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/upstream"
)

// Upstream are the settings that a group of backends may have of its own.
type Upstream struct {
	// Backends are the origins that requests are forwarded to.
	Backends []string
	// RoundRobin takes them in turn, instead of the one with the fewest requests.
	RoundRobin bool
	// ConnectTimeout bounds connecting to a backend.
	ConnectTimeout time.Duration
	// ReadTimeout and WriteTimeout bound the time without progress; 0: none.
	ReadTimeout, WriteTimeout time.Duration
	// MaxHeader is the largest header of a response.
	MaxHeader Size
	// MaxConns bounds the connections to each backend, MaxQueue the requests that
	// wait for one.
	MaxConns, MaxQueue int
	// HealthPath is asked for every HealthInterval; empty: only connecting is
	// tried, with backends that were left out.
	HealthPath     string
	HealthInterval time.Duration
	// EjectAfter is after how many failures in a row a backend is left out; 0:
	// never.
	EjectAfter int
	// ResolveInterval is how often names are resolved anew; 0: when connecting.
	ResolveInterval time.Duration
	// CA, Cert and Key are files for https:// backends, ServerName the name in
	// their certificates.
	CA, Cert, Key, ServerName string
}

// NamedUpstream is an upstream that routes can name.
type NamedUpstream struct {
	Upstream
	Name string

	origin Origin
}

// ofBackends is a setting that an upstream may have of its own.
type ofBackends[T any] = line[Upstream, upstream.Config, T]

type settingOfUpstreams = setting[Upstream, upstream.Config]

func ofUpstreams() []settingOfUpstreams {
	return slices.Concat(reaching(), choosing(), certifying())
}

func reaching() []settingOfUpstreams {
	return []settingOfUpstreams{
		&ofBackends[[]string]{
			name: "backend", as: origins(), of: func(u *Upstream) *[]string { return &u.Backends },
			usage: "origins to which requests are forwarded; all do the same work: http://host:port, https://host:port or unix:/path",
			def:   []string{"http://127.0.0.1:9000"},
			limit: eachOf("1 to 64 of http://host:port, https://host:port, both without a path, or unix:/path", 64, isOrigin),
			to:    func(all []string, c *upstream.Config) { c.Backends = all },
		},
		&ofBackends[bool]{
			name: "balance", as: eitherOr("least-connections", "round-robin"),
			of:    func(u *Upstream) *bool { return &u.RoundRobin },
			usage: "which backend a request goes to: least-connections (the one with the fewest requests) or round-robin",
			to: func(yes bool, c *upstream.Config) {
				if yes {
					c.Balance = upstream.RoundRobin
				}
			},
		},
		&ofBackends[time.Duration]{
			name: "connect-timeout", as: aDuration(),
			of:    func(u *Upstream) *time.Duration { return &u.ConnectTimeout },
			usage: "time limit for connecting to a backend, and for waiting for a connection", def: 5 * time.Second,
			limit: from(time.Millisecond, time.Hour), to: func(d time.Duration, c *upstream.Config) { c.ConnectTimeout = d },
		},
		&ofBackends[time.Duration]{
			name: "backend-read-timeout", as: aDuration(),
			of:    func(u *Upstream) *time.Duration { return &u.ReadTimeout },
			usage: "longest time for which a backend may send nothing while a response is due; 0 for no limit",
			limit: noneOrTime(), to: func(d time.Duration, c *upstream.Config) { c.ReadTimeout = d },
		},
		&ofBackends[time.Duration]{
			name: "backend-write-timeout", as: aDuration(),
			of:    func(u *Upstream) *time.Duration { return &u.WriteTimeout },
			usage: "longest time for which a backend may read nothing of a request; 0 for no limit",
			limit: noneOrTime(), to: func(d time.Duration, c *upstream.Config) { c.WriteTimeout = d },
		},
		&ofBackends[Size]{
			name: "max-response-header", as: aSize(), of: func(u *Upstream) *Size { return &u.MaxHeader },
			usage: "largest header of a response; a request with a key that is answered with a larger one counts as executed",
			def:   64 << 10, limit: from[Size](1<<10, 16<<20), to: func(n Size, c *upstream.Config) { c.MaxHeader = int(n) },
		},
		&ofBackends[int]{
			name: "max-conns", as: aCount(), of: func(u *Upstream) *int { return &u.MaxConns },
			usage: "most connections to each backend; further requests wait for one",
			def:   4096, limit: from(1, 1<<20), to: func(n int, c *upstream.Config) { c.MaxConns = n },
		},
		&ofBackends[int]{
			name: "max-queue", as: aCount(), of: func(u *Upstream) *int { return &u.MaxQueue },
			usage: "most requests that wait for a connection to each backend, up to connect-timeout; further ones get 503",
			def:   4096, limit: from(1, 1<<20), unset: asManyAsConns,
			to: func(n int, c *upstream.Config) { c.MaxQueue = n },
		},
	}
}

// asManyAsConns goes by a bound that can be used.
func asManyAsConns(u, _ *Upstream) {
	if from(1, 1<<20).ok(u.MaxConns) {
		u.MaxQueue = u.MaxConns
	}
}

// choosing is about which backends are used.
func choosing() []settingOfUpstreams {
	return []settingOfUpstreams{
		&ofBackends[string]{
			name: "health-path", as: aPath(), of: func(u *Upstream) *string { return &u.HealthPath },
			usage: "path of the health check: a backend is left out after two answers other than 2xx or 3xx; empty for no check",
			limit: emptyOr("a path, such as /healthz", isPath), to: func(s string, c *upstream.Config) { c.HealthPath = s },
		},
		&ofBackends[time.Duration]{
			name: "health-interval", as: aDuration(),
			of:    func(u *Upstream) *time.Duration { return &u.HealthInterval },
			usage: "how often backends are checked: with health-path all, else those that were left out, by connecting",
			def:   5 * time.Second, limit: from(100*time.Millisecond, time.Hour),
			to: func(d time.Duration, c *upstream.Config) { c.HealthInterval = d },
		},
		&ofBackends[int]{
			name: "eject-after", as: aCount(), of: func(u *Upstream) *int { return &u.EjectAfter },
			usage: "failures in a row (no connection, cut, timeout) after which a backend is left out until it can be reached; 0 " +
				"for never",
			def: 3, limit: fromZero("never", 1000), to: func(n int, c *upstream.Config) { c.EjectAfter = n },
		},
		&ofBackends[time.Duration]{
			name: "resolve-interval", as: aDuration(),
			of:    func(u *Upstream) *time.Duration { return &u.ResolveInterval },
			usage: "how often the names of backends are resolved again (each address counts as a backend); 0: only when connecting",
			def:   10 * time.Second, limit: zeroOr("only when connecting", 100*time.Millisecond, 24*time.Hour),
			to: func(d time.Duration, c *upstream.Config) { c.ResolveInterval = d },
		},
	}
}

func certifying() []settingOfUpstreams {
	return []settingOfUpstreams{
		&ofBackends[string]{
			name: "backend-ca", as: aText(), of: func(u *Upstream) *string { return &u.CA }, file: true,
			usage: "file of CA certificates (PEM) for https:// backends; empty for the system's",
			made:  func(u *Upstream, c *upstream.Config) error { return readFile(u.CA, &c.CA) },
		},
		&ofBackends[string]{
			name: "backend-cert", as: aText(), of: func(u *Upstream) *string { return &u.Cert }, file: true,
			usage: "PEM file of the client certificate for https:// backends; empty for none", made: certificate,
		},
		&ofBackends[string]{
			name: "backend-key", as: aText(), of: func(u *Upstream) *string { return &u.Key }, file: true,
			usage: "PEM file of its key", made: certificateKey,
		},
		&ofBackends[string]{
			name: "backend-name", as: aText(), of: func(u *Upstream) *string { return &u.ServerName },
			usage: "name that must be in the certificates of https:// backends, also sent as SNI; empty for the host of the origin",
			to:    func(s string, c *upstream.Config) { c.ServerName = s },
		},
	}
}

func certificate(u *Upstream, c *upstream.Config) error {
	if u.Cert != "" && u.Key == "" {
		return errors.New("want backend_key, its key, with it")
	}
	return readFile(u.Cert, &c.Certificate)
}

func certificateKey(u *Upstream, c *upstream.Config) error {
	if u.Key != "" && u.Cert == "" {
		return errors.New("want backend_cert, the certificate it is of, with it")
	}
	return readFile(u.Key, &c.Key)
}

// readFile reads a file into to, if there is one.
func readFile(file string, to *[]byte) (err error) {
	if file != "" {
		*to, err = os.ReadFile(file) //nolint:gosec // the operator names it
	}
	return err //nolint:wrapcheck // the caller says of which setting
}

// ofNamed are the settings of one of upstreams.
func ofNamed() []setting[NamedUpstream, upstream.Config] {
	return slices.Concat([]setting[NamedUpstream, upstream.Config]{
		&line[NamedUpstream, upstream.Config, string]{
			name: "name", as: aText(), of: func(u *NamedUpstream) *string { return &u.Name },
			usage: "what routes call it", to: func(s string, c *upstream.Config) { c.Name = s },
		},
	}, partOf(ofUpstreams(), func(u *NamedUpstream) *Upstream { return &u.Upstream },
		func(c *upstream.Config) *upstream.Config { return c }))
}

func (u *NamedUpstream) flags() *pflag.FlagSet { return flagsOf("upstream", ofNamed(), u) }

func isOrigin(s string) bool {
	if file, ok := strings.CutPrefix(s, "unix:"); ok {
		return strings.HasPrefix(file, "/")
	}
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" &&
		u.User == nil && u.RawQuery == "" && u.Fragment == "" && (u.Path == "" || u.Path == "/")
}

func isPath(s string) bool {
	return strings.HasPrefix(s, "/") && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

// ParsePrefixes reads addresses and networks in CIDR notation.
func ParsePrefixes(texts []string) ([]netip.Prefix, error) {
	all := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		if ip, err := netip.ParseAddr(text); err == nil {
			all = append(all, netip.PrefixFrom(ip, ip.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, errPrefix)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// FindUpstream returns the one of that name; nil if there is none.
func (c *Config) FindUpstream(name string) *NamedUpstream {
	for i := range c.Upstreams {
		if c.Upstreams[i].Name == name {
			return &c.Upstreams[i]
		}
	}
	return nil
}
