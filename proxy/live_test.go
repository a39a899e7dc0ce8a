package proxy_test

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/upstream"
)

// Reloading dismisses the upstreams that are gone or changed, and keeps the
// others with their connections.
func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	t.Parallel()
	a, b := backendtest.Start(t, backendtest.OK), backendtest.Start(t, backendtest.OK)
	var gone []string
	var first proxy.Config
	r := newRig(t, backendtest.OK, func(c *proxy.Config) {
		c.Upstreams = []upstream.Config{{Name: "a", Backends: []string{a.URL()}}, {Name: "b", Backends: []string{b.URL()}}}
		rules := c.Rules
		rules.Upstream = "a"
		c.Routes = []proxy.Route{{Name: "to-a", Match: proxy.Match{Path: "/a"}, Rules: rules}}
		c.Trace.BackendGone = func(_, backend string) { gone = append(gone, backend) }
		first = *c
	})
	if got := r.do("GET", "/a", "", ""); got.StatusCode != 200 {
		t.Fatal(got.body)
	}
	next := first
	next.Upstreams = slices.Clone(first.Upstreams)
	next.Upstreams[1].MaxConns = 7
	if err := r.server.Reload(next); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(gone, []string{b.URL()}) {
		t.Errorf("gone: %v, want only the one that changed", gone)
	}
	r.do("GET", "/a", "", "")
	if n := a.Conns(); n != 1 {
		t.Errorf("%d connections to the one that did not change, want 1", n)
	}
	for what, change := range map[string]func(*proxy.Config){
		"a route to nowhere": func(c *proxy.Config) { c.Upstreams = nil },
		"one of them twice":  func(c *proxy.Config) { c.Upstreams = append(slices.Clone(c.Upstreams), c.Upstreams[0]) },
		"one without a name": func(c *proxy.Config) { c.Upstreams = append(slices.Clone(c.Upstreams), c.Upstream) },
		"no backend":         func(c *proxy.Config) { c.Upstream.Backends = nil },
	} {
		bad := next
		change(&bad)
		if err := r.server.Reload(bad); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	r.do("GET", "/a", "", "")
	if n := a.Conns(); n != 1 || len(gone) != 1 {
		t.Errorf("what was refused changed something: %d connections, %v gone", n, gone)
	}
}

// Who is not trusted any more is not believed any more.
func TestTrustIsTakenBack(t *testing.T) {
	t.Parallel()
	var seen atomic.Pointer[string]
	var first proxy.Config
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		from := q.Header.Get("X-Forwarded-For")
		seen.Store(&from)
		backendtest.OK(c, q)
	}, func(c *proxy.Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		first = *c
	})
	for _, trusted := range []bool{true, false, true} {
		next := first
		if !trusted {
			next.TrustedProxies = nil
		}
		if err := r.server.Reload(next); err != nil {
			t.Fatal(err)
		}
		r.do("GET", "/", "", "", "X-Forwarded-For: 192.0.2.7")
		if want := map[bool]string{true: "192.0.2.7, 127.0.0.1", false: "127.0.0.1"}[trusted]; *seen.Load() != want {
			t.Errorf("trusted %v: the backend saw %q, want %q", trusted, *seen.Load(), want)
		}
	}
}
