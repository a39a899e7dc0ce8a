package proxy_test

import (
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// keyedRoutes is a proxy that wants keys at /pay, below it, and at a host; where
// ambiguous targets are allowed, too, if ambiguous says so.
func keyedRoutes(t *testing.T, ambiguous bool) (*rig, *recorder) {
	t.Helper()
	b := newRecorder(t, okay)
	return newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) {
		strict := c.Rules
		strict.RequireKey, c.AllowAmbiguous = true, ambiguous
		strict.AllowAmbiguous = ambiguous
		c.Routes = []proxy.Route{
			{Name: "pay", Match: proxy.Match{Path: "/pay"}, Rules: strict},
			{Name: "below", Match: proxy.Match{Path: "/pay/*"}, Rules: strict},
			{Name: "host", Match: proxy.Match{Host: "pay.test"}, Rules: strict},
		}
	}), b
}

func without(target, host string) string {
	return "POST " + target + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
}

// A request without a key does not get to where one is required, however its target
// or its host is spelled: each of these is /pay, or what is below it, for some backend.
func TestSpellingsThatWouldAvoidARoute(t *testing.T) {
	t.Parallel()
	r, b := keyedRoutes(t, false)
	for _, target := range []string{
		"/pay", "/pay/", "/pay?a", "/pay#x", "/pay#", "/#/../pay", "/pay?a#x", "/pay/..%2fpublic", "/pay/..%2Fpublic", "/pay%2f..%2fpublic",
		"/pay/%2e%2e%2fpublic", "/pay/..%5cpublic", "/pay/..\\public", "/public/..\\pay", "/public%5c..%5cpay", "/public/../pay", "/public/%2e%2e/pay",
		"/public/.%2e/pay", "/./pay", "/%2e/pay", "//pay", "//x/../pay", "/public//../pay", "/pay/.", "/pay/..", "/pay/../pay", "/%70%61%79", "/p%61y",
		"/%2570ay", "/pay;a=b", "/;a/pay", "/pay;/x", "/pay%00", "/pay%3b", "/pay%0d%0a", "/pay%", "/pay%1", "/pay%gg", "http://x/pay#x", "http://x//pay",
		"HTTP://x/pay", "http://x/public/../pay",
	} {
		if got := status(r.exchange(without(target, "x"))); got != "400" {
			t.Errorf("%s: %s, want 400", target, got)
		}
	}
	for _, host := range []string{
		"pay.test", "pay.test.", "PAY.TEST.", "pay.test:80", "pay.test.:80", "pay.test.:443", "pay.test:8080", "pay.test:", "pay.test.:", "pay.test..",
		" pay.test. ", "\tpay.test",
	} {
		if got := status(r.exchange(without("/", host))); got != "400" {
			t.Errorf("Host %q: %s, want 400", host, got)
		}
	}
	for _, target := range []string{"http://pay.test./", "http://pay.test.:80/x", "http://PAY.test"} {
		host, _, _ := strings.Cut(strings.TrimPrefix(target, "http://"), "/")
		if got := status(r.exchange(without(target, host))); got != "400" {
			t.Errorf("%s: %s, want 400", target, got)
		}
		if got := status(r.exchange("POST " + target + " HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")); got != "400" {
			t.Errorf("%s, HTTP/1.0: %s, want 400", target, got)
		}
	}
	if all := b.requests(); len(all) > 0 {
		t.Errorf("the backend got %q", all)
	}
}

// What is no spelling of it gets through, as it was written.
func TestTargetsArriveAsWritten(t *testing.T) {
	t.Parallel()
	for ambiguous, targets := range map[bool][]string{
		false: {"/", "/payment", "/Pay", "/x/pay", "/x?a=/../pay;%2f\\", "/%20pay", "/a.b/..c", "/pay..", "/%7Euser", "/x/"},
		true:  {"/x/..%2fpublic", "/x//y", "/x;y=1/z", "/a%2Fb", `/a\b`},
	} {
		r, b := keyedRoutes(t, ambiguous)
		for _, target := range targets {
			if got := status(r.exchange(without(target, "x"))); got != "200" {
				t.Errorf("%s: %s, want 200", target, got)
			}
			if got, _, _ := strings.Cut(b.last(), "\r\n"); got != "POST "+target+" HTTP/1.1" {
				t.Errorf("%s: the backend got %q", target, got)
			}
		}
	}
}

// Where ambiguous targets are allowed, what decodes to a route's path is still of it.
func TestAllowedTargetsHaveTheirRoute(t *testing.T) {
	t.Parallel()
	r, b := keyedRoutes(t, true)
	for _, target := range []string{"/p%61y", "/public/../pay", "/public/%2e%2e/pay", "//pay", "/./pay", "/pay//x", "/pay/%2e", "/pay/%41%2fb"} {
		if got := status(r.exchange(without(target, "x"))); got != "400" {
			t.Errorf("%s: %s, want 400", target, got)
		}
	}
	if all := b.requests(); len(all) > 0 {
		t.Errorf("the backend got %q", all)
	}
}

// A key is required of what changes something, and of nothing else.
func TestSafeMethodsNeedNoKey(t *testing.T) {
	t.Parallel()
	r, b := keyedRoutes(t, false)
	for i, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE"} {
		if got := status(r.exchange(method + " /pay HTTP/1.1\r\nHost: pay.test\r\nConnection: close\r\n\r\n")); got != "200" {
			t.Errorf("%s: %s, want 200", method, got)
		}
		if all := b.requests(); len(all) != i+1 || !strings.HasPrefix(all[i], method+" /pay ") {
			t.Errorf("%s: the backend got %q", method, all)
		}
	}
	n := len(b.requests())
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "get", "Options", "PROPFIND", "X"} {
		if got := status(r.exchange(method + " /pay HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")); got != "400" {
			t.Errorf("%s: %s, want 400", method, got)
		}
	}
	if all := b.requests(); len(all) != n {
		t.Errorf("the backend got %q", all[n:])
	}
}
