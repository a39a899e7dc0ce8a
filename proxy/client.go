package proxy

import (
	"net"
	"time"
)

// BoundSends wraps a listener, below TLS: a client that takes nothing of its
// response for that long is disconnected. A timeout of 0 wraps nothing.
func BoundSends(ln net.Listener, timeout time.Duration) net.Listener {
	if timeout <= 0 {
		return ln
	}
	return &sendBound{Listener: ln, timeout: timeout}
}

type sendBound struct {
	net.Listener
	timeout time.Duration
}

// Accept implements net.Listener.
func (l *sendBound) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // it stands in for the listener
	}
	return &clientConn{Conn: c, timeout: l.timeout}, nil
}

// clientConn is a client's connection whose writes each have to make progress.
// There is a deadline before each write, and none between two.
type clientConn struct {
	net.Conn
	timeout time.Duration
	armed   time.Time // when the deadline was last set
}

// Write implements net.Conn. The deadline is moved once in a while only, since
// to set one costs more than to write: it is between one and two times the
// timeout away.
func (c *clientConn) Write(p []byte) (int, error) {
	if now := time.Now(); now.Sub(c.armed) > c.timeout {
		if err := c.Conn.SetWriteDeadline(now.Add(2 * c.timeout)); err != nil {
			return 0, err //nolint:wrapcheck // it stands in for the connection
		}
		c.armed = now
	}
	return c.Conn.Write(p) //nolint:wrapcheck // as above
}

// SetWriteDeadline implements net.Conn: a deadline of somebody else's stands
// until the next write that is due for one.
func (c *clientConn) SetWriteDeadline(t time.Time) error {
	c.armed = time.Time{}
	return c.Conn.SetWriteDeadline(t) //nolint:wrapcheck // as above
}

// SetDeadline implements net.Conn.
func (c *clientConn) SetDeadline(t time.Time) error {
	c.armed = time.Time{}
	return c.Conn.SetDeadline(t) //nolint:wrapcheck // as above
}
