package proxy_test

import (
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A trailer that may not be one is dropped, announced or not, and the response goes on
// without it.
func TestForbiddenTrailers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ announced, trailers string }{
		{"X-Sum, Set-Cookie", "X-Sum: 1\r\nSet-Cookie: a=b\r\n"},
		{"Set-Cookie, X-Sum", "Set-Cookie: a=b\r\nX-Sum: 1\r\n"},
		{"X-Sum", "X-Sum: 1\r\nSet-Cookie: a=b\r\n"},
		{"X-Sum, Content-Length, Location, X-Forwarded-For", "Content-Length: 7\r\nX-Sum: 1\r\nLocation: /\r\nX-Forwarded-For: x\r\n"},
		{"X-Sum, , Host", "X-Sum: 1\r\n"},
	} {
		for _, body := range []string{"hi", strings.Repeat("x", 100_000)} {
			r := newRig(t, func(conn backendtest.Conn, _ *backendtest.Request) {
				conn.Raw("HTTP/1.1 200 OK\r\nTrailer: " + c.announced + "\r\nTransfer-Encoding: chunked\r\n\r\n")
				conn.Raw(hex(len(body)) + "\r\n" + body + "\r\n0\r\n" + c.trailers + "\r\n")
			})
			for _, key := range []string{"", "k"} {
				a, err := r.try("POST", "/", key, "x")
				if err != nil || a.StatusCode != 200 || a.body != body {
					t.Errorf("%v, key %q: %v, %d, %d bytes", c, key, err, a.StatusCode, len(a.body))
					continue
				}
				if got := a.Trailer.Get("X-Sum"); (got == "1") != (key == "") || len(a.Trailer) > 1 || a.Header.Get("Set-Cookie") != "" {
					t.Errorf("%v, key %q: trailers %v, header %v", c, key, a.Trailer, a.Header)
				}
			}
		}
	}
}

func hex(n int) string {
	const digits = "0123456789abcdef"
	if n < 16 {
		return digits[n : n+1]
	}
	return hex(n/16) + digits[n%16:n%16+1]
}
