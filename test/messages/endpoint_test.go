package messages_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// endpoint answers about operations, by their keys. It writes its answers itself: a server
// of the library's would not write all that a faulty one does.
type endpoint struct {
	url string
	ln  net.Listener

	mu   sync.Mutex
	said map[string]said // guarded by mu
}

func startEndpoint(t *testing.T) *endpoint {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint{url: "http://" + ln.Addr().String(), ln: ln, said: map[string]said{}}
	var serving sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			serving.Go(func() { e.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return e
}

// about is what it says of an operation.
func (e *endpoint) about(key string) said {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.said[strings.Trim(key, `"`)]
}

func (e *endpoint) says(key string, s said) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.said[key] = s
}

func (e *endpoint) serve(c net.Conn) {
	defer c.Close() //nolint:errcheck // of no consequence
	left := ""      // behind the answer before
	for br := bufio.NewReader(c); ; {
		q, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, q.Body)
		s := e.about(q.Header.Get("Idempotency-Key"))
		if _, err := io.WriteString(c, left+s.wire()); err != nil {
			return
		}
		if left = ""; s.announced() {
			left = s.behind.text
		}
	}
}

// bodiless says whether an answer of the status has no body.
func (s said) bodiless() bool {
	return s.status == http.StatusNoContent || s.status == http.StatusNotModified
}

// announced says whether the answer has no body, and says that it has one.
func (s said) announced() bool { return s.bodiless() && s.behind.text != "" }

// wire is the answer as it is sent.
func (s said) wire() string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d Told\r\nX-Receipt: 1\r\n", max(s.status, 200))
	for _, line := range s.lines {
		b.WriteString("Idempotency-Outcome: " + line + lineEnd)
	}
	for _, line := range s.statuses {
		b.WriteString("Idempotency-Status: " + line + lineEnd)
	}
	switch {
	case s.announced():
		b.WriteString(s.behind.announcement(s.announces))
	case !s.bodiless():
		b.WriteString("Content-Length: 0" + lineEnd)
	}
	return b.String() + lineEnd
}

// lateWords come behind an answer, when its connection is used for the next question.
func lateWords() []string {
	return []string{
		"HTTP/1.1 200 OK\r\nX-Receipt: 1\r\n" + lateField + ": 1\r\nIdempotency-Outcome: executed\r\nContent-Length: 4\r\n\r\nlate",
		"HTTP/1.1 200 OK\r\nIdempotency-Outcome: voided\r\nContent-Length: 0\r\n\r\n",
	}
}
