package proxy_test

import (
	"crypto/tls"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A response that ends with its connection is whole only if TLS says that the connection was
// ended by the backend. Otherwise its end may be missing, and what is kept would be a half.
func TestEndOfATLSConnection(t *testing.T) {
	t.Parallel()
	b, over := tlsBackend(t, func(c backendtest.Conn, q *backendtest.Request) {
		switch q.URL.Path {
		case "/whole":
			c.Raw("HTTP/1.1 200 OK\r\n\r\nall of it")
			_ = c.Close() // with its alert
			return
		case "/length":
			c.Raw("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nall of it")
		case "/chunked":
			c.Raw("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nall of it\r\n0\r\n\r\n")
		default:
			c.Raw("HTTP/1.1 200 OK\r\n\r\nhalf of ")
		}
		_ = c.Conn.(*tls.Conn).NetConn().Close()
	})
	r := newRig(t, backendtest.OK, over, func(c *proxy.Config) { c.Policy.OnAmbiguous = idem.AmbiguousHold })
	for _, path := range []string{"/whole", "/length", "/chunked"} {
		for range 2 {
			if a := r.do("POST", path, path, "x"); a.StatusCode != 200 || a.body != "all of it" {
				t.Errorf("%s: %d %q", path, a.StatusCode, a.body)
			}
		}
	}
	for _, want := range []int{502, 409} {
		if a := r.do("POST", "/half", "half", "x"); a.StatusCode != want {
			t.Errorf("a half: %d %q, want %d", a.StatusCode, a.body, want)
		}
	}
	if n := b.Executions("half"); n != 1 {
		t.Errorf("%d executions", n)
	}
	if a, err := r.try("GET", "/half", "", ""); err == nil && a.StatusCode == 200 {
		t.Errorf("without a key: %d %q, as if it were whole", a.StatusCode, a.body)
	}
}
