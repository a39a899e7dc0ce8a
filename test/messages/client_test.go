package messages_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// patience is by when an exchange has ended.
const patience = 20 * time.Second

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // of the connection, or of the answer's framing
	closes bool  // it says that the connection ends
	unsent error // why the rest of the body could not be sent after the answer
}

// timedOut says that the exchange stood still.
func (a *answer) timedOut() bool { return errors.Is(a.err, os.ErrDeadlineExceeded) }

// ours says that the proxy made the answer itself.
func (a *answer) ours() bool {
	return a.status == http.StatusAccepted || a.header.Get("Content-Type") == "application/problem+json" && strings.Contains(a.body, "docs/problems.md#")
}

// replayed says that it is a stored answer of the backend.
func (a *answer) replayed() bool {
	return !a.ours() && a.header.Get("Idempotent-Replayed") == "true" && a.header.Get("X-Execution") != ""
}

func (a *answer) String() string {
	if a == nil {
		return "(not asked)"
	}
	return fmt.Sprintf("%d %v %.300q %v", a.status, a.header, a.body, a.err)
}

// ask sends a request over a connection of its own. met, if set, is called when the answer's
// header is there, or there is none.
func (w *world) ask(x *exchange, met func()) *answer {
	if met == nil {
		met = func() {}
	}
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		return &answer{err: err}
	}
	defer c.Close() //nolint:errcheck // of no consequence
	_ = c.SetDeadline(time.Now().Add(w.patience))
	a := make(chan *answer, 1)
	written := make(chan struct{})
	head, body := x.head(), x.framed()
	first := head + body
	if x.late {
		first = head + body[:min(len(body), 9<<10)/2]
	}
	go func() {
		defer close(written)
		_, _ = io.WriteString(c, first) // an answer may come before
		if x.lengths != nil && !x.late {
			_ = c.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // it is one
		}
	}()
	go func() { a <- listen(bufio.NewReader(c), x.method, met) }()
	if !x.late {
		got := <-a
		return got
	}
	<-written
	select {
	case got := <-a:
		return got.sendOn(c)
	case <-time.After(10 * time.Millisecond): // it is waited for
	}
	_, _ = io.WriteString(c, body[len(first)-len(head):])
	if x.lengths != nil {
		_ = c.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // as above
	}
	return <-a
}

// pipeline sends the same request several times over one connection, without waiting, and
// gives the answers as far as the connection lasts.
func (w *world) pipeline(x *exchange, n int) (all []*answer) {
	if n == 0 || x.lengths != nil {
		return nil
	}
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		return []*answer{{err: err}}
	}
	defer c.Close() //nolint:errcheck // of no consequence
	_ = c.SetDeadline(time.Now().Add(w.patience))
	go func() { _, _ = io.WriteString(c, strings.Repeat(x.text(), n)) }()
	br := bufio.NewReader(c)
	for range n {
		a := listen(br, x.method, func() {})
		if a.err != nil && len(all) > 0 && doubt(x, w.setting) != "" {
			break // what follows a refused request is open to debate, and nobody answers it
		}
		if all = append(all, a); a.err != nil || a.closes {
			break
		}
	}
	return all
}

// listen reads one answer.
func listen(br *bufio.Reader, method string, met func()) *answer {
	defer met()
	for {
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return &answer{err: err}
		}
		if resp.StatusCode/100 == 1 {
			continue
		}
		met()
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.Close && err == nil {
			_, _ = io.Copy(io.Discard, br) // the end of the connection, where the answer says that it comes
		}
		return &answer{status: resp.StatusCode, header: resp.Header, body: string(body), err: err, closes: resp.Close}
	}
}

// sendOn sends more of the body after an answer that ends the connection: if that fails, many
// clients never look at the answer.
func (a *answer) sendOn(c net.Conn) *answer {
	if a.err != nil || !a.closes {
		return a
	}
	for range 100 {
		if _, a.unsent = io.WriteString(c, "x"); a.unsent != nil {
			return a
		}
	}
	return a
}
