package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Listening is how clients are listened to.
type Listening struct {
	// SendTimeout disconnects a client that takes nothing of its response for so
	// long, to twice that. 0: never.
	SendTimeout time.Duration
	// AcceptFailed is told why no connection can be accepted for now (no file
	// descriptors, say), once a second at most. Nil: nobody is.
	AcceptFailed func(error)
}

// Listen wraps the listener of clients, below TLS. A connection that is closed
// before all that the client sends was read lingers for a little while, since
// closing it at once would take the answer away from the client (RFC 9112 section
// 9.6). So does one that is closed right after an answer: the rest of a refused
// request may still be on its way, and a client that cannot send it may never look
// at the answer. An Accept that fails for lack of something that comes back is tried again.
func Listen(ln net.Listener, c Listening) net.Listener {
	return &clientListener{Listener: ln, config: c}
}

type clientListener struct {
	net.Listener
	config Listening
}

// Accept implements net.Listener.
func (l *clientListener) Accept() (net.Conn, error) {
	for wait := time.Duration(0); ; {
		c, err := l.Listener.Accept()
		switch {
		case err == nil:
			return &clientConn{Conn: c, timeout: l.config.SendTimeout}, nil
		case isShortage(err):
			// As net/http does: what is missing comes back when other connections end.
			if wait = min(max(2*wait, 5*time.Millisecond), time.Second); wait >= time.Second && l.config.AcceptFailed != nil {
				l.config.AcceptFailed(err)
			}
			time.Sleep(wait)
			continue
		default:
			return nil, err //nolint:wrapcheck // it stands in for the listener
		}
	}
}

// isShortage says of an error that it passes.
func isShortage(err error) bool {
	for _, passing := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// clientConn is a client's connection.
type clientConn struct {
	net.Conn
	timeout time.Duration
	armed   time.Time // when the deadline of writing was last set
	pace    pace      // of the body that is being read
	reads   lazyDeadline
	wrote   atomic.Bool // since somebody last began to read: an answer may be on its way
	tunnel  atomic.Bool // it has left HTTP: who closes it wants its reader to end
	rounds  rounds

	mu     sync.Mutex
	gone   bool   // guarded by mu; it was closed
	onGone func() // guarded by mu; see whenGone
}

// clientOf is the client's connection below TLS; nil if it is another kind.
func clientOf(conn net.Conn) *clientConn {
	for conn != nil {
		if c, ok := conn.(*clientConn); ok {
			return c
		}
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = over.NetConn()
	}
	return nil
}

// whenGone has f called when the connection is closed, or now if it was.
func (c *clientConn) whenGone(f func()) {
	c.mu.Lock()
	c.onGone = f
	gone := c.gone
	c.mu.Unlock()
	if gone {
		f()
	}
}

// pace is how fast a body must come, as a whole and in bytes a second.
type pace struct {
	on    bool
	begun time.Time
	all   time.Duration // for all of it
	grace time.Duration // before the rate counts
	rate  int64         // bytes a second; 0: any
	came  int64
}

// till is when the next bytes have to be there.
func (p *pace) till() time.Time {
	at := p.begun.Add(p.all)
	if p.rate > 0 {
		if paced := p.begun.Add(p.grace + time.Duration(float64(p.came)/float64(p.rate)*float64(time.Second))); paced.Before(at) {
			return paced
		}
	}
	return at
}

// Read implements net.Conn. A body's deadline is set only before bytes are waited for
// that are not there yet, and costs nothing for one that came along with its header.
func (c *clientConn) Read(p []byte) (int, error) {
	if c.wrote.Load() {
		c.wrote.Store(false)
	}
	if !c.pace.on {
		return c.reads.read(c.Conn, p)
	}
	if err := c.SetReadDeadline(c.pace.till()); err != nil {
		return 0, err
	}
	n, err := c.reads.read(c.Conn, p)
	c.pace.came += int64(n)
	return n, err
}

// SetReadDeadline implements net.Conn: see lazyDeadline.
func (c *clientConn) SetReadDeadline(t time.Time) error { return c.reads.set(c.Conn, t) }

// Write implements net.Conn. There is a deadline before each write, and none
// between two. It is moved once in a while only, since to set one costs about as
// much as to write.
func (c *clientConn) Write(p []byte) (int, error) {
	if c.timeout > 0 {
		if now := time.Now(); now.Sub(c.armed) > c.timeout {
			if err := c.Conn.SetWriteDeadline(now.Add(2 * c.timeout)); err != nil {
				return 0, err //nolint:wrapcheck // it stands in for the connection
			}
			c.armed = now
		}
	}
	c.wrote.Store(true)
	return c.Conn.Write(p) //nolint:wrapcheck // as above
}

// SetWriteDeadline implements net.Conn: a deadline of somebody else's stands
// until the next write.
func (c *clientConn) SetWriteDeadline(t time.Time) error {
	c.armed = time.Time{}
	return c.Conn.SetWriteDeadline(t) //nolint:wrapcheck // as above
}

// SetDeadline implements net.Conn.
func (c *clientConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// NetConn is the connection below.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

// lingering is how long, and lingeringBytes how much is read of what nobody wants.
const (
	lingering      = 5 * time.Second
	lingeringBytes = 64 << 20
)

// Close implements net.Conn.
func (c *clientConn) Close() error {
	c.mu.Lock()
	c.gone = true
	onGone := c.onGone
	c.mu.Unlock()
	if onGone != nil {
		onGone()
	}
	c.rounds.rest()
	tcp, ok := c.Conn.(*net.TCPConn)
	lingers := ok && (unread(tcp) || c.wrote.Load() && !c.tunnel.Load())
	if !lingers || tcp.CloseWrite() != nil || tcp.SetReadDeadline(time.Now().Add(lingering)) != nil {
		return c.Conn.Close() //nolint:wrapcheck // as above
	}
	go func() {
		_, _ = io.CopyN(io.Discard, tcp, lingeringBytes)
		_ = tcp.Close()
	}()
	return nil
}

// unread says whether there are bytes that were received and not read: with
// them, closing is a reset (RFC 9293 section 3.6.1).
func unread(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		var buf [1]byte
		n, _, _ = syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return err == nil && n > 0
}
