package proxy_test

import (
	"net/http"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A body that may not be there (RFC 9112 section 6.3) can come late, once the connection is used for
// the next request, and would be read as that one's response. So a connection on which one was
// announced is not used again. A response without a body costs nothing.
func TestBodiesThatMayNotBe(t *testing.T) {
	t.Parallel()
	const length = "Content-Length: 10\r\n"
	for name, c := range map[string]struct {
		method, head string
		conns        int
	}{
		"204 with a length":      {http.MethodPost, "HTTP/1.1 204 No Content\r\n" + length, 2},
		"204 in chunks":          {http.MethodPost, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n", 2},
		"304 with a length":      {http.MethodPost, "HTTP/1.1 304 Not Modified\r\n" + length, 2},
		"HEAD with a length":     {http.MethodHead, "HTTP/1.1 200 OK\r\n" + length, 2},
		"204":                    {http.MethodPost, "HTTP/1.1 204 No Content\r\n", 1},
		"204 with a length of 0": {http.MethodPost, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", 1},
		"304":                    {http.MethodPost, "HTTP/1.1 304 Not Modified\r\n", 1},
		"POST with a length":     {http.MethodPost, "HTTP/1.1 200 OK\r\n" + length, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
				if q.URL.Path != "/odd" {
					backendtest.OK(conn, q)
					return
				}
				conn.Raw(c.head + "\r\n")
				if name == "POST with a length" {
					conn.Raw("0123456789")
				}
			})
			r.do(c.method, "/odd", "odd", "")
			if a := r.post("next", "a"); a.StatusCode != http.StatusOK || a.body != "execution 1" {
				t.Errorf("the next request got %d %q", a.StatusCode, a.body)
			}
			if n := r.backend.Conns(); n != c.conns {
				t.Errorf("%d connections, want %d", n, c.conns)
			}
		})
	}
}

// What a backend sends while nobody uses its connection is nobody's response either, although
// nothing announced it: the connection is looked at before it is used.
func TestBytesBetweenTwoRequests(t *testing.T) {
	t.Parallel()
	conns := make(chan backendtest.Conn, 2)
	r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
		backendtest.OK(conn, q)
		conns <- conn
	})
	r.post("first", "a")
	(<-conns).Raw("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
	if a := r.post("next", "a"); a.body != "execution 1" {
		t.Errorf("the next request got %d %q", a.StatusCode, a.body)
	}
	if n := r.backend.Conns(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}
