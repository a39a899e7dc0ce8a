package proxy

import (
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/idemproxy/idemproxy/upstream"
)

// watch notices that a client has left whose backend is silent: nobody reads from a
// client that waits, and nobody writes to it. A client that has ended its own side
// counts as one that has left, as with nginx, Envoy and net/http: on TCP there is no
// telling them apart.
//
// It looks every so often, instead of waiting for the socket: most requests are
// answered before the first look, and cost no more than a timer.
type watch struct {
	leash  upstream.Leash
	client *clientConn
	within time.Duration // that the backend has, when the client has left

	mu    sync.Mutex
	next  *time.Timer // guarded by mu
	ended bool        // guarded by mu
}

const lookAtClient = time.Second

// watch begins to look after the client of a request; nil if that cannot be done.
func (q *request) watch(within time.Duration) *watch {
	client := clientOf(q.ctx.Conn())
	if client == nil {
		return nil
	}
	w := &watch{client: client, within: within}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = time.AfterFunc(lookAtClient, w.look)
	return w
}

// held is the leash of the exchange; nil if nobody pulls it.
func (w *watch) held() *upstream.Leash {
	if w == nil {
		return nil
	}
	return &w.leash
}

func (w *watch) look() {
	left := w.client.hasLeft()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended:
	case left:
		w.ended = true
		w.leash.Pull(w.within)
	default:
		w.next.Reset(lookAtClient)
	}
}

// end is due when the exchange has ended. It may be repeated.
func (w *watch) end() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.next.Stop()
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

// underWay is a response's body that is passed on as it comes, and counts as a request
// under way until it is closed.
type underWay struct {
	io.ReadCloser
	watch   *watch
	streams *atomic.Int64
	once    sync.Once
}

// Close implements io.Closer. It may be repeated.
func (u *underWay) Close() error {
	u.once.Do(func() {
		u.watch.end()
		u.streams.Add(-1)
	})
	return u.ReadCloser.Close() //nolint:wrapcheck // it stands in for the body
}
