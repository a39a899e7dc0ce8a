package proxy_test

import (
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// What a response without a body says of the length that there would be is repeated,
// and nothing is said where the backend said nothing.
func TestLengthsWithoutABody(t *testing.T) {
	t.Parallel()
	const counted = "Content-Length: 1234\r\n"
	for name, c := range map[string]struct{ method, response, want string }{
		"HEAD":              {"HEAD", "HTTP/1.1 200 OK\r\n" + counted + "\r\n", "1234"},
		"HEAD, no length":   {"HEAD", "HTTP/1.1 200 OK\r\nX: y\r\n\r\n", ""},
		"HEAD, chunked":     {"HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ""},
		"304":               {"GET", "HTTP/1.1 304 Not Modified\r\n" + counted + "\r\n", "1234"},
		"304, no length":    {"GET", "HTTP/1.1 304 Not Modified\r\nX: y\r\n\r\n", ""},
		"304 to HEAD":       {"HEAD", "HTTP/1.1 304 Not Modified\r\n" + counted + "\r\n", "1234"},
		"204":               {"POST", "HTTP/1.1 204 No Content\r\n\r\n", ""},
		"204 with a length": {"POST", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", ""},
		"empty":             {"POST", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(conn backendtest.Conn, _ *backendtest.Request) { conn.Raw(c.response) })
			for _, key := range []string{"", "k", "k"} {
				header := ""
				if key != "" {
					header = "Idempotency-Key: " + key + "\r\n"
				}
				a := r.raw(c.method + " / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + "\r\n")
				if got := strings.Join(a.Header.Values("Content-Length"), ","); got != c.want || a.body != "" {
					t.Errorf("key %q, replayed %q: length %q, want %q, body %q", key, a.Header.Get("Idempotent-Replayed"), got, c.want, a.body)
				}
				if a.Header.Get("Transfer-Encoding") != "" {
					t.Errorf("%v", a.Header)
				}
			}
			r.executions("k", 1)
		})
	}
}
