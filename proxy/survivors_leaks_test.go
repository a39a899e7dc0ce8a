package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A response without an end, whose client has left, is given up after so many bytes:
// the backend's connection is closed, its place is another one's, and the key is as
// ambiguous as after any cut.
func TestEndlessResponseHasABoundOfBytes(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]idem.Ambiguity{"hold": idem.AmbiguousHold, "release": idem.AmbiguousRelease} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			piece := fmt.Sprintf("%x\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20))
			gone := make(chan int, 1)
			origin := rawBackend(t, func(c net.Conn, br *bufio.Reader) {
				q, err := http.ReadRequest(br)
				if err != nil || q.URL.Path != "/endless" {
					okayFrom(c, br, q, err)
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				sent := 0
				for n := 0; err == nil; sent += n {
					n, err = io.WriteString(c, piece)
				}
				gone <- sent
			})
			r := newRig(t, backendtest.OK, to(origin), func(c *proxy.Config) {
				c.Policy.OnAmbiguous, c.MaxResponseBody = policy, 1<<10
				c.Upstream.MaxConns, c.Upstream.MaxQueue, c.MaxPerKey = 1, 1, 1
			})
			c, br := dial(t, r.addr)
			send(t, c, "POST /endless HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 1\r\n\r\nx")
			if _, err := http.ReadResponse(br, nil); err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			if n := <-gone; n > 400<<20 { // sockets have room for some, besides
				t.Errorf("%d bytes were read for nobody", n)
			}
			r.until("its place is free", func() bool { return r.server.Status()[0].Active == 0 })
			record, err := r.store.Get(t.Context(), mustKey("k"))
			if policy == idem.AmbiguousHold && (err != nil || record.State != idem.Unknown) {
				t.Errorf("the key: %+v, %v, want it unknown", record, err)
			}
			if policy == idem.AmbiguousRelease && !errors.Is(err, idem.ErrNotFound) && record.State == idem.InProgress {
				t.Errorf("the key: %+v, %v, want it free", record, err)
			}
			if got := status(r.exchange(ofKeyAndClose("other"))); got != "200" {
				t.Errorf("another key: %s, want 200", got)
			}
		})
	}
}

// An upgrade whose client resets before it has been answered leaves no connection of
// the backend behind.
func TestUpgradeOfAClientThatResets(t *testing.T) {
	t.Parallel()
	for name, framing := range map[string]string{"at once": "", "with bytes ahead": "early bytes"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked, proceed, gone := make(chan struct{}), make(chan struct{}), make(chan string)
			origin := rawBackend(t, func(c net.Conn, br *bufio.Reader) {
				q, err := http.ReadRequest(br)
				if err != nil || q.URL.Path != "/tunnel" {
					okayFrom(c, br, q, err)
					return
				}
				asked <- struct{}{}
				<-proceed
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
				_ = c.SetReadDeadline(time.Now().Add(patience))
				rest, err := io.ReadAll(br) // until the proxy closes
				if isTimeout(err) {
					rest = append(rest, "and is still open"...)
				}
				gone <- strings.TrimPrefix(string(rest), framing)
			})
			r := newRig(t, backendtest.OK, to(origin), func(c *proxy.Config) { c.Upstream.MaxConns = 1 })
			c, _ := dial(t, r.addr)
			send(t, c, "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"+framing)
			<-asked
			_ = c.(*net.TCPConn).SetLinger(0) //nolint:forcetypeassert // we dialled TCP
			_ = c.Close()
			proceed <- struct{}{}
			r.until("no exchange is left", func() bool { return r.server.Status()[0].Active == 0 })
			if got := status(r.exchange(ofKeyAndClose("k"))); got != "200" {
				t.Errorf("another request: %s", got)
			}
			if rest := <-gone; rest != "" {
				t.Errorf("the backend's connection got %q", rest)
			}
		})
	}
}
