package config

import (
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
	const known = "a header in bind, or tls-client-ca, with it: without them the proxy does not know the caller, so "
	check(!r.RequireBind, "require-bind", true, known+"it would refuse every request with a key")
	check(r.DeriveKey == 0, "derive-key", r.DeriveKey, known+"it would derive no key")
	check(r.DuplicateWindow == 0, "duplicate-window", r.DuplicateWindow, known+"it would remember no payload")
}

// checkPlaces is about addresses that get in each other's way.
func (c *Config) checkPlaces(check check) {
	for i, at := range c.Listen {
		twice := slices.ContainsFunc(c.Listen[:i], func(other string) bool { return samePlace(other, at) })
		check(!twice || c.ReusePort, "listen", plain(strings.Join(c.Listen, ",")), "each address only once")
		check(!samePlace(c.Admin, at), "admin", plain(c.Admin), "an address that is not in listen")
	}
}

// checkLoop is about backends that are this proxy.
func (c *Config) checkLoop(u *Upstream, check check) {
	for _, backend := range u.Backends {
		at := backendPlace(backend)
		if i := slices.IndexFunc(c.Listen, func(own string) bool { return samePlace(own, at) }); i >= 0 {
			check(false, "backend", origins().given(u.Backends), "no backend at "+c.Listen[i]+
				": this proxy listens there, and would forward requests to itself again and again")
			return
		}
		check(!samePlace(c.Admin, at), "backend", origins().given(u.Backends), "no backend at "+c.Admin+
			": that is the admin listener of this proxy, so clients could do what operators can")
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
	check(!set || r.Name != "", "name", plain(r.Name), "a name; without this line, the proxy makes one")
	check(r.Name != largeName, "name", plain(r.Name), "another name: in metrics, "+largeName+
		" stands for all requests that no route matches")
	other := slices.ContainsFunc(c.Routes[:i], func(o Route) bool { return o.Name == r.Name })
	check(r.Name == "" || !other, "name", plain(r.Name), "a name that no other route has")
}

// largeName is what metrics call the rules of what no route takes.
const largeName = "default"
