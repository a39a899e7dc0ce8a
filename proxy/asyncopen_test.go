package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A request that prefers respond-async and is forwarded without protection gets the
// backend's response as any other: its header before its body, and its trailers behind it.
func TestAsyncFailsOpen(t *testing.T) {
	t.Parallel()
	for name, prefer := range map[string]string{"at once": "", "in the background": preferAsync + "\r\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			headerSeen := make(chan struct{})
			r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
				c.Raw("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n")
				<-headerSeen
				c.Raw("2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n")
			}, func(c *proxy.Config) { c.FailOpen, c.RespondAsync = true, true })
			defer r.store.Sever()()
			conn, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute)) // that a header is held back ends the test
			if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\n"+prefer+"Content-Length: 1\r\n\r\nx"); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(conn)
			first, err := in.Peek(1)
			close(headerSeen)
			if err != nil || first[0] != 'H' {
				t.Fatal(err)
			}
			got, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(got.Body)
			if err != nil || got.StatusCode != http.StatusOK || string(body) != "ok" || got.Header.Get("Idempotency-Unprotected") != "true" {
				t.Errorf("%d %q %v: %v", got.StatusCode, body, got.Header, err)
			}
			if sum := got.Trailer.Values("X-Sum"); len(sum) != 1 || sum[0] != "7" {
				t.Errorf("trailers: %q", got.Trailer)
			}
		})
	}
}
