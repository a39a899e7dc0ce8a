package proxy

import (
	"sync"
	"syscall"
	"time"

	"github.com/idemproxy/idemproxy/upstream"
)

// watch notices that a client has left whose backend is silent: nobody reads from a
// client that waits, and nobody writes to it. A client that has ended its own side
// counts as one that has left, as with nginx, Envoy and net/http: on TCP there is no
// telling them apart.
type watch struct {
	leash  upstream.Leash
	client *clientConn
	within time.Duration // that the backend has, when the client has left

	mu     sync.Mutex
	left   func() // guarded by mu; called instead, if set
	looked func() // guarded by mu; called at each look that finds the client there, if set
	ended  bool   // guarded by mu
}

const lookAtClient = time.Second

// watch begins to look after the client of a request; nil if that cannot be done.
func (q *request) watch(within time.Duration) *watch {
	client := clientOf(q.ctx.Conn())
	if client == nil {
		return nil
	}
	w := &watch{client: client, within: within}
	client.rounds.begin(w)
	return w
}

// whenLeft has f called when the client has left.
func (w *watch) whenLeft(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = f
}

// whenLooked has f called at each look that finds the client there.
func (w *watch) whenLooked(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looked = f
}

// held is the leash of the exchange; nil if nobody pulls it.
func (w *watch) held() *upstream.Leash {
	if w == nil {
		return nil
	}
	return &w.leash
}

// pull is due when the client has left.
func (w *watch) pull() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended:
	case w.left != nil:
		w.left()
	default:
		w.leash.Pull(w.within)
	}
	w.ended = true
}

// look is due when the client was found there.
func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended && w.looked != nil {
		w.looked()
	}
}

// end is due when the exchange has ended. It may be repeated.
func (w *watch) end() {
	if w == nil {
		return
	}
	w.client.rounds.end(w)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
}

// rounds look at a client's connection every so often, instead of waiting for the socket.
// Most requests are answered before the first look. The timer is the connection's, and goes
// on from one request to the next: setting and stopping one for each costs more than
// parsing a small header.
type rounds struct {
	mu   sync.Mutex
	on   *watch      // guarded by mu; nil: nobody waits
	seen bool        // guarded by mu; on was there at the last look, and so has waited for some time
	next *time.Timer // guarded by mu; nil: nobody has waited for some time
}

func (r *rounds) begin(w *watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on, r.seen = w, false
	if r.next == nil {
		r.next = time.AfterFunc(lookAtClient, r.look)
	}
}

func (r *rounds) end(w *watch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on == w {
		r.on = nil
	}
}

// rest ends the rounds of a connection that is closed, unless somebody waits, who is told.
func (r *rounds) rest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on == nil && r.next != nil {
		r.next.Stop()
		r.next = nil
	}
}

// look pulls the leash of a client that has left. A request that has just begun is left
// alone: who sends it, ends its side and then reads has an answer that comes soon.
func (r *rounds) look() {
	switch w, waited := r.due(); {
	case w == nil:
	case waited && w.client.hasLeft():
		r.end(w)
		w.pull()
	default:
		w.look()
	}
}

// due is who is to be looked at, and whether it was there at the last look.
func (r *rounds) due() (w *watch, waited bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on == nil {
		r.next = nil
		return nil, false
	}
	r.next.Reset(lookAtClient)
	waited, r.seen = r.seen, true
	return r.on, waited
}

// hasLeft says that the client has ended the connection, or its side of it.
func (c *clientConn) hasLeft() bool {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	left := false
	err = raw.Control(func(fd uintptr) { left = endedByPeer(fd) })
	return left || err != nil // which is that of one that was closed here
}
