package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// echo is a protocol that is not HTTP: what comes goes back.
func echo(c backendtest.Conn, q *backendtest.Request) {
	if q.Header.Get("Upgrade") != "echo" || q.Header.Get("Connection") != "Upgrade" {
		c.Answer(426, q.Header.Get("Upgrade"))
		return
	}
	c.Raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\nX-Own: 1\r\n\r\nfirst;")
	_, _ = io.Copy(c.Conn, c.Conn)
	_ = c.Close()
}

func dial(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, bufio.NewReader(c)
}

func send(t *testing.T, c io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func readExactly(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v, want %q", got, err, want)
	}
}

// After 101 bytes go both ways as they come, what came along with either header
// included, until one side ends.
func TestUpgradeTunnels(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo)
	c, br := dial(t, r.addr)
	send(t, c, "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\nearly;")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "echo" || resp.Header.Get("Connection") != "Upgrade" ||
		resp.Header.Get("X-Own") != "1" || resp.Header.Get("Content-Length") != "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	readExactly(t, br, "first;early;")
	for _, word := range []string{"one\n", "two\n", strings.Repeat("long", 100_000)} { // no HTTP
		go func() { _, _ = io.WriteString(c, word) }() // what is missing is noticed below
		readExactly(t, br, word)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil { //nolint:forcetypeassert // it is one
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(br); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v at the end", rest, err)
	}
	r.outcome(proxy.Passed, 1)
}

// A tunnel begins also behind lines that end in LF alone.
func TestTunnelsOfOtherLines(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo)
	c, br := dial(t, r.addr)
	send(t, c, "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly\n;")
	if _, err := http.ReadResponse(br, nil); err != nil {
		t.Fatal(err)
	}
	readExactly(t, br, "first;early\n;")
	send(t, c, "la\nte;")
	readExactly(t, br, "la\nte;")
}

// A refusal says what is wrong with a line that the client's library would not see.
func TestRefusalOfALineSaysWhy(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	a := r.raw("GET / HTTP/1.1\nHost: x\r\n\r\n")
	r.isProblem(a, 400, "request-invalid")
	if !strings.Contains(a.body, "ends in LF without CR") {
		t.Error(a.body)
	}
}

// Whoever asks for an upgrade that cannot be passed on gets an ordinary answer.
func TestUpgradesThatAreNot(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{
		"not nominated": "Upgrade: echo\r\n",
		"h2c":           "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
		"echo or h2c":   "Connection: Upgrade\r\nUpgrade: echo, h2c\r\n",
		"with a key":    "Connection: Upgrade\r\nUpgrade: echo\r\nIdempotency-Key: k\r\n",
		"with a body":   "Connection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 1\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
				if q.Header.Get("Upgrade") == "" && q.Header.Get("Connection") == "" && q.Header.Get("HTTP2-Settings") == "" {
					c.Answer(426, "")
					return
				}
				c.Answer(500, fmt.Sprint(q.Header))
			})
			c, br := dial(t, r.addr)
			send(t, c, "GET / HTTP/1.1\r\nHost: a\r\n"+header+"\r\nx")
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 426 {
				b, _ := io.ReadAll(resp.Body)
				t.Errorf("%d %s", resp.StatusCode, b)
			}
		})
	}
}

// Shutting down does not wait for a protocol that has no end.
func TestShutdownEndsTunnels(t *testing.T) {
	t.Parallel()
	r := newRig(t, echo)
	c, br := dial(t, r.addr)
	send(t, c, "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if _, err := http.ReadResponse(br, nil); err != nil {
		t.Fatal(err)
	}
	readExactly(t, br, "first;")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if rest, _ := io.ReadAll(br); len(rest) != 0 {
		t.Errorf("%q after the end", rest)
	}
}

// Trailers that were announced pass, both ways.
func TestTrailers(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 100_000)
	for _, body := range []string{"small", big} {
		seen := make(chan http.Header, 1)
		r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			seen <- q.Trailer
			c.Raw("HTTP/1.1 200 OK\r\nTrailer: X-Sum, X-Other\r\nTransfer-Encoding: chunked\r\n\r\n")
			c.Raw(fmt.Sprintf("%x\r\n%s\r\n0\r\nX-Sum: out\r\nX-Other: 2\r\n\r\n", len(body), body))
		})
		req, err := http.NewRequest(http.MethodPost, "http://"+r.addr+"/", io.NopCloser(strings.NewReader(body))) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = http.Header{"X-Sum": {"in"}}
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != body {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		_ = resp.Body.Close()
		if got := <-seen; got.Get("X-Sum") != "in" {
			t.Errorf("the backend sees the trailers %v", got)
		}
		if resp.Trailer.Get("X-Sum") != "out" || resp.Trailer.Get("X-Other") != "2" {
			t.Errorf("the client sees the trailers %v", resp.Trailer)
		}
	}
}

// A response with trailers to a request with a key is kept, and answered, without
// them: its length is known by then.
func TestTrailersWithAKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Raw("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: out\r\n\r\n")
	})
	for range 2 {
		if a := r.post("k", "x"); a.body != "hi" || a.ContentLength != 2 || len(a.Trailer) != 0 || a.Header.Get("Trailer") != "" {
			t.Errorf("%q %v %v", a.body, a.Header, a.Trailer)
		}
	}
	r.executions("k", 1)
}

// Early hints reach the client before the answer, if that is wanted; 100 is this
// hop's own.
func TestEarlyHints(t *testing.T) {
	t.Parallel()
	for _, pass := range []bool{true, false} {
		proceed := make(chan struct{})
		r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
			c.Raw("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n" +
				"Connection: x, close\r\nX: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
			if pass {
				<-proceed
			}
			c.Answer(200, "done")
		}, func(c *proxy.Config) { c.EarlyHints = pass })
		for range 2 { // the second over the same connection
			var hints []string
			ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					hints = append(hints, fmt.Sprint(code, h))
					proceed <- struct{}{}
					return nil
				},
			})
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.addr+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := r.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			want := "[]"
			if pass {
				want = "[103 map[Link:[</a.css>; rel=preload]]]"
			}
			if got := fmt.Sprint(hints); got != want || resp.StatusCode != 200 {
				t.Errorf("%s, want %s", got, want)
			}
		}
	}
}

// An interim response does not overtake the answers to requests that the client
// sent before, all at once.
func TestEarlyHintsKeepTheirPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/3" {
			c.Raw("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
		}
		c.Answer(200, q.URL.Path)
	}, func(c *proxy.Config) { c.EarlyHints = true })
	c, br := dial(t, r.addr)
	send(t, c, "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n")
	for _, want := range []string{"/1", "/2", "103", "/3"} {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		if resp.StatusCode == 103 {
			got = []byte("103")
		}
		if string(got) != want {
			t.Fatalf("%s comes where %s should", got, want)
		}
	}
}

// A backend that answers before it has read everything is heard, with a key or
// without.
func TestAnswerBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", "k"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
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
				// Only the header is read. What is not leaves a reset behind, but
				// only once this is closed.
				br := bufio.NewReader(c)
				if _, err := http.ReadRequest(br); err == nil {
					_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")
					_ = c.(*net.TCPConn).CloseRead() //nolint:forcetypeassert // it is one
				}
			}
		}()
		r := newRig(t, backendtest.OK, func(c *proxy.Config) {
			c.Upstream.Backends = []string{"http://" + ln.Addr().String()}
			c.Upstream.WriteTimeout = 200 * time.Millisecond
			c.MaxRequestBody = 64 << 20
		})
		if a := r.do(http.MethodPost, "/", key, strings.Repeat("x", 32<<20)); a.StatusCode != 413 || a.body != "big" {
			t.Errorf("key %q: %d %.200s", key, a.StatusCode, a.body)
		}
	}
}

// A client that is still sending when it is refused gets to hear why.
func TestRefusalArrives(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	for range 20 {
		a := r.do(http.MethodPost, "/", "k", strings.Repeat("x", 8<<20))
		r.isProblem(a, 413, "body-too-large")
	}
}

// A client that takes nothing of its response is disconnected; the backend's
// connection is not held for ever.
func TestSendTimeout(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	r := newSlowRig(t, 50*time.Millisecond, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		chunk := fmt.Sprintf("%x\r\n%s\r\n", 1<<20, strings.Repeat("x", 1<<20))
		for {
			if _, err := io.WriteString(c.Conn, chunk); err != nil {
				close(ended)
				return
			}
		}
	})
	c, _ := dial(t, r.addr)
	send(t, c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n") // and then reads nothing
	<-ended
}
