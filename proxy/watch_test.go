package proxy_test

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A client that leaves while its backend is silent is noticed: the backend is left, and
// neither the backend nor the log is told that it was the backend's fault.
func TestWhoLeavesIsNoticed(t *testing.T) {
	t.Parallel()
	const chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
	for _, c := range []struct {
		name, request, answer string
		leave                 func(net.Conn)
	}{
		{"stream", again, chunk, func(c net.Conn) { _ = c.Close() }},
		{"stream, a reset", again, chunk, func(c net.Conn) {
			_ = c.(*net.TCPConn).SetLinger(0) //nolint:forcetypeassert // it is one
			_ = c.Close()
		}},
		{"stream, its side only", again, chunk, func(c net.Conn) {
			_ = c.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // it is one
		}},
		{"stream, with more behind", again + again, chunk, func(c net.Conn) { _ = c.Close() }},
		{"stream of HTTP/1.0", "GET / HTTP/1.0\r\nHost: x\r\n\r\n", chunk, func(c net.Conn) { _ = c.Close() }},
		{"upload", post + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", chunk, func(c net.Conn) { _ = c.Close() }},
		{"no header yet", again, "", func(c net.Conn) { _ = c.Close() }},
		{"no header yet, upload", post + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "", func(c net.Conn) { _ = c.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			asked, left := make(chan struct{}), make(chan struct{})
			var reported chan int
			r := newRig(t, func(conn backendtest.Conn, _ *backendtest.Request) {
				conn.Raw(c.answer)
				close(asked)
				_, _ = io.Copy(io.Discard, conn.Conn)
				close(left)
			}, func(cfg *proxy.Config) {
				reported = make(chan int, 4)
				cfg.Trace.Done = func(q *proxy.Report) { reported <- q.Status }
				cfg.Trace.BackendDown = func(_, _ string, err error) { t.Errorf("the backend is at fault: %v", err) }
			})
			conn, br := dial(t, r.addr)
			send(t, conn, c.request)
			<-asked
			want := 499
			if c.answer != "" {
				want = 200
				if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
					t.Fatalf("%v %v", resp, err)
				}
			}
			c.leave(conn)
			select {
			case <-left:
			case <-time.After(30 * time.Second):
				_ = conn.Close()
				r.backend.CloseConns()
				t.Fatal("the backend's connection is held for a client that has left")
			}
			if got := <-reported; got != want {
				t.Errorf("reported with %d, want %d", got, want)
			}
			r.until("nothing is under way", func() bool { return r.server.UnderWay() == 0 })
			r.cutsCounted(0)
		})
	}
}

// What has a key is executed, whoever waits for it.
func TestWhoLeavesWithAKey(t *testing.T) {
	t.Parallel()
	asked, proceed := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
		close(asked)
		<-proceed
		backendtest.OK(conn, q)
	})
	conn, _ := dial(t, r.addr)
	send(t, conn, keyedFor("left")+"\r\n")
	<-asked
	_ = conn.Close()
	time.AfterFunc(2500*time.Millisecond, func() { close(proceed) }) // after two looks
	r.until("it is kept", func() bool { return r.raw(keyedFor("left")+"\r\n").Header.Get("Idempotent-Replayed") == "true" })
	r.executions("left", 1)
}

func keyedFor(key string) string {
	return "POST /pay HTTP/1.1\r\nHost: x\r\nIdempotency-Key: " + key + "\r\nContent-Length: 0\r\n"
}

// A connection that was on a leash is used for the next request as any other.
func TestLeashesAreDropped(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/large" {
			conn.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
			return
		}
		backendtest.OK(conn, q)
	})
	for range 3 {
		for _, path := range []string{"/large", "/"} {
			if a := r.do(http.MethodGet, path, "", ""); a.StatusCode != 200 {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
		}
	}
	if n := r.backend.Conns(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}
