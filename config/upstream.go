package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
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

// bind binds an upstream's settings to flags.
func (u *Upstream) bind(f *pflag.FlagSet) {
	f.StringSliceVar(&u.Backends, "backend", u.Backends,
		"origins that requests are forwarded to, which all do the same: http://host:port, https://host:port or unix:/path")
	f.Var(&choice{&u.RoundRobin, "least-connections", "round-robin"}, "balance",
		"which backend a request goes to: least-connections (the one with the fewest requests) or round-robin")
	f.DurationVar(&u.ConnectTimeout, "connect-timeout", u.ConnectTimeout,
		"bound of connecting to a backend, and of waiting for a connection")
	f.DurationVar(&u.ReadTimeout, "backend-read-timeout", u.ReadTimeout,
		"longest time in which nothing comes from a backend while a response is due; 0 for any")
	f.DurationVar(&u.WriteTimeout, "backend-write-timeout", u.WriteTimeout,
		"longest time in which a backend takes nothing of a request; 0 for any")
	f.Var(&u.MaxHeader, "max-response-header",
		"largest header of a response; a request with a key that is answered with a larger one counts as executed")
	f.IntVar(&u.MaxConns, "max-conns", u.MaxConns, "most connections to each backend; further requests wait for one")
	f.IntVar(&u.MaxQueue, "max-queue", u.MaxQueue,
		"most requests that wait for a connection to each backend, up to connect-timeout; further ones get 503")
	f.StringVar(&u.HealthPath, "health-path", u.HealthPath,
		"path that every backend is asked for now and then: left out after two answers other than 2xx or 3xx; empty for none")
	f.DurationVar(&u.HealthInterval, "health-interval", u.HealthInterval,
		"how often backends are checked: with health-path all, else those that were left out, by connecting")
	f.IntVar(&u.EjectAfter, "eject-after", u.EjectAfter,
		"failures in a row (no connection, cut, timeout) after which a backend is left out until it can be reached; 0 for never")
	f.DurationVar(&u.ResolveInterval, "resolve-interval", u.ResolveInterval,
		"how often backends' names are resolved anew, each address being a backend; 0 for only when connecting")
	f.StringVar(&u.CA, "backend-ca", u.CA, "file of CA certificates (PEM) for https:// backends; empty for the system's")
	f.StringVar(&u.Cert, "backend-cert", u.Cert, "PEM file of the certificate that https:// backends are shown; empty for none")
	f.StringVar(&u.Key, "backend-key", u.Key, "PEM file of its key")
	f.StringVar(&u.ServerName, "backend-name", u.ServerName,
		"name in https:// backends' certificates, and asked for (SNI); empty for the origin's")
}

func (u *NamedUpstream) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("upstream", pflag.ContinueOnError)
	f.SortFlags = false
	f.StringVar(&u.Name, "name", u.Name, "what routes call it")
	u.bind(f)
	return f
}

func (u *Upstream) validate(check check) {
	check(len(u.Backends) > 0 && len(u.Backends) <= 64 &&
		!slices.ContainsFunc(u.Backends, func(s string) bool { return !isOrigin(s) }), "backend",
		texts(u.Backends), "1 to 64 of http://host:port, https://host:port, both without a path, or unix:/path")
	check(between(u.ConnectTimeout, time.Millisecond, time.Hour), "connect-timeout", u.ConnectTimeout, "from 1ms to 1h")
	check(u.ReadTimeout >= 0, "backend-read-timeout", u.ReadTimeout, "0 (none) or more")
	check(u.WriteTimeout >= 0, "backend-write-timeout", u.WriteTimeout, "0 (none) or more")
	check(u.MaxHeader >= 1<<10 && u.MaxHeader <= 16<<20, "max-response-header", u.MaxHeader.String(), "from 1KiB to 16MiB")
	check(u.MaxConns >= 1 && u.MaxConns <= 1<<20, "max-conns", u.MaxConns, "from 1 to 1048576")
	check(u.MaxQueue >= 1 && u.MaxQueue <= 1<<20, "max-queue", u.MaxQueue, "from 1 to 1048576")
	check(u.HealthPath == "" || isPath(u.HealthPath), "health-path", text(u.HealthPath), "a path, such as /healthz, or nothing")
	check(between(u.HealthInterval, 100*time.Millisecond, time.Hour), "health-interval", u.HealthInterval, "from 100ms to 1h")
	check(u.EjectAfter >= 0 && u.EjectAfter <= 1000, "eject-after", u.EjectAfter, "from 0 (never) to 1000")
	check(u.ResolveInterval == 0 || between(u.ResolveInterval, 100*time.Millisecond, 24*time.Hour), "resolve-interval",
		u.ResolveInterval, "0 (only when connecting), or 100ms to 24h")
}

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
