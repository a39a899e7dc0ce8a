package proxy_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// The most specific route decides, however the path is spelled.
func TestRoutes(t *testing.T) {
	t.Parallel()
	named := func(name, host, path string, methods ...string) proxy.Route {
		return proxy.Route{Name: name, Match: proxy.Match{Host: host, Path: path, Methods: methods}}
	}
	names := make(chan string, 1)
	r := newRig(t, answerOK, func(c *proxy.Config) {
		c.Trace.Done = func(q *proxy.Report) { names <- q.Route }
		c.Routes = []proxy.Route{
			named("any-post", "", "", "POST"), named("below", "", "/pay/*"), named("deeper", "", "/pay/cards/*"),
			named("exact", "", "/pay/cards/new"), named("exact-post", "", "/pay/cards/new", "POST"),
			named("wild-host", "*.example.com", ""), named("host", "api.example.com", ""), named("host-path", "api.example.com", "/pay/*"),
			named("any-user", "", "/users/{id}"), named("me", "", "/users/me"), named("orders", "", "/users/{id}/orders/*"),
			named("my-things", "", "/users/me/{thing}"), named("users", "", "/users/*"),
		}
	})
	for _, c := range []struct{ method, host, path, want string }{
		{"GET", "x", "/", ""},
		{"POST", "x", "/", "any-post"},
		{"GET", "x", "/pay", "below"},
		{"POST", "x", "/pay/", "below"},
		{"GET", "x", "/payments", ""},
		{"GET", "x", "/pay?x=/pay/cards/new", "below"},
		{"GET", "x", "/pay/cards/1", "deeper"},
		{"GET", "x", "/pay/cards/new", "exact"},
		{"POST", "x", "/pay/cards/new", "exact-post"},
		{"GET", "x", "/pay/cards/new/", "deeper"},
		{"GET", "x", "/%70ay/x", "below"},
		{"GET", "x", "/a/../pay/cards/./new", "exact"},
		{"GET", "x", "//pay//cards//new", "exact"},
		{"GET", "API.example.com:8080", "/", "host"},
		{"GET", "api.example.com", "/pay/cards/new", "host-path"},
		{"POST", "b.example.com", "/pay/cards/new", "wild-host"},
		{"GET", "example.com", "/", ""},
		{"GET", "x", "/users/7", "any-user"},
		{"GET", "x", "/users/%37", "any-user"},
		{"GET", "x", "/users/me", "me"},
		{"GET", "x", "/users/7/orders", "orders"},
		{"GET", "x", "/users/7/orders/1/2", "orders"},
		{"GET", "x", "/users/7/order", "users"},
		{"GET", "x", "/users/me/orders", "my-things"},
		{"GET", "x", "/users/me/orders/1", "orders"},
		{"GET", "x", "/users/", "users"},
		{"GET", "x", "/users", "users"},
		{"GET", "x", "/users//orders", "any-user"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+r.addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host, req.URL.Opaque = c.host, c.path
		if c.path[0] == '/' && len(c.path) > 1 && c.path[1] == '/' {
			req.URL.Opaque = "http://" + c.host + c.path
		}
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := <-names; got != c.want {
			t.Errorf("%s %s%s: route %q, want %q", c.method, c.host, c.path, got, c.want)
		}
	}
}

// A route's rules are its own.
func TestRouteRules(t *testing.T) {
	t.Parallel()
	r := newRig(t, answerOK, func(c *proxy.Config) {
		strict := c.Rules
		strict.RequireKey, strict.Policy.Retention = true, time.Hour
		c.Routes = []proxy.Route{{Name: "strict", Match: proxy.Match{Path: "/pay/*"}, Rules: strict}}
	})
	r.isProblem(r.do("POST", "/pay/x", "", "x"), 400, "key-missing")
	if a := r.do("POST", "/other", "", "x"); a.StatusCode != 200 {
		t.Errorf("elsewhere: %d", a.StatusCode)
	}
}

func TestRoutesThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, m := range map[string][]proxy.Match{
		"no slash":          {{Path: "pay"}},
		"star inside":       {{Path: "/a/*/b"}},
		"star in a name":    {{Path: "/a*"}},
		"query":             {{Path: "/a?b"}},
		"host":              {{Host: "a.*.com"}},
		"method":            {{Methods: []string{"post"}}},
		"half a segment":    {{Path: "/a/x{id}"}},
		"no name":           {{Path: "/a/{}"}},
		"an open brace":     {{Path: "/a/{id"}},
		"the same patterns": {{Path: "/a/{id}/*"}, {Path: "/a/{name}/*"}},
		"the same":          {{Path: "/a", Methods: []string{"GET", "POST"}}, {Path: "/a", Methods: []string{"POST"}}},
	} {
		var routes []proxy.Route
		for _, one := range m {
			routes = append(routes, proxy.Route{Name: "r", Match: one})
		}
		if err := proxy.SortRoutes(routes); !errors.Is(err, proxy.ErrRoute) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func answerOK(c backendtest.Conn, _ *backendtest.Request) { c.Answer(200, "ok") }
