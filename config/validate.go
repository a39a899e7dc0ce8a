package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
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
	failed := map[string]bool{}
	check := noting(failed, checker(&errs, origin))
	checkAll(settings(), c, check)
	c.checkTogether(&c.Rules, check)
	c.checkPlaces(check)
	c.checkLoop(&c.Upstream, check)
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		check := unlessFailed(failed, u.origin, checker(&errs, u.origin))
		checkAll(ofNamed(), u, check)
		c.checkLoop(&u.Upstream, check)
		check(u.Name != "", "name", plain(u.Name), "a name, which routes give as their upstream")
		check(c.FindUpstream(u.Name) == u, "name", plain(u.Name), "a name that no other upstream has")
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		check := unlessFailed(failed, r.origin, checker(&errs, r.origin))
		checkAll(ofRoute(), r, check)
		c.checkTogether(&r.Rules, check)
		c.checkNames(i, check)
		check(failed["store-timeout"] || !lease().ok(r.LockTTL) || c.StoreTimeout < r.LockTTL, "lock-ttl", r.LockTTL,
			fmt.Sprintf("more than store-timeout (%v)", c.StoreTimeout))
		check(r.Upstream == "" || c.FindUpstream(r.Upstream) != nil, "upstream", plain(r.Upstream),
			"the name of an entry of upstreams, or none for the backends in backend")
		check(r.Path != "" || r.Host != "" || len(r.Methods) > 0, "route", plain(r.Name), "at least one of path, host and methods")
	}
	return errs
}

type check func(ok bool, name string, value any, want string)

// noting notes which settings cannot be used.
func noting(failed map[string]bool, next check) check {
	return func(ok bool, name string, value any, want string) {
		failed[name] = failed[name] || !ok
		next(ok, name, value, want)
	}
}

// unlessFailed says nothing of what a route or upstream has from the settings at large,
// and was said of them.
func unlessFailed(failed map[string]bool, own Origin, next check) check {
	return func(ok bool, name string, value any, want string) {
		if _, set := own[name]; set || !failed[name] {
			next(ok, name, value, want)
		}
	}
}

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
			place += ": " + keyOf(name)
		}
		if q, ok := value.(quoted); ok {
			want += q.mend()
		}
		*errs = append(*errs, fmt.Errorf("%s: %v cannot be used: want %s", place, value, want))
	}
}

// errPrefix is what ParsePrefixes wants.
var errPrefix = errors.New("want an address, or a network such as 10.0.0.0/8")

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
	return ok && slices.Contains([]string{"embedded", "redis", "rediss", "unix", "postgres", "postgresql"}, scheme)
}

func isSchema(s string) bool {
	return s != "" && len(s) <= 40 && !strings.HasPrefix(s, "pg_") && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_'
	})
}
