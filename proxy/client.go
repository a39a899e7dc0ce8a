package proxy

import (
	"io"
	"net"
	"syscall"
	"time"
)

// Listen wraps the listener of clients, below TLS. A client that takes nothing of
// its response for sendTimeout, to twice that, is disconnected (0: it is not). A
// connection that is closed before all that the client sends was read lingers for
// a little while, since closing it at once would take the answer away from the
// client (RFC 9112 section 9.6).
func Listen(ln net.Listener, sendTimeout time.Duration) net.Listener {
	return &clientListener{Listener: ln, timeout: sendTimeout}
}

type clientListener struct {
	net.Listener
	timeout time.Duration
}

// Accept implements net.Listener.
func (l *clientListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // it stands in for the listener
	}
	return &clientConn{Conn: c, timeout: l.timeout}, nil
}

// clientConn is a client's connection.
type clientConn struct {
	net.Conn
	timeout time.Duration
	armed   time.Time // when the deadline of writing was last set
}

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
	c.armed = time.Time{}
	return c.Conn.SetDeadline(t) //nolint:wrapcheck // as above
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
	tcp, ok := c.Conn.(*net.TCPConn)
	if !ok || !unread(tcp) || tcp.CloseWrite() != nil || tcp.SetReadDeadline(time.Now().Add(lingering)) != nil {
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
