package proxy

import (
	"crypto/tls"
	"io"
	"net"

	"github.com/idemproxy/idemproxy/message"
)

// strict is a listener of clients, as many as may be, whose connections are read by
// message.Stream first.
type strict struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (l strict) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err //nolint:wrapcheck // it stands in for the listener
		}
		if !l.server.clients.enter() {
			go func() {
				l.server.turnAway(c, TooManyClients, &problemClients, peerOf(c))
				_ = c.Close()
			}()
			continue
		}
		s := &strictConn{Conn: c, server: l.server, seat: seat{clients: &l.server.clients}}
		if t, ok := c.(*tls.Conn); ok {
			return &strictTLS{strictConn: s, tls: t}, nil
		}
		return s, nil
	}
}

// peerOf is who connected, as far as that is known without reading.
func peerOf(c net.Conn) net.Addr {
	if below := clientOf(c); below != nil {
		return below.RemoteAddr()
	}
	return c.RemoteAddr()
}

// strictConn is a client's connection. Nobody reads it at the same time as somebody
// else does.
type strictConn struct {
	net.Conn
	server *Server
	seat   seat
	stream message.Stream
	rest   []byte // was read, and is held
}

// begin is due before anything is read: who connects from where there are too many
// connections already is turned away. A PROXY header that says where that is is waited
// for, which is why this is not done when a connection is accepted.
func (c *strictConn) begin() error {
	if c.seat.asked {
		return c.seat.refused // the library reads on after a handshake that failed
	}
	c.seat.asked = true
	if c.server.clients.ofNetwork == 0 {
		return nil
	}
	peer := c.RemoteAddr()
	if c.seat.takeOf(peer, c.server.live.Load().trusted) {
		return nil
	}
	c.server.turnAway(c.Conn, TooManyOfAnAddress, &problemClientsOfAddress, peer)
	c.seat.refused = io.EOF // after which nothing more is said
	return c.seat.refused
}

// Close implements net.Conn.
func (c *strictConn) Close() error {
	c.seat.leave()
	return c.Conn.Close() //nolint:wrapcheck // it stands in for the connection
}

// Read implements net.Conn.
func (c *strictConn) Read(p []byte) (n int, err error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
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
func (c *strictTLS) Handshake() error {
	if err := c.begin(); err != nil {
		return err
	}
	return c.tls.Handshake() //nolint:wrapcheck // it stands in for the connection
}

// ConnectionState is that of TLS.
func (c *strictTLS) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }
