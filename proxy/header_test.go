package proxy_test

import (
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A header that is too large is a problem of its own, which docs/problems.md has.
func TestRequestHeaderTooLarge(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", "GET /" + strings.Repeat("x", 32<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		a := r.raw(text)
		r.isProblem(a, 431, "header-too-large")
		if a.Header.Get("X-Request-Id") == "" || !a.Close {
			t.Errorf("%v", a.Header)
		}
	}
}
