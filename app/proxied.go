package app

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/pires/go-proxyproto"

	"github.com/idemproxy/idemproxy/config"
)

// Why a connection is refused where PROXY headers are due, besides those of package
// proxy.
const (
	notTrusted  = "not_trusted"
	proxyHeader = "proxy_header"
)

// refusing is told why a connection gets no further. id is empty unless it was answered.
type refusing func(why string, peer net.Addr, id []byte, err error)

// proxied is a listener whose connections begin with a PROXY header.
func proxied(ln net.Listener, c *config.Config, trusted *atomic.Pointer[[]netip.Prefix], refused refusing) net.Listener {
	return &proxiedListener{refused: refused, Listener: &proxyproto.Listener{
		Listener: heardListener{ln}, ConnPolicy: trustedOnly(trusted, refused),
		ReadHeaderTimeout: c.HeaderTimeout, ValidateHeader: overTCP,
	}}
}

type proxiedListener struct {
	net.Listener
	refused refusing
}

// Accept implements net.Listener.
func (l *proxiedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err //nolint:wrapcheck // it stands in for the listener
		}
		if p, ok := c.(*proxyproto.Conn); ok {
			return &proxiedConn{Conn: p, refused: l.refused}, nil
		}
		_ = c.Close() // trustedOnly lets nobody do without
	}
}

// proxiedConn is a connection that begins with a PROXY header. If that is none, the
// connection ends without a word: who speaks the protocol does not speak HTTP yet.
type proxiedConn struct {
	*proxyproto.Conn
	refused refusing
	once    sync.Once
	err     error
}

// Read implements net.Conn.
func (c *proxiedConn) Read(p []byte) (int, error) {
	c.once.Do(c.begin)
	if c.err != nil {
		return 0, io.EOF
	}
	return c.Conn.Read(p) //nolint:wrapcheck // it stands in for the connection
}

// begin reads the header. Whoever connects and leaves without a word looks whether this
// proxy is there, and is none of the refused.
func (c *proxiedConn) begin() {
	if _, c.err = c.Conn.Read(nil); c.err == nil {
		return
	}
	if heard, ok := c.Raw().(*heardConn); ok && heard.any.Load() {
		c.refused(proxyHeader, c.Raw().RemoteAddr(), nil, c.err)
	}
}

// NetConn is the connection below.
func (c *proxiedConn) NetConn() net.Conn { return c.Raw() }

// heardListener is one whose connections know whether anything came.
type heardListener struct{ net.Listener }

// Accept implements net.Listener.
func (l heardListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // it stands in for the listener
	}
	return &heardConn{Conn: c}, nil
}

type heardConn struct {
	net.Conn
	any atomic.Bool
}

// Read implements net.Conn.
func (c *heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.any.Load() {
		c.any.Store(true)
	}
	return n, err //nolint:wrapcheck // it stands in for the connection
}

// NetConn is the connection below.
func (c *heardConn) NetConn() net.Conn { return c.Conn }

// trustedOnly has those begin with a PROXY header that may, and nobody else
// connect: whoever left it out would pass for a proxy himself.
func trustedOnly(trusted *atomic.Pointer[[]netip.Prefix], refused refusing) proxyproto.ConnPolicyFunc {
	return func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
		tcp, ok := o.Upstream.(*net.TCPAddr)
		if ok {
			ip, _ := netip.AddrFromSlice(tcp.IP)
			for _, p := range *trusted.Load() {
				if p.Contains(ip.Unmap()) {
					return proxyproto.REQUIRE, nil
				}
			}
		}
		refused(notTrusted, o.Upstream, nil, errNotTrusted)
		return proxyproto.REJECT, proxyproto.ErrInvalidUpstream
	}
}

// Why connections are refused.
var (
	errNotTrusted = errors.New("only trusted_proxies may connect (proxy_protocol)")
	// errNotStream is a PROXY header about something that carries no HTTP/1.1.
	errNotStream = errors.New("the PROXY header is not about a TCP connection")
)

// overTCP refuses headers that name no client of a stream: its address is what
// backends, limits and logs go by.
func overTCP(h *proxyproto.Header) error {
	if h.Command.IsLocal() || h.TransportProtocol.IsStream() && !h.TransportProtocol.IsUnix() {
		return nil
	}
	return errNotStream
}
