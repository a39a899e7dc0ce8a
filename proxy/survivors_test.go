package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// The files survivors_*_test.go look at this proxy from outside: bytes of a client go
// in, bytes of a backend come out. Each has one kind of fault that there was once.

// patience bounds how long a test waits for bytes. Nothing that works takes as long.
const patience = 30 * time.Second

// recorder is a backend that keeps requests as they came, and answers with bytes.
type recorder struct {
	origin string

	mu    sync.Mutex
	seen  []string // guarded by mu; whole requests, in their order
	conns []int    // guarded by mu; which connection each of them came on
	count int      // guarded by mu; connections
}

// newRecorder runs one whose answer to a request is what reply says. "": none, and the
// connection is closed.
func newRecorder(t *testing.T, reply func(q *http.Request, body string) string) *recorder {
	t.Helper()
	w := new(recorder)
	w.origin = rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		conn := w.connected()
		var text bytes.Buffer
		for in := bufio.NewReader(io.TeeReader(br, &text)); ; text.Reset() { // one request at a time comes
			q, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			body, err := io.ReadAll(q.Body)
			if err != nil {
				return
			}
			w.keep(conn, text.String())
			answer := reply(q, string(body))
			if answer == "" {
				return
			}
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
		}
	})
	return w
}

func (w *recorder) connected() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	return w.count
}

func (w *recorder) keep(conn int, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen, w.conns = append(w.seen, text), append(w.conns, conn)
}

// requests are those that came whole.
func (w *recorder) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.seen...)
}

// connections are those that they came on.
func (w *recorder) connections() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]int(nil), w.conns...)
}

// last is the latest request; "" for none.
func (w *recorder) last() string {
	all := w.requests()
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

// okay answers 200 with ok.
func okay(*http.Request, string) string { return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" }

// always answers the same.
func always(text string) func(*http.Request, string) string {
	return func(*http.Request, string) string { return text }
}

// valuesOf are those of a field of a message as it came, whatever the case of its name.
func valuesOf(text, name string) (values []string) {
	header, _, _ := strings.Cut(text, "\r\n\r\n")
	for line := range strings.SplitSeq(header, "\r\n") {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			values = append(values, strings.Trim(value, " \t"))
		}
	}
	return values
}

// exchange sends bytes over a connection of their own, and gives all bytes that come
// back until the proxy closes. The client sends nothing behind text.
func (r *rig) exchange(text string) string {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr) //nolint:noctx // a test
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() { // the proxy may answer, and close, before it has read all
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // we dialled TCP
	}()
	all, err := io.ReadAll(conn)
	if errors.Is(err, io.ErrUnexpectedEOF) || isTimeout(err) {
		r.t.Fatalf("%.80q: %v after %.200q", text, err, all)
	}
	return string(all)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// parse reads answers, the interim ones too.
func parse(t *testing.T, text string) (all []answer) {
	t.Helper()
	for br := bufio.NewReader(strings.NewReader(text)); ; {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
				t.Errorf("no answer: %v in %.200q", err, text)
			}
			return all
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Errorf("an answer is cut: %v", err)
		}
		_ = resp.Body.Close()
		all = append(all, answer{resp, string(body)})
	}
}

// one sends a request and gives its answer, the last one if there are interim ones.
func (r *rig) one(text string) answer {
	r.t.Helper()
	all := parse(r.t, r.exchange(text))
	if len(all) == 0 {
		r.t.Fatalf("%.80q: no answer", text)
	}
	return all[len(all)-1]
}

// status is the first answer's, as bytes have it.
func status(text string) string {
	line, _, _ := strings.Cut(text, "\r\n")
	return strings.TrimPrefix(line, "HTTP/1.1 ")[:min(3, max(0, len(line)-9))]
}
