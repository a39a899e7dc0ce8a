package proxy

import (
	"crypto/tls"
	"net"

	"github.com/idemproxy/idemproxy/message"
)

// strict is a listener whose connections are read by message.Stream first.
type strict struct{ net.Listener }

// Accept implements net.Listener.
func (l strict) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // it stands in for the listener
	}
	s := &strictConn{Conn: c}
	if t, ok := c.(*tls.Conn); ok {
		return &strictTLS{strictConn: s, tls: t}, nil
	}
	return s, nil
}

// strictConn is a client's connection. Nobody reads it at the same time as somebody
// else does.
type strictConn struct {
	net.Conn
	stream message.Stream
	rest   []byte // was read, and is held
}

// Read implements net.Conn.
func (c *strictConn) Read(p []byte) (n int, err error) {
	if err := c.stream.Err(); err != nil {
		return 0, err
	}
	c.stream.Go(true)
	if len(c.rest) > 0 {
		n = copy(p, c.rest)
		c.rest = c.rest[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	taken, bad := c.stream.Take(p[:n])
	switch {
	case bad != nil && taken == 0:
		return 0, bad
	case bad != nil:
		return taken, nil
	case taken < n:
		c.rest = append(append([]byte(nil), p[taken:n]...), c.rest...)
		return taken, nil
	}
	return n, err //nolint:wrapcheck // it stands in for the connection
}

// NetConn is the connection below.
func (c *strictConn) NetConn() net.Conn { return c.Conn }

// fault is why the connection cannot be read any further, if it cannot.
func (c *strictConn) fault() error { return c.stream.Err() }

// requestID is the client's of its n-th request on the connection, if it is known.
func (c *strictConn) requestID(n uint64) []byte { return c.stream.RequestID(n) }

// leave has all that follows pass as it comes, and returns the connection below.
func (c *strictConn) leave() net.Conn {
	c.stream.Go(false)
	return c.Conn
}

// strictTLS is a strictConn of TLS, which the server knows by these methods.
type strictTLS struct {
	*strictConn
	tls *tls.Conn
}

// Handshake is that of TLS.
func (c *strictTLS) Handshake() error { return c.tls.Handshake() } //nolint:wrapcheck // it stands in for the connection

// ConnectionState is that of TLS.
func (c *strictTLS) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }
