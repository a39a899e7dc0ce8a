package upstream

import (
	"errors"
	"sync"
	"time"
)

// ErrClientGone says that nobody waits for the answer any more.
var ErrClientGone = errors.New("the client has left")

// Leash lets somebody else end an exchange that waits for its backend. The zero value is
// ready for one exchange. A nil one is never pulled.
type Leash struct {
	mu     sync.Mutex
	conn   *backendConn // of the exchange under way; guarded by mu
	end    time.Time    // by when it has to end, once it was pulled; guarded by mu
	atOnce bool         // guarded by mu
}

// Pull has the exchange end within a time; 0: at once, since nobody is there to be told
// how it ended.
func (l *Leash) Pull(within time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end, l.atOnce = time.Now().Add(within), within == 0
	if l.conn != nil {
		l.conn.endBy(l.end)
	}
}

// hold puts a connection on the leash.
func (l *Leash) hold(conn *backendConn) {
	if l == nil || conn == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	if !l.end.IsZero() {
		conn.endBy(l.end)
	}
}

// drop is due before the connection is somebody else's.
func (l *Leash) drop() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = nil
}

// gone says that it was pulled at once.
func (l *Leash) gone() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.atOnce
}

// Hold puts a response that is passed on as it comes on a leash.
func (r *Body) Hold(l *Leash) {
	r.conn.leash = l
	l.hold(unwrap(r.conn.conn))
}

// endBy has all that is read and written fail from then on. It stays until the next
// exchange.
func (b *backendConn) endBy(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = at
	b.deadline = earlier(b.deadline, at)
	_ = b.SetReadDeadline(b.next(b.readTimeout)) // if it cannot be set, reading fails too
	_ = b.SetWriteDeadline(b.deadline)
}

// earlier is the earlier one of two times, where zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
