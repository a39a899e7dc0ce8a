package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// rawBackend talks to each connection as the test says.
func rawBackend(t *testing.T, talk func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				talk(c, bufio.NewReader(c))
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

// okayFrom answers a request and all that follow it on its connection. A backend that
// closes a connection which it has not announced to close races with the next request.
func okayFrom(c net.Conn, br *bufio.Reader, q *http.Request, err error) {
	for ; err == nil; q, err = http.ReadRequest(br) {
		_, _ = io.Copy(io.Discard, q.Body)
		_, _ = io.WriteString(c, okay(q, ""))
	}
}

// to has a rig's requests go to an origin.
func to(origins ...string) func(*proxy.Config) {
	return func(c *proxy.Config) { c.Upstream.Backends = origins }
}

// chunkedEcho answers before it has read anything, and then with what it reads, as
// it comes.
func chunkedEcho(c net.Conn, br *bufio.Reader) {
	q, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
	buf := make([]byte, 32<<10)
	for {
		n, err := q.Body.Read(buf)
		if n > 0 {
			_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n", n, buf[:n])
		}
		if err != nil {
			break
		}
	}
	_, _ = io.WriteString(c, "0\r\n\r\n")
}

// A backend that answers while it reads, and a client that listens while it sends.
func TestBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, to(rawBackend(t, chunkedEcho)))
	body := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // 32 MiB: no buffers of sockets hold that
	for name, reader := range map[string]io.Reader{"length": bytes.NewReader(body), "chunked": io.MultiReader(bytes.NewReader(body))} {
		resp, err := r.client.Post("http://"+r.addr+"/echo", "text/plain", reader) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !bytes.Equal(got, body) {
			at := 0
			for at < min(len(got), len(body)) && got[at] == body[at] {
				at++
			}
			t.Errorf("%s: %d bytes of %d came back, the first other one at %d, %v, %.40q", name, len(got), len(body), at, err, got)
		}
	}
	if a := r.do("GET", "/after", "", ""); a.StatusCode != 200 {
		t.Errorf("the next request: %d", a.StatusCode)
	}
}

// Each side says something, and waits for the other's word.
func TestInteractiveExchange(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, to(rawBackend(t, chunkedEcho)))
	c, br := dial(t, r.addr)
	send(t, c, "POST /talk HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"one", "two", "three"} {
		send(t, c, fmt.Sprintf("%x\r\n%s\r\n", len(word), word))
		readExactly(t, resp.Body, word)
	}
	send(t, c, "0\r\n\r\n")
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v at the end", rest, err)
	}
}

// A client that breaks off in the middle of both ways leaves nothing behind.
func TestClientLeavesBothWays(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 1)
	r := newRig(t, backendtest.OK, to(rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		chunkedEcho(c, br)
		gone <- struct{}{}
	})))
	c, br := dial(t, r.addr)
	send(t, c, "POST /talk HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	readExactly(t, resp.Body, "one")
	_ = c.Close()
	<-gone
	r.until("no exchange is left", func() bool { return r.server.Status()[0].Active == 0 })
}

// An answer of its own to a request that it does not want to read, at once or in
// the middle, arrives whole; and the connection is not used again.
func TestEarlyAnswerToAnUpload(t *testing.T) {
	t.Parallel()
	page := strings.Repeat("too much. ", 20_000)
	var conns atomic.Int32
	origin := rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		conns.Add(1)
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n%s", len(page), page)
		_, _ = io.CopyN(io.Discard, br, 1<<20)
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, br) // until the proxy closes
	})
	r := newRig(t, backendtest.OK, to(origin))
	for range 3 {
		a := r.do("POST", "/", "", strings.Repeat("x", 4<<20))
		if a.StatusCode != 413 || a.body != page {
			t.Errorf("%d with %d bytes", a.StatusCode, len(a.body))
		}
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections for 3 broken exchanges", n)
	}
}

// Lines of a response's header that end in LF alone are taken, at once.
func TestBareLineFeedsOfABackend(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Raw("HTTP/1.1 200 OK\nContent-Length: 2\nX-A: 1\n\nok")
	})
	for _, key := range []string{"", "k", "k"} {
		a := r.do("POST", "/", key, "x")
		if a.StatusCode != 200 || a.body != "ok" || a.Header.Get("X-A") != "1" {
			t.Errorf("key %q: %d %q %v", key, a.StatusCode, a.body, a.Header)
		}
	}
	r.executions("k", 1)
}

// A backend may say that it is at work as often as it likes.
func TestManyInterimResponses(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		for range 1000 {
			c.Raw("HTTP/1.1 102 Processing\r\n\r\n")
		}
		backendtest.OK(c, q)
	})
	for range 3 {
		if a := r.post("k", "x"); a.StatusCode != 200 || a.body != "execution 1" {
			t.Errorf("%d %q", a.StatusCode, a.body)
		}
	}
	r.executions("k", 1)
}

// Whoever answers has executed, be the answer's header as large as it likes.
func TestHeaderTooLarge(t *testing.T) {
	t.Parallel()
	big := func(n int) func(backendtest.Conn, *backendtest.Request) {
		return func(c backendtest.Conn, _ *backendtest.Request) {
			c.Answer(201, "made", "X-Big: "+strings.Repeat("x", n))
		}
	}
	for name, n := range map[string]int{"a bit": 70 << 10, "much": 1 << 20} {
		for _, policy := range []idem.Ambiguity{idem.AmbiguousRelease, idem.AmbiguousHold} {
			r := newRig(t, big(n), func(c *proxy.Config) { c.Policy.OnAmbiguous = policy })
			r.isProblem(r.post("k", "x"), 502, "response-header-too-large")
			r.isProblem(r.post("k", "x"), 409, "response-not-kept")
			r.executions("k", 1)
			r.isProblem(r.do("POST", "/", "", "x"), 502, "response-header-too-large")
			if a := r.post("k", "y"); a.StatusCode != 422 {
				t.Errorf("%s: another payload: %d", name, a.StatusCode)
			}
		}
	}
	r := newRig(t, big(50<<10))
	for range 2 {
		if a := r.post("k", "x"); a.StatusCode != 201 || len(a.Header.Get("X-Big")) != 50<<10 {
			t.Errorf("%d, %d bytes of the field", a.StatusCode, len(a.Header.Get("X-Big")))
		}
	}
	r.executions("k", 1)
	// A status that frees the key does so.
	r = newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Answer(503, "", "X-Big: "+strings.Repeat("x", 70<<10))
	})
	r.isProblem(r.post("k", "x"), 502, "response-header-too-large")
	r.isProblem(r.post("k", "x"), 502, "response-header-too-large")
	r.executions("k", 2)
}

// A client that is slow, or breaks off, is not the backends' fault: none is left out
// for it, and no time-out is theirs.
func TestSlowUploadsAreTheClients(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*proxy.Config){
		"slow":                      func(c *proxy.Config) { c.BodyTimeout = 300 * time.Millisecond },
		"slower than the time-outs": func(c *proxy.Config) { c.BodyTimeout, c.BackendTimeout = 600*time.Millisecond, 100*time.Millisecond },
		"slower than the connections": func(c *proxy.Config) {
			c.BodyTimeout, c.Upstream.ReadTimeout, c.Upstream.WriteTimeout = 600*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			second := backendtest.Start(t, backendtest.OK)
			r := newRig(t, backendtest.OK, func(c *proxy.Config) {
				c.Upstream.Backends, c.Upstream.EjectAfter = append(c.Upstream.Backends, second.URL()), 2
			}, change)
			for _, text := range []string{"Content-Length: 100000", "Transfer-Encoding: chunked"} {
				for range 4 {
					c, br := dial(t, r.addr)
					send(t, c, "POST /up HTTP/1.1\r\nHost: a\r\n"+text+"\r\n\r\n5\r\nabcde\r\n")
					resp, err := http.ReadResponse(br, nil)
					if err != nil {
						t.Fatalf("%s, %s: %v", name, text, err)
					}
					if resp.StatusCode != 408 {
						t.Errorf("%s, %s: %d, want 408", name, text, resp.StatusCode)
					}
				}
			}
			for range 4 { // which break off
				c, _ := dial(t, r.addr)
				send(t, c, "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
				_ = c.Close()
			}
			r.until("they are gone", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.outcomes[proxy.Refused] == 12 })
			for _, s := range r.server.Status() {
				if !s.Up || s.Active != 0 {
					t.Errorf("%s: %+v", name, s)
				}
			}
		})
	}
}

// What a TLS record has behind a response belongs to nobody.
func TestSurplusOverTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	certificate, _, _ := ca.issue("ledger.internal", false)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 15<<10)
	b := backendtest.Serve(t, ln, func(c backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/surplus" { // in one record, which is read in two parts
			c.Raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(large), large) +
				"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nleaked" + strings.Repeat("y", 600))
			return
		}
		c.Answer(200, "mine")
	})
	r := newRig(t, backendtest.OK, func(c *proxy.Config) {
		c.Upstream.Backends, c.Upstream.CA, c.Upstream.ServerName = []string{"https://" + b.Addr}, ca.pem(), "ledger.internal"
	})
	for range 5 {
		for _, path := range []string{"/surplus", "/next"} {
			if a := r.do("GET", path, "", ""); strings.Contains(a.body, "leaked") || a.StatusCode != 200 {
				t.Fatalf("%s got %d %.40q", path, a.StatusCode, a.body)
			}
		}
	}
	if n := b.Conns(); n > 6 {
		t.Errorf("%d connections: good ones are used again", n)
	}
}

// A response without an end, whose client has left, ends in a while: the key is as
// ambiguous as after any cut.
func TestEndlessResponseIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		left := make(chan struct{})
		r := bubbleRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
			c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			piece := fmt.Sprintf("%x\r\n%s\r\n", 4<<10, strings.Repeat("x", 4<<10))
			for {
				if _, err := io.WriteString(c.Conn, piece); err != nil {
					close(left)
					return
				}
				time.Sleep(time.Second)
			}
		}, func(c *proxy.Config) { c.MaxResponseBody = 1 << 10; c.Policy.OnAmbiguous = idem.AmbiguousHold })
		q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://proxy/endless", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Idempotency-Key", "k")
		resp, err := r.client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = resp.Body.Read(make([]byte, 10))
		_ = resp.Body.Close()
		select {
		case <-left:
		case <-time.After(time.Hour):
			t.Fatal("it is read on for ever")
		}
		synctest.Wait()
		if record, err := r.store.Get(t.Context(), mustKey("k")); err != nil || record.State != idem.Unknown {
			t.Errorf("the key: %+v, %v", record, err)
		}
	})
}
