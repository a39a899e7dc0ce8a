package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// checkTogether is about rules that need something of the settings at large.
func (c *Config) checkTogether(r *Rules, check check) {
	if len(r.Bind) > 0 || c.TLSClientCA != "" {
		return
	}
	const known = "headers in bind, or tls-client-ca: without, nobody says who asks, and "
	check(!r.RequireBind, "require-bind", true, known+"every request with a key is refused")
	check(r.DeriveKey == 0, "derive-key", r.DeriveKey, known+"no key is derived")
	check(r.DuplicateWindow == 0, "duplicate-window", r.DuplicateWindow, known+"no payload is remembered")
}

// checkPlaces is about addresses that get in each other's way.
func (c *Config) checkPlaces(check check) {
	for i, at := range c.Listen {
		twice := slices.ContainsFunc(c.Listen[:i], func(other string) bool { return samePlace(other, at) })
		check(!twice || c.ReusePort, "listen", plain(strings.Join(c.Listen, ",")), "each address once")
		check(!samePlace(c.Admin, at), "admin", plain(c.Admin), "another address than listen has")
	}
}

// checkLoop is about backends that are this proxy.
func (c *Config) checkLoop(u *Upstream, check check) {
	for _, backend := range u.Backends {
		at := backendPlace(backend)
		if i := slices.IndexFunc(c.Listen, func(own string) bool { return samePlace(own, at) }); i >= 0 {
			check(false, "backend", origins().given(u.Backends), "other places than "+c.Listen[i]+
				", where this proxy listens: it would forward requests to itself, over and over")
			return
		}
		check(!samePlace(c.Admin, at), "backend", origins().given(u.Backends), "other places than "+c.Admin+
			", where operators ask this proxy (admin): clients would pass for operators")
	}
}

// backendPlace is where an origin is connected to, as listen spells it.
func backendPlace(origin string) string {
	if strings.HasPrefix(origin, "unix:") {
		return origin
	}
	u, err := url.Parse(origin)
	if err != nil {
		return ""
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// samePlace says whether who connects to at surely comes to who listens on own. Names
// are not looked up.
func samePlace(own, at string) bool {
	if strings.HasPrefix(own, "unix:") || strings.HasPrefix(at, "unix:") {
		return own == at
	}
	ownHost, ownPort, err1 := net.SplitHostPort(own)
	host, port, err2 := net.SplitHostPort(at)
	if err1 != nil || err2 != nil || portOf(ownPort) != portOf(port) || portOf(port) == 0 {
		return false
	}
	byName := ownHost == "localhost" || host == "localhost"
	switch {
	case isAnyHost(ownHost):
		return isAnyHost(host) || isThisMachine(host)
	case isAnyHost(host):
		return isThisMachine(ownHost)
	}
	return strings.EqualFold(ownHost, host) || byName && isThisMachine(ownHost) && isThisMachine(host)
}

func portOf(port string) int {
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return 0
	}
	return n
}

func isAnyHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

func isThisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// checkNames is about what logs and metrics call routes.
func (c *Config) checkNames(i int, check check) {
	r := &c.Routes[i]
	_, set := r.origin["name"]
	check(!set || r.Name != "", "name", plain(r.Name), "a name, or none for one that is made")
	check(r.Name != largeName, "name", plain(r.Name), fmt.Sprintf("another: metrics call the settings at large %s", largeName))
	other := slices.ContainsFunc(c.Routes[:i], func(o Route) bool { return o.Name == r.Name })
	check(r.Name == "" || !other, "name", plain(r.Name), "one that no other route has")
}

// largeName is what metrics call the rules of what no route takes.
const largeName = "default"
