package proxy_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// guarded is a proxy with a path and a host that need a key, and a path whose
// backend is said to read all targets in one way.
func guarded(t *testing.T) *rig {
	t.Helper()
	return newRig(t, backendtest.OK, func(c *proxy.Config) {
		strict, loose := c.Rules, c.Rules
		strict.RequireKey, loose.AllowAmbiguous = true, true
		c.Routes = []proxy.Route{
			{Name: "pay", Match: proxy.Match{Path: "/pay/*"}, Rules: strict},
			{Name: "host", Match: proxy.Match{Host: "pay.test"}, Rules: strict},
			{Name: "objects", Match: proxy.Match{Path: "/objects/*"}, Rules: loose},
		}
	})
}

// target sends a request with a target and a host spelled as they are.
func (r *rig) target(method, host, target, more string) answer {
	r.t.Helper()
	return r.raw(method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 0\r\nConnection: close\r\n" + more + "\r\n")
}

// raw sends a request as it is written.
func (r *rig) raw(text string) answer {
	r.t.Helper()
	conn, br := dial(r.t, r.addr)
	send(r.t, conn, text)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	return answer{resp, string(body)}
}

// Nobody gets around a route by a target that the backend reads in another way
// than this proxy does.
func TestAmbiguousTargets(t *testing.T) {
	t.Parallel()
	r := guarded(t)
	for _, target := range []string{
		"/pay/..%2fpublic", "/pay/..%2Fpublic", "/x%5cpay", `/x\..\pay`, "/public/../pay", "/./pay", "/pay/%2e%2e/public", "/x/.%2E/pay",
		"/x/..", "/x/.", "//pay", "/x//pay", "/pay;x=1", "/x/..;/pay", "/pay%3bx", "/pay%00", "/pay%0a", "/pay%7f", "/%2570ay",
		"/%25%37%30ay", "/pay%", "/pay%2", "/pay%zz", "/pay%3fx", "/pay%23x", "http://x//pay",
	} {
		a := r.target("POST", "x", target, "")
		r.isProblem(a, 400, "target-ambiguous")
		a = r.target("GET", "x", target, "Idempotency-Key: k\r\n")
		r.isProblem(a, 400, "target-ambiguous")
	}
	for _, target := range []string{"/pay?a=..%2f..;//", "/%70ay", "/p%61y/x", "/pay/"} {
		r.isProblem(r.target("POST", "x", target, ""), 400, "key-missing")
	}
	for _, target := range []string{"/pay#x", "/#/pay", "/pay?x#y", "http://x/pay#x"} {
		r.isProblem(r.target("POST", "x", target, ""), 400, "request-invalid")
	}
	r.executions("", 0)
	for _, target := range []string{
		"/.well-known/x", "/a.b/..c/d..", "/%41%20%2e%2ejson", "/a%c3%a9", "/objects/a%2fb", "/objects/a;v=1", "/objects//a", "/?%2f", "/a?//",
	} {
		if a := r.target("POST", "x", target, ""); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", target, a.StatusCode, a.body)
		}
	}
}

// What a backend reads as one host is one host for routes.
func TestHostSpellings(t *testing.T) {
	t.Parallel()
	r := guarded(t)
	for _, host := range []string{"pay.test", "PAY.test", "pay.test.", "pay.test:80", "pay.test.:80", "pay.test.:8080", "pay.test:"} {
		r.isProblem(r.target("POST", host, "/", ""), 400, "key-missing")
	}
	r.isProblem(r.target("POST", "x", "/", "X-Y: z\r\nHost: pay.test\r\n"), 400, "request-invalid")
	for _, host := range []string{
		"pay.test..", "pay..test", ".pay.test", "pay.test:80:80", "pay.test:x", "pay.test:8080:", "[pay.test]", "pay.test]:80", "[::1]x", "[::1", "::1:x",
	} {
		r.isProblem(r.target("POST", host, "/", ""), 400, "request-invalid")
	}
	for _, authority := range []string{"pay.test:80:80", "pay.test:x", "[pay.test]"} { // with no Host field that would be looked at before
		r.isProblem(r.raw("POST http://"+authority+"/ HTTP/1.0\r\nContent-Length: 1\r\n\r\nx"), 400, "request-invalid")
	}
	r.isProblem(r.target("POST", "pay.test.", "http://pay.test./", ""), 400, "key-missing")
	r.isProblem(r.target("POST", "pay.test", "http://PAY.test", ""), 400, "key-missing")
	r.executions("", 0)
}

// Where no route has a path, nothing hangs on how one is spelled.
func TestTargetsWithoutRoutes(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) {
		c.Routes = []proxy.Route{{Name: "host", Match: proxy.Match{Host: "pay.test"}, Rules: c.Rules}}
	})
	for _, target := range []string{"/a%2fb", "/a//b", "/a;b", "/a/../b"} {
		if a := r.target("POST", "x", target, ""); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", target, a.StatusCode, a.body)
		}
	}
}

// A key is required of methods that change something. A browser cannot send one with
// a preflight.
func TestKeyIsRequiredOfUnsafeMethods(t *testing.T) {
	t.Parallel()
	r := guarded(t)
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE"} {
		if a := r.target(method, "x", "/pay", ""); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", method, a.StatusCode, a.body)
		}
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "get", "PURGE"} {
		r.isProblem(r.target(method, "x", "/pay", ""), 400, "key-missing")
	}
	for _, field := range []string{"X-HTTP-Method-Override: POST", "X-HTTP-Method: PUT", "x-method-override: DELETE"} {
		r.isProblem(r.target("GET", "x", "/pay", field+"\r\n"), 400, "key-missing")
	}
}

// Where keys count for some methods only, they count for a request that has the backend go by
// one of these: it is executed once, and a key is required of it.
func TestKeysCountForOverriddenMethods(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.KeyMethods, c.RequireKey = []string{"POST"}, true })
	for _, field := range []string{"X-HTTP-Method-Override: POST", "X-HTTP-Method: post", "x-method-override: POST"} {
		r.isProblem(r.do("GET", "/pay", "", "", field), 400, "key-missing")
		for n := range 2 {
			a := r.do("GET", "/pay", field, "", field)
			if replayed := a.Header.Get("Idempotent-Replayed") == "true"; a.StatusCode != 200 || replayed != (n > 0) {
				t.Errorf("%s, try %d: %d, replayed: %v", field, n, a.StatusCode, replayed)
			}
		}
	}
	if a := r.do("GET", "/pay", "", "", "X-HTTP-Method-Override: DELETE"); a.StatusCode != 200 {
		t.Errorf("of a method whose keys do not count: %d %s", a.StatusCode, a.body)
	}
	r.outcome(proxy.Executed, 3)
	r.outcome(proxy.ReplayedStore, 3)
	r.outcome(proxy.Passed, 1)
}
