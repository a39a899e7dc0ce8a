package proxy_test

import (
	"fmt"
	"strings"
	"testing"
)

// Max-Forwards says how many more proxies a TRACE or OPTIONS may go through, and is
// nobody's business in other methods.
func TestMaxForwards(t *testing.T) {
	t.Parallel()
	r, seen := fieldRig(t)
	for _, c := range []struct{ method, value, want string }{
		{"TRACE", "3", "[2]"},
		{"OPTIONS", "1", "[0]"},
		{"OPTIONS", "007", "[6]"},
		{"GET", "3", "[3]"},
		{"POST", "0", "[0]"},
		{"OPTIONS", "99999999999999999999", "[9223372036854775806]"},
	} {
		if a := r.raw(c.method + " / HTTP/1.1\r\nHost: x\r\nMax-Forwards: " + c.value + "\r\n\r\n"); a.StatusCode != 200 {
			t.Errorf("%v: %d %s", c, a.StatusCode, a.body)
		}
		if got := fmt.Sprint(canonical(seen(), "Max-Forwards")); got != c.want {
			t.Errorf("%v: the backend sees %s", c, got)
		}
	}
	total := r.backend.Total()
	trace := r.raw("TRACE /a HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\nX-A: 1\r\nAuthorization: secret\r\nCookie: secret\r\n\r\n")
	if trace.StatusCode != 200 || trace.Header.Get("Content-Type") != "message/http" || !strings.HasPrefix(trace.body, "TRACE /a HTTP/1.1\r\nHost: x\r\n") ||
		!strings.Contains(trace.body, "X-A: 1\r\n") || strings.Contains(trace.body, "secret") {
		t.Errorf("TRACE: %d %v %q", trace.StatusCode, trace.Header, trace.body)
	}
	options := r.raw("OPTIONS * HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n")
	if options.StatusCode != 204 && options.StatusCode != 200 || options.body != "" || options.Header.Get("X-Request-Id") == "" {
		t.Errorf("OPTIONS: %d %v %q", options.StatusCode, options.Header, options.body)
	}
	for _, value := range []string{"x", "-1", "1, 2", ""} {
		r.isProblem(r.raw("OPTIONS / HTTP/1.1\r\nHost: x\r\nMax-Forwards: "+value+"\r\n\r\n"), 400, "request-invalid")
	}
	if n := r.backend.Total(); n != total {
		t.Errorf("%d of them reached the backend", n-total)
	}
}
