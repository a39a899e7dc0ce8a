package upstream

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

// Tunnels are the connections that have left HTTP (RFC 9110 section 7.8):
// WebSocket, say. Each keeps one connection of client and backend until either
// side ends it, or the server shuts down.
type Tunnels struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{} // guarded by mu; the clients' connections
	closed bool                  // guarded by mu
	moving sync.WaitGroup
}

// handOver bounds the time from the end of a handler to the tunnel's start.
const handOver = time.Minute

// Tunnel is a backend's connection that has left HTTP.
type Tunnel struct {
	conn      net.Conn
	first     []byte // what came along with the 101 is the new protocol's
	release   func()
	abandoned *time.Timer // a client that has left by now is never handed over
}

// Tunnel takes the connection out of the body, after 101.
func (r *Body) Tunnel() *Tunnel {
	backend := r.conn
	backend.leash.drop()
	if b := unwrap(backend.conn); b != nil {
		b.readTimeout, b.writeTimeout = 0, 0
		_ = b.SetDeadline(time.Time{})
	}
	first, _ := r.reader.Peek(r.reader.Buffered())
	t := &Tunnel{
		conn: backend.conn, first: bytes.Clone(first),
		release: sync.OnceFunc(func() { backend.release(false) }),
	}
	t.abandoned = time.AfterFunc(handOver, t.release)
	r.client.ReleaseReader(r.reader)
	r.conn = pooledConn{}
	return t
}

// Abandon gives a tunnel up that has not begun.
func (t *Tunnel) Abandon() {
	if t.abandoned.Stop() {
		t.release()
	}
}

// Run moves bytes both ways until either side ends it. ahead reads what comes from
// the client, some of which may have been read from its connection before.
func (t *Tunnels) Run(one *Tunnel, client net.Conn, ahead io.Reader) {
	defer one.release()
	if one.abandoned.Stop() && t.enter(client) {
		defer t.leave(client)
		move(client, ahead, one.conn, one.first)
	}
}

// move copies both ways until one side is broken, or both have ended. What comes
// from the client is read from ahead; first is what has come from the backend.
func move(client net.Conn, ahead io.Reader, backend net.Conn, first []byte) {
	var moving sync.WaitGroup
	copyOne := func(to net.Conn, from io.Reader) {
		_, err := io.Copy(to, from)
		if half, ok := halves(to); ok && err == nil && half.CloseWrite() == nil {
			return // the other direction may go on
		}
		_ = client.Close()
		_ = backend.Close()
	}
	moving.Go(func() { copyOne(backend, ahead) })
	copyOne(client, io.MultiReader(bytes.NewReader(first), backend))
	moving.Wait()
}

// halves is a connection of which one direction can end while the other goes on.
func halves(c net.Conn) (interface{ CloseWrite() error }, bool) {
	if ours, ok := c.(interface{ NetConn() net.Conn }); ok { // of crypto/tls it has both
		if _, is := c.(*tls.Conn); !is {
			c = ours.NetConn()
		}
	}
	half, ok := c.(interface{ CloseWrite() error })
	return half, ok
}

func (t *Tunnels) enter(client net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.open == nil {
		t.open = map[net.Conn]struct{}{}
	}
	t.open[client] = struct{}{}
	t.moving.Add(1)
	return true
}

func (t *Tunnels) leave(client net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, client)
	t.moving.Done()
}

// Close ends all of them: a protocol that is not HTTP has no end that could be
// waited for.
func (t *Tunnels) Close() {
	t.mu.Lock()
	t.closed = true
	for c := range t.open {
		_ = c.Close()
	}
	t.mu.Unlock()
	t.moving.Wait()
}
