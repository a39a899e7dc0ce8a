package messages_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
)

// behind is what a faulty backend sends behind an answer, late: over a connection that is
// used again by then, or would be.
type behind struct {
	text string
	// used has it come when the connection's next request has; nobody can tell it from
	// that one's answer. Else it comes when the client has its answer, and nobody uses the
	// connection.
	used bool
}

// lateField marks an answer that is nobody's.
const lateField = "X-Late"

// nobodys are texts that come behind an answer.
func nobodys() []string {
	return []string{"HTTP/1.1 200 OK\r\n" + lateField + ": 1\r\nX-Execution: 1\r\nContent-Length: 4\r\n\r\nlate", "0123456789", "0\r\n\r\n"}
}

// behinds have something come behind an answer. That often has no body, but announces one.
func behinds() []func(*rand.Rand) piece {
	return []func(*rand.Rand) piece{func(r *rand.Rand) piece {
		b := behind{oneOf(r, append(nobodys(), nobodys()[0])...), r.IntN(3) > 0}
		status, by := oneOf(r, 0, 0, 204, 204, 304), oneOf[byte](r, 'n', 'l', 'l', 'c')
		return piece{fmt.Sprintf("behind the answer (%d, body announced by %c) comes %q (once its connection is used: %t)", status, by, b.text, b.used), func(x *exchange) {
			x.reply.behind, x.reply.announces = b, by
			if status > 0 {
				x.reply.status = status
			}
		}}
	}}
}

// announced says whether an answer that has no body says that it has one.
func (r *reply) announced(method string) bool {
	return !r.hasBody(method) && (r.announces == 'l' || r.announces == 'c')
}

// announcement is that.
func (b behind) announcement(by byte) string {
	if by == 'c' {
		return "Transfer-Encoding: chunked" + lineEnd
	}
	return fmt.Sprintf("Content-Length: %d"+lineEnd, len(b.text))
}

// leaves is what comes behind the answer of an execution when the connection is used again. What
// was not announced comes before that, or nobody could tell; and only if no other request can use
// the connection by itself.
func (e *expected) leaves(c net.Conn, method string, execution int) string {
	r := &e.x.reply
	announced := r.announced(method)
	switch {
	case r.behind.text == "" || execution > 1 || e.x.joins && !announced:
	case r.behind.used && announced:
		return r.behind.text
	default:
		e.mu.Lock()
		defer e.mu.Unlock()
		e.left = c
	}
	return ""
}

// comesBehind has it come that was left for when the client has its answer.
func (e *expected) comesBehind() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left != nil {
		_, _ = io.WriteString(e.left, e.x.reply.behind.text) // the connection may be closed, and should be
	}
}

// ofNext sends an operation that has nothing to do with the one that was played.
func (w *world) ofNext(p *played) {
	if p.x.reply.behind.text == "" {
		return
	}
	x := basic(p.x.id + "-next")
	w.origin.expect(x)
	defer w.origin.forget(x.id)
	p.next = w.until(x)
}

// nobodysAnswer is about what comes behind an answer.
func nobodysAnswer(p *played) string {
	for _, a := range p.answers() {
		if a.header.Get(lateField) != "" {
			return "it is the answer of another request: " + a.String()
		}
	}
	if a := p.next; a != nil && (a.err != nil || a.status != http.StatusOK || a.header.Get("X-For") != p.x.id+"-next") {
		return "the next request got " + a.String()
	}
	return ""
}
