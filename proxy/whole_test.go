package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

const muchOfABody = 32 << 20 // no buffers of sockets hold that

func large(c *proxy.Config) { c.MaxRequestBody, c.MaxBuffered = 64<<20, 256<<20 }

// wholly posts a large body with a key.
func (r *rig) wholly(key string, body []byte) (*http.Response, []byte) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://"+r.addr+"/", bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", key)
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, got
}

// knownEcho answers with what it reads, as it comes.
func knownEcho(c net.Conn, br *bufio.Reader) {
	q, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", q.ContentLength)
	_, _ = io.Copy(c, q.Body)
}

// A backend that answers while it reads is read meanwhile, with a key as without: whether its
// response is kept, passed on as it is recorded, or too large to keep.
func TestWholeBodyBothWays(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("0123456789abcdef"), muchOfABody>>4)
	for kind, echo := range map[string]func(net.Conn, *bufio.Reader){"length": knownEcho, "chunked": chunkedEcho} {
		for name, change := range map[string]func(*proxy.Config){
			"kept":      func(c *proxy.Config) { c.MaxResponseBody = 64 << 20 },
			"stream":    func(c *proxy.Config) { c.Stream, c.MaxResponseBody = true, 64<<20 },
			"too large": func(c *proxy.Config) { c.MaxResponseBody = 1 << 20 },
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, backendtest.OK, large, change, to(rawBackend(t, echo)))
				resp, got := r.wholly("k", body)
				if resp.StatusCode != 200 || !bytes.Equal(got, body) {
					t.Errorf("%d, %d bytes of %d", resp.StatusCode, len(got), len(body))
				}
				r.until("nothing is held", func() bool { return r.server.Buffered() == 0 })
			})
		}
	}
}

// An answer that comes before the request was sent is one: it reaches the client, which need not
// wait until all is sent, and the connection is not used again.
func TestAnswerBeforeAWholeBody(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"known length": "Content-Length: 2\r\n\r\nno",
		"chunked":      "Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stay := make(chan struct{})
			t.Cleanup(func() { close(stay) })
			conns := make(chan struct{}, 8)
			r := newRig(t, backendtest.OK, large, to(rawBackend(t, func(c net.Conn, br *bufio.Reader) {
				conns <- struct{}{}
				q, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				if q.ContentLength < muchOfABody {
					okayFrom(c, br, q, nil)
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\n"+answer)
				<-stay // and reads nothing more
			})))
			if resp, got := r.wholly("k", make([]byte, muchOfABody)); resp.StatusCode != 413 || string(got) != "no" {
				t.Errorf("%d %q", resp.StatusCode, got)
			}
			if a := r.post("other", "x"); a.StatusCode != 200 {
				t.Errorf("the next request: %d", a.StatusCode)
			}
			if len(conns) != 2 {
				t.Errorf("%d connections, want 2", len(conns))
			}
		})
	}
}

// A backend that has read all of a large body is asked again on the same connection.
func TestWholeBodyKeepsItsConnection(t *testing.T) {
	t.Parallel()
	conns := make(chan struct{}, 64)
	r := newRig(t, backendtest.OK, large, to(rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		conns <- struct{}{}
		q, err := http.ReadRequest(br)
		okayFrom(c, br, q, err)
	})))
	for i := range 20 {
		if resp, _ := r.wholly(fmt.Sprint("k", i), make([]byte, 1<<20)); resp.StatusCode != 200 {
			t.Errorf("%d", resp.StatusCode)
		}
	}
	if len(conns) != 1 {
		t.Errorf("%d connections, want 1", len(conns))
	}
}

// A backend that breaks off in the middle of a large body may have executed it; one that nobody
// reaches has not, and another one gets it, whole.
func TestWholeBodyBrokenOff(t *testing.T) {
	t.Parallel()
	broken := rawBackend(t, func(_ net.Conn, br *bufio.Reader) {
		if q, err := http.ReadRequest(br); err == nil {
			_, _ = io.CopyN(io.Discard, q.Body, 1<<20)
		}
	})
	r := newRig(t, backendtest.OK, large, to(broken))
	if resp, got := r.wholly("k", make([]byte, muchOfABody)); resp.StatusCode != 502 || !strings.Contains(string(got), "backend-cut") {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
	lengths := make(chan int, 1)
	r = newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		lengths <- len(q.Payload)
		backendtest.OK(c, q)
	}, large)
	live := r.backend.URL()
	r = newRig(t, backendtest.OK, large, to(dead(t), live))
	for i := range 2 { // one of both begins with the dead one
		if resp, got := r.wholly(fmt.Sprint("k", i), make([]byte, 1<<20)); resp.StatusCode != 200 {
			t.Errorf("%d %s", resp.StatusCode, got)
		}
		if n := <-lengths; n != 1<<20 {
			t.Errorf("it got %d bytes", n)
		}
	}
}

// A backend that answers first and reads then gets all of the request.
func TestWholeBodyBehindItsAnswer(t *testing.T) {
	t.Parallel()
	read := make(chan int64, 1)
	r := newRig(t, backendtest.OK, large, to(rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 3\r\n\r\nyes")
		n, _ := io.Copy(io.Discard, q.Body)
		read <- n
	})))
	if resp, got := r.wholly("k", make([]byte, muchOfABody)); resp.StatusCode != 202 || string(got) != "yes" {
		t.Errorf("%d %q", resp.StatusCode, got)
	}
	if n := <-read; n != muchOfABody {
		t.Errorf("it got %d bytes", n)
	}
}

// A backend that takes nothing and says nothing has as long as any.
func TestWholeBodyThatNobodyTakes(t *testing.T) {
	t.Parallel()
	stay := make(chan struct{})
	t.Cleanup(func() { close(stay) })
	r := newRig(t, backendtest.OK, large, func(c *proxy.Config) { c.BackendTimeout = 300 * time.Millisecond },
		to(rawBackend(t, func(net.Conn, *bufio.Reader) { <-stay })))
	if resp, got := r.wholly("k", make([]byte, muchOfABody)); resp.StatusCode != 504 {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
}
