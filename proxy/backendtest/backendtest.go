// Package backendtest is a backend for tests that counts what it executes, per
// key, and can cut, stall and lie: its answers are raw bytes, since a
// well-behaved server would mend what a test wants broken.
package backendtest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
)

// Request is one that arrived whole, and so was executed.
type Request struct {
	*http.Request
	Payload []byte
	// Number is how many requests with this key have executed, this one
	// included.
	Number int
}

// Conn is the connection it came on.
type Conn struct {
	net.Conn
}

// Answer writes a response with a Content-Length.
func (c Conn) Answer(status int, body string, header ...string) {
	c.Raw(fmt.Sprintf("HTTP/1.1 %d %s\r\n", status, http.StatusText(status)))
	for _, field := range header {
		c.Raw(field + "\r\n")
	}
	c.Raw(fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
}

// Raw writes bytes as they are.
func (c Conn) Raw(s string) { _, _ = io.WriteString(c.Conn, s) }

// Reset closes the connection with a TCP reset, where there is TCP.
func (c Conn) Reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// Backend is a running backend.
type Backend struct {
	// Addr is its host:port, or what its listener says.
	Addr string

	ln      net.Listener
	respond func(Conn, *Request)
	serving sync.WaitGroup

	mu         sync.Mutex
	executions map[string]int        // guarded by mu
	conns      map[net.Conn]struct{} // guarded by mu
	accepted   int                   // guarded by mu
	incomplete int                   // guarded by mu
	closed     bool                  // guarded by mu
}

// Start runs a backend on a free port of loopback until the test ends. respond
// is called for each request after it was counted; when it returns, the
// connection is kept for the next unless it was closed.
func Start(tb testing.TB, respond func(Conn, *Request)) *Backend {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return Serve(tb, ln, respond)
}

// Serve is Start on a listener of the caller's.
func Serve(tb testing.TB, ln net.Listener, respond func(Conn, *Request)) *Backend {
	tb.Helper()
	b := New(ln, respond)
	tb.Cleanup(b.Close)
	return b
}

// New is Serve for a process that is no test. Close ends it.
func New(ln net.Listener, respond func(Conn, *Request)) *Backend {
	b := &Backend{
		Addr: ln.Addr().String(), ln: ln, respond: respond,
		executions: map[string]int{}, conns: map[net.Conn]struct{}{},
	}
	b.serving.Go(b.accept)
	return b
}

// OK answers 200 with the number of the execution.
func OK(c Conn, r *Request) { c.Answer(http.StatusOK, fmt.Sprint("execution ", r.Number)) }

// URL is the backend's origin.
func (b *Backend) URL() string { return "http://" + b.Addr }

// Executions is how many requests with that key arrived whole.
func (b *Backend) Executions(key string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.executions[key]
}

// Total is how many requests arrived whole.
func (b *Backend) Total() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, count := range b.executions {
		n += count
	}
	return n
}

// Conns is how many connections were accepted so far.
func (b *Backend) Conns() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepted
}

// Incomplete is how many requests were cut before their end.
func (b *Backend) Incomplete() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.incomplete
}

// CloseConns closes every connection, as a backend does that is tired of
// keep-alive.
func (b *Backend) CloseConns() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = c.Close()
	}
}

// Close ends the backend. It may be repeated.
func (b *Backend) Close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	_ = b.ln.Close()
	b.CloseConns()
	b.serving.Wait()
}

func (b *Backend) accept() {
	for {
		c, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.accepted++
		b.conns[c] = struct{}{}
		if b.closed {
			_ = c.Close()
		}
		b.mu.Unlock()
		b.serving.Go(func() { b.serve(c) })
	}
}

func (b *Backend) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		b.mu.Lock()
		delete(b.conns, c)
		b.mu.Unlock()
	}()
	br := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		payload, err := io.ReadAll(r.Body)
		if err != nil {
			b.mu.Lock()
			b.incomplete++
			b.mu.Unlock()
			return
		}
		b.respond(Conn{c}, &Request{Request: r, Payload: payload, Number: b.count(r)})
	}
}

func (b *Backend) count(r *http.Request) int {
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		key = r.Header.Get("X-Idempotency-Key")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.executions[key]++
	return b.executions[key]
}
