package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate checks a configuration that was made in code.
func (c *Config) Validate() error {
	if errs := c.validate(Origin{}); len(errs) > 0 {
		return errs[0]
	}
	return nil
}

// validate returns every setting that cannot be used, with its place, its value
// and what would do.
func (c *Config) validate(origin Origin) (errs []error) {
	check := checker(&errs, origin)
	check(len(c.Listen) > 0 && !slices.ContainsFunc(c.Listen, func(s string) bool { return !isListen(s) }), "listen",
		texts(c.Listen), "host:port, such as :8080, unix:/path or fd:N")
	check(c.Admin == "" || isAddr(c.Admin), "admin", text(c.Admin), "host:port, such as 127.0.0.1:8081, or nothing")
	check(isStore(c.Store), "store", text(c.Store), "embedded:DIR, redis://host:port/db, rediss:// or unix://")
	c.Rules.validate(check)
	c.Upstream.validate(check)
	c.validateClients(check)
	check(c.BodyMinRate >= 0 && c.BodyMinRate <= 1<<30, "body-min-rate", c.BodyMinRate.String(), "from 0 (any) to 1GiB")
	check(c.MaxHeader >= 1<<10 && c.MaxHeader <= 1<<20, "max-header", c.MaxHeader.String(), "from 1KiB to 1MiB")
	check(c.Namespace != "" && !strings.ContainsAny(c.Namespace, "{} \t\r\n"), "namespace", text(c.Namespace),
		"one word without braces, which would move every record into one slot of a Redis Cluster")
	check(between(c.StoreTimeout, 10*time.Millisecond, time.Minute) && c.StoreTimeout < c.LockTTL, "store-timeout",
		c.StoreTimeout, fmt.Sprintf("from 10ms to 1m, and below lock-ttl (%v)", c.LockTTL))
	check(c.WaitReplicas >= AllReplicas && c.WaitReplicas <= 100, "wait-replicas", c.WaitReplicas.String(), "all, or from 0 to 100")
	check(c.StoreJournal == 0 || between(c.StoreJournal, time.Second, time.Hour), "store-journal", c.StoreJournal,
		"0 (none), or 1s to 1h")
	check(c.MaxInFlight >= 1 && c.MaxInFlight <= 1<<20, "max-in-flight", c.MaxInFlight, "from 1 to 1048576")
	check(c.MaxWaiters >= 1 && c.MaxWaiters <= 1<<20, "max-waiters", c.MaxWaiters, "from 1 to 1048576")
	check(c.DrainTimeout >= 0, "drain-timeout", c.DrainTimeout, "0 (waits for all) or more")
	check(slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel), "log-level", text(c.LogLevel),
		"debug, info, warn or error")
	check(slices.Contains([]string{"auto", "console", "json"}, c.LogFormat), "log-format", text(c.LogFormat),
		"auto, console or json")
	check(!c.Demo || len(c.Backends) == 1 && strings.HasPrefix(c.Backends[0], "http://"), "demo", c.Demo,
		"one backend of http://, where the demo backend can listen")
	check(c.DrainDelay >= 0 && c.DrainDelay <= time.Hour, "drain-delay", c.DrainDelay, "from 0 (none) to 1h")
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		check := checker(&errs, u.origin)
		u.validate(check)
		check(u.Name != "", "name", text(u.Name), "a name that routes can go by")
		check(c.FindUpstream(u.Name) == u, "name", text(u.Name), "one that no other upstream has")
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		check := checker(&errs, r.origin)
		r.validate(check)
		check(c.StoreTimeout < r.LockTTL, "lock-ttl", r.LockTTL, fmt.Sprintf("more than store-timeout (%v)", c.StoreTimeout))
		check(r.Upstream == "" || c.FindUpstream(r.Upstream) != nil, "upstream", text(r.Upstream),
			"the name of one of the upstreams, or none for the one at large")
		check(r.Path != "" || r.Host != "" || len(r.Methods) > 0, "route", text(r.Name), "a path, a host or methods to match")
	}
	return errs
}

type check func(ok bool, name string, value any, want string)

// checker adds what is not ok to errs, with its place.
func checker(errs *[]error, origin Origin) check {
	return func(ok bool, name string, value any, want string) {
		if ok {
			return
		}
		place := origin[name]
		if place == "" && origin[itemPlace] != "" {
			place = origin[itemPlace]
		}
		if place == "" {
			place = "--" + name
		}
		if strings.Contains(place, ":") { // a line of a file, where the name is not in the place
			place += ": " + strings.ReplaceAll(name, "-", "_")
		}
		switch given := value.(type) {
		case text:
			value, want = given.shown(name), want+mend(name, string(given))
		case texts:
			value, want = given.shown(name), want+mend(name, given...)
		}
		*errs = append(*errs, fmt.Errorf("%s: %v cannot be used: want %s", place, value, want))
	}
}

// errPrefix is what ParsePrefixes wants.
var errPrefix = errors.New("want an address, or a network such as 10.0.0.0/8")

// validateClients looks at what is about clients and their connections.
func (c *Config) validateClients(check check) {
	_, err := ParsePrefixes(c.TrustedProxies)
	check(err == nil, "trusted-proxies", texts(c.TrustedProxies), "addresses, or networks such as 10.0.0.0/8")
	check(slices.Contains([]string{"pass", "sampled", "unsampled"}, c.Traceparent), "traceparent", text(c.Traceparent),
		"pass, sampled or unsampled")
	u, err := url.Parse(c.OTLP)
	check(c.OTLP == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "otlp", text(c.OTLP),
		"http://host:4318/v1/traces, or nothing")
	check(c.MaxClients >= 1 && c.MaxClients <= 1<<24, "max-clients", c.MaxClients, "from 1 to 16777216")
	check(c.MaxClientsPerIP >= 0 && c.MaxClientsPerIP <= 1<<24, "max-clients-per-ip", c.MaxClientsPerIP, "from 0 (any) to 16777216")
	for name, d := range map[string]time.Duration{
		"idle-timeout": c.IdleTimeout, "header-timeout": c.HeaderTimeout, "body-timeout": c.BodyTimeout,
	} {
		check(between(d, time.Millisecond, 24*time.Hour), name, d, "from 1ms to 24h")
	}
	check(c.SendTimeout == 0 || between(c.SendTimeout, 10*time.Millisecond, 24*time.Hour), "send-timeout", c.SendTimeout,
		"0 (any time), or 10ms to 24h")
}

// isToken: RFC 9110 section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	})
}

func isListen(s string) bool {
	if file, ok := strings.CutPrefix(s, "unix:"); ok {
		return strings.HasPrefix(file, "/")
	}
	if fd, ok := strings.CutPrefix(s, "fd:"); ok {
		n, err := strconv.Atoi(fd)
		return err == nil && n >= 3
	}
	return isAddr(s)
}

func (r *Rules) validate(check check) {
	check(len(r.KeyHeaders) > 0 && !slices.ContainsFunc(r.KeyHeaders, func(s string) bool { return !isToken(s) }), "key-headers",
		texts(r.KeyHeaders), "names of headers")
	check(r.MaxPerCaller >= 0 && r.MaxPerCaller <= 1<<20, "max-per-caller", r.MaxPerCaller, "from 0 (any) to 1048576")
	check(r.MaxPerAddress == SameAs || r.MaxPerAddress >= 0 && r.MaxPerAddress <= 1<<20, "max-per-address", r.MaxPerAddress,
		"same, or from 0 (any) to 1048576")
	check(r.MaxPerKey >= 0 && r.MaxPerKey <= 1<<20, "max-per-key", r.MaxPerKey, "from 0 (any) to 1048576")
	check(r.BackendTimeout >= 0, "backend-timeout", r.BackendTimeout, "0 (none) or more")
	check(between(r.LockTTL, 100*time.Millisecond, time.Hour), "lock-ttl", r.LockTTL, "from 100ms to 1h")
	check(r.Heartbeat >= time.Millisecond && r.Heartbeat <= r.LockTTL/2, "heartbeat", r.Heartbeat,
		fmt.Sprintf("from 1ms to half of lock-ttl (%v), so that a renewal can fail once", r.LockTTL/2))
	check(between(r.Retention, time.Second, 8760*time.Hour), "retention", r.Retention, "from 1s to 8760h")
	check(r.Remember == SameAs || between(r.Remember, 0, 87600*time.Hour), "remember", r.Remember, "same, or from 0 (not) to 87600h")
	check(between(r.ResolverTimeout, time.Millisecond, time.Hour), "resolver-timeout", r.ResolverTimeout, "from 1ms to 1h")
	check(r.DeriveKey == 0 || between(r.DeriveKey, time.Second, time.Hour), "derive-key", r.DeriveKey, "0 (never), or 1s to 1h")
	check(r.DuplicateWindow == 0 || between(r.DuplicateWindow, time.Second, 24*time.Hour), "duplicate-window", r.DuplicateWindow,
		"0 (not), or 1s to 24h")
	check(r.FailStatus == 500 || r.FailStatus == 503, "fail-status", r.FailStatus, "500 or 503")
	check(between(r.MaxWait, 0, time.Hour), "max-wait", r.MaxWait, "from 0 (none) to 1h")
	check(!r.Wait || r.MaxWait > 0, "in-progress", "wait", "a max-wait above 0 with it")
	check(r.MaxRequestBody <= 1<<30, "max-request-body", r.MaxRequestBody.String(), "at most 1GiB: it is held in memory")
	check(r.MaxResponseBody <= 256<<20, "max-response-body", r.MaxResponseBody.String(), "at most 256MiB: it is held in memory")
}

func between(d, least, most time.Duration) bool { return least <= d && d <= most }

func isAddr(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = net.LookupPort("tcp", port)
	return err == nil
}

func isStore(s string) bool {
	scheme, _, ok := strings.Cut(s, ":")
	return ok && slices.Contains([]string{"embedded", "redis", "rediss", "unix"}, scheme)
}
