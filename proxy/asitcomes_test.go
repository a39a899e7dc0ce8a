package proxy_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A response that is passed on reaches its client as it comes, whether its length is known or
// not: bytes that the backend has sent wait for no others.
func TestBytesWaitForNoOthers(t *testing.T) {
	t.Parallel()
	const key = "Idempotency-Key: k\r\n"
	for name, c := range map[string]struct {
		fields string
		length int
		change func(*proxy.Config)
	}{
		"without a key":      {"", 70_000, func(*proxy.Config) {}},
		"HTTP/1.0":           {"Connection: keep-alive\r\n", 70_000, func(*proxy.Config) {}},
		"early hints":        {"", 70_000, func(c *proxy.Config) { c.EarlyHints = true }},
		"a stream":           {key, 70_000, func(c *proxy.Config) { c.Stream = true }},
		"too large to keep":  {key, 70_000, func(c *proxy.Config) { c.MaxResponseBody = 1000 }},
		"in the background":  {key + preferAsync + ", wait=60\r\n", 70_000, func(c *proxy.Config) { c.RespondAsync, c.MaxWait, c.MaxResponseBody = true, time.Minute, 1000 }},
		"without, observed":  {"", 70_000, func(c *proxy.Config) { c.Observe = true }},
		"keyed but observed": {key, 70_000, func(c *proxy.Config) { c.Observe = true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			say := make(chan string)
			stop := sync.OnceFunc(func() { close(say) })
			r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
				if q.URL.Path == "/after" {
					backendtest.OK(conn, q)
					return
				}
				for said := range say {
					conn.Raw(said)
				}
			}, c.change)
			t.Cleanup(stop) // before the backend's, which waits
			conn, br := dial(t, r.addr)
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute)) // else one that waits for others waits for ever
			proto := "1.1"
			if name == "HTTP/1.0" {
				proto = "1.0"
			}
			send(t, conn, "POST / HTTP/"+proto+"\r\nHost: a\r\n"+c.fields+"Content-Length: 1\r\n\r\nx")
			say <- fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", c.length)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			left := c.length
			for i := range 20 { // a client that has a word asks for the next one
				word := fmt.Sprintf("this is word %d;", i)
				say <- word
				readExactly(t, resp.Body, word)
				left -= len(word)
			}
			say <- strings.Repeat("x", left)
			stop()
			if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(left) {
				t.Errorf("%d bytes of %d more, %v", n, left, err)
			}
			send(t, conn, "GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			if _, err := http.ReadResponse(br, nil); proto == "1.1" && errors.Is(err, io.EOF) {
				t.Error("the connection was not kept")
			}
		})
	}
}

// What had come of a response that breaks off has reached its client.
func TestWhatCameBeforeACut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key    string
		change func(*proxy.Config)
	}{
		"without a key":     {"", func(*proxy.Config) {}},
		"a stream":          {"k", func(c *proxy.Config) { c.Stream = true }},
		"too large to keep": {"k", func(c *proxy.Config) { c.MaxResponseBody = 1000 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
				c.Raw("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\nas far as this")
				_ = c.Close()
			}, c.change)
			conn, br := dial(t, r.addr)
			send(t, conn, "POST / HTTP/1.1\r\nHost: a\r\n"+idempotencyKey(c.key)+"Content-Length: 1\r\n\r\nx")
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || string(got) != "as far as this" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
