package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

const inChunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n"

// passedOn are the ways on which a response reaches its client after its handler has ended.
func passedOn() map[string]struct{ key, proto, begin, end string } {
	const half = 100_000
	return map[string]struct{ key, proto, begin, end string }{
		"chunked":            {"", "1.1", inChunks, "0\r\n\r\n"},
		"of known length":    {"", "1.1", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 2*half, strings.Repeat("x", half)), strings.Repeat("y", half)},
		"until the end":      {"", "1.0", inChunks, "0\r\n\r\n"},
		"with a key":         {"k", "1.1", inChunks, "0\r\n\r\n"},
		"key, known length":  {"k", "1.1", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", 2*half, strings.Repeat("x", half)), strings.Repeat("y", half)},
		"key, too long":      {"k", "1.1", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 500_000), strings.Repeat("y", 500_000)},
		"key, until the end": {"k", "1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n80000\r\n" + strings.Repeat("x", 512<<10) + "\r\n", "0\r\n\r\n"},
	}
}

// A response that is passed on as it comes is a request under way until its client has it, and
// no longer: whoever has read it to its end has its place again.
func TestWhatIsPassedOnIsUnderWay(t *testing.T) {
	t.Parallel()
	for limit, set := range map[string]func(*proxy.Config){
		"overloaded":          func(c *proxy.Config) { c.MaxInFlight = 1 },
		"too-many-of-caller":  func(c *proxy.Config) { c.MaxPerCaller = 1 },
		"too-many-of-address": func(c *proxy.Config) { c.MaxPerAddress, c.TrustedProxies = 1, loopback() },
	} {
		for name, way := range passedOn() {
			t.Run(limit+"/"+name, func(t *testing.T) {
				t.Parallel()
				proceed := make(chan struct{})
				r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
					if q.URL.Path != "/passed" {
						backendtest.OK(c, q)
						return
					}
					c.Raw(way.begin)
					<-proceed
					c.Raw(way.end)
				}, func(c *proxy.Config) { c.Stream, c.Join, c.MaxResponseBody = true, true, 256<<10 }, set)
				conn, br := dial(t, r.addr)
				send(t, conn, "POST /passed HTTP/"+way.proto+"\r\nHost: a\r\nAuthorization: me\r\n"+idempotencyKey(way.key)+"Content-Length: 1\r\n\r\nx")
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if a := r.do(http.MethodPost, "/", "else", "x", "Authorization: me"); !strings.Contains(a.body, limit) {
					t.Errorf("beside it: %d %s", a.StatusCode, a.body)
				}
				close(proceed)
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Error(err)
				}
				if a := r.do(http.MethodPost, "/", "else", "x", "Authorization: me"); a.StatusCode != 200 {
					t.Errorf("after it: %d %s", a.StatusCode, a.body)
				}
			})
		}
	}
}

func idempotencyKey(key string) string {
	if key == "" {
		return ""
	}
	return "Idempotency-Key: " + key + "\r\n"
}

// The place of a client that leaves is given back once the backend is not at work for it any more.
func TestWhoLeavesGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	for name, way := range passedOn() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left := make(chan struct{})
			r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
				if q.URL.Path != "/passed" {
					backendtest.OK(c, q)
					return
				}
				c.Raw(way.begin)
				<-left
				c.Raw(way.end)
			}, func(c *proxy.Config) {
				c.Stream, c.MaxResponseBody, c.MaxInFlight, c.MaxPerCaller, c.MaxPerKey = true, 256<<10, 2, 2, 2
			})
			conn, br := dial(t, r.addr)
			send(t, conn, "POST /passed HTTP/"+way.proto+"\r\nHost: a\r\nAuthorization: me\r\n"+idempotencyKey(way.key)+"Content-Length: 1\r\n\r\nx")
			if _, err := http.ReadResponse(br, nil); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			close(left)
			r.until("nothing is under way", func() bool { return r.server.UnderWay() == 0 })
			if a := r.do(http.MethodPost, "/", "else", "x", "Authorization: me"); a.StatusCode != 200 {
				t.Errorf("after it: %d %s", a.StatusCode, a.body)
			}
		})
	}
}

// Who joins a stream is a request under way as well, with the same key.
func TestWhoJoinsIsUnderWay(t *testing.T) {
	t.Parallel()
	s := newStreamRig(t, eventStream, func(c *proxy.Config) { c.MaxPerKey = 2 })
	go func() { s.say <- "one" }()
	first := s.open()
	first.hears("one")
	second := s.open()
	second.hears("one")
	third := s.open()
	if third.resp.StatusCode != 429 {
		t.Errorf("the third of two got %d", third.resp.StatusCode)
	}
	if n := s.server.UnderWay(); n != 2 {
		t.Errorf("%d are under way, want 2", n)
	}
	s.say <- sayEnd
	for _, c := range []*streamClient{first, second} {
		c.endsWith("")
	}
	if a := s.open(); a.resp.StatusCode != 200 {
		t.Errorf("afterwards: %d", a.resp.StatusCode)
	}
	s.holdsNothing()
}

// A connection whose response is passed on carries the next request: its place is another one.
func TestPlacesOnOneConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) { c.Raw(inChunks + "0\r\n\r\n") },
		func(c *proxy.Config) { c.MaxInFlight, c.MaxPerCaller = 1, 1 })
	conn, br := dial(t, r.addr)
	for i := range 5 {
		send(t, conn, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: me\r\n\r\n")
		readsWhole(t, br, i)
	}
}

func readsWhole(t *testing.T, br *bufio.Reader, i int) {
	t.Helper()
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(body) != "begin" {
		t.Errorf("request %d: %d %q, %v", i, resp.StatusCode, body, err)
	}
}
