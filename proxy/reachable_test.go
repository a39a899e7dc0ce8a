package proxy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
)

// A route that no request can take is refused, with what to write instead; and what is
// to be written is taken by requests.
func TestRoutesThatNoRequestTakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ host, path, write, target string }{
		{"", "/p%61y/*", "/pay/*", "/pay/1"},
		{"", "/caf%C3%A9", "/café", "/caf%C3%A9"},
		{"", "/a%20b", "/a b", "/a%20b"},
		{"", "/a//b", "/a/b", "/a/b"},
		{"", "//a", "/a", "/a"},
		{"", "/a//*", "/a/*", "/a/x"},
		{"", "/a/../b", "/b", "/b"},
		{"", "/a/./b", "/a/b", "/a/b"},
		{"", "/a/.", "/a/", "/a/"},
		{"", "/a/..", "/", "/"},
		{"", "/a/{id}/../b/*", "/a/b/*", "/a/b/c"},
		{"", "/a%2fb", "/a/b", "/a/b"},
		{"", "/{id}/%7euser", "/{id}/~user", "/1/~user"},
		{"api.test:8080", "", "api.test", "/"},
		{"*.test:443", "", "*.test", "/"},
		{"[::1]:80", "", "[::1]", "/"},
		{"api.test.:80", "", "api.test", "/"},
		{"::1", "", "[::1]", "/"},
	} {
		named := func(host, path string) []proxy.Route {
			return []proxy.Route{{Name: "r", Match: proxy.Match{Host: host, Path: path}}}
		}
		err := proxy.SortRoutes(named(c.host, c.path))
		if !errors.Is(err, proxy.ErrRoute) || !strings.Contains(err.Error(), `write "`+c.write+`"`) {
			t.Errorf("%s%s: %v, want %s", c.host, c.path, err, c.write)
		}
		host, path, asked := c.host, c.write, "x"
		if c.host != "" {
			host, path, asked = c.write, "", strings.Replace(c.write, "*", "a", 1)+":8080"
		}
		routes := named(host, path)
		if err := proxy.SortRoutes(routes); err != nil {
			t.Errorf("%s is to be written, and then: %v", c.write, err)
		} else if i, err := proxy.RouteOf(routes, &proxy.Rules{}, "GET", asked, c.target); i != 0 || err != nil {
			t.Errorf("%s is to be written, and %s%s takes %d: %v", c.write, asked, c.target, i, err)
		}
	}
	for _, m := range []proxy.Match{
		{Path: `/a\b`},
		{Path: "/a;b/*"},
		{Path: "/100%"},
		{Path: "/a\x01"},
		{Host: "bücher.test"},
		{Host: "a..test"},
		{Host: ".test"},
		{Host: "*."},
		{Host: "."},
		{Host: "a_b@c"},
		{Methods: []string{"PO ST"}},
		{Methods: []string{"CONNECT"}},
		{Methods: []string{"GET", "PÖST"}},
	} {
		if err := proxy.SortRoutes([]proxy.Route{{Name: "r", Match: m}}); !errors.Is(err, proxy.ErrRoute) {
			t.Errorf("%+v is taken: %v", m, err)
		}
	}
}

// Where ambiguous targets are allowed, a route may be for one.
func TestRoutesOfAmbiguousTargets(t *testing.T) {
	t.Parallel()
	for path, target := range map[string]string{`/a\b`: `/a%5cb`, "/a;b/*": "/a;b/c", "/100%": "/100%25", "/a\x01": "/a%01"} {
		routes := []proxy.Route{{Match: proxy.Match{Path: path}, Rules: proxy.Rules{AllowAmbiguous: true}}}
		if err := proxy.SortRoutes(routes); err != nil {
			t.Errorf("%q: %v", path, err)
		} else if i, err := proxy.RouteOf(routes, &proxy.Rules{}, "GET", "x", target); i != 0 || err != nil {
			t.Errorf("%q: %s takes %d: %v", path, target, i, err)
		}
	}
}

// A proxy goes on from the plan of an earlier release, which took such routes.
func TestPlansWithRoutesThatNoRequestTakes(t *testing.T) {
	t.Parallel()
	plan, err := proxy.PlanOf(&proxy.Config{Routes: []proxy.Route{{Name: "r", Match: proxy.Match{Host: "a.test", Path: "/pay/*"}}}})
	if err != nil {
		t.Fatal(err)
	}
	before := strings.NewReplacer("/pay/*", "/p%61y//*", "a.test", "a.test:80").Replace(plan.Text())
	if _, err := proxy.ParsePlan(before); err != nil || before == plan.Text() {
		t.Errorf("%s: %v", before, err)
	}
}
