package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// upstream sends requests to one backend over fasthttp's HostClient, which keeps
// the connections. How a request goes over a connection is written here, since
// the promise of never sending twice depends on each step: no retry, no write
// before the connection was seen to be alive, and a record of whether a byte was
// written.
type upstream struct {
	client  *fasthttp.HostClient
	timeout time.Duration // of the whole exchange; 0 for none
}

// errNoConn: MaxConns are in use and none became free.
var errNoConn = errors.New("no connection to the backend is free")

// errTooManyInterim: RFC 9110 section 15.2 sets no bound; this one is ours.
var errTooManyInterim = errors.New("too many interim (1xx) responses")

// errUpgraded: Upgrade is not forwarded, so nothing may answer 101.
var errUpgraded = errors.New("the backend switched protocols unasked")

const maxInterim = 16

// exchange is one request's way to the backend and back.
type exchange struct {
	sent    idem.Sent
	err     error // why it is not Answered
	timeout bool
	// rest is what was not read into the response: the response is longer than
	// asked for, or its length is not known. The exchange is Answered only when
	// rest has been read to its end.
	rest     *responseStream
	prefix   []byte // of rest, already read
	deadline time.Time
}

func (e *exchange) fail(sent idem.Sent, err error) {
	e.sent, e.err = sent, err
	e.timeout = !e.deadline.IsZero() && !time.Now().Before(e.deadline)
}

// clean takes the hop-by-hop fields off the response.
func (e *exchange) clean(resp *fasthttp.Response) {
	if e.err != nil {
		return
	}
	if err := cleanResponse(resp); err != nil {
		if e.rest != nil {
			e.rest.end(false)
			e.rest = nil
		}
		e.fail(idem.MayHaveExecuted, err)
	}
}

// do sends req and reads the response's header, and its body if that is known
// to have at most buffer bytes.
func (u *upstream) do(req *fasthttp.Request, resp *fasthttp.Response, buffer int) (e exchange) {
	if u.timeout > 0 {
		e.deadline = time.Now().Add(u.timeout)
	}
	for {
		cc, err := u.client.AcquireConn(u.timeout, false)
		if err != nil {
			if errors.Is(err, fasthttp.ErrNoFreeConns) {
				err = errNoConn
			}
			e.fail(idem.NothingSent, err)
			return e
		}
		conn := cc.Conn()
		if u.timeout > 0 {
			err = conn.SetDeadline(e.deadline)
		}
		if err == nil {
			err = aliveBeforeWrite(conn)
		}
		if err == nil {
			u.exchange(&e, &pooledConn{release: func(reuse bool) {
				if reuse {
					u.client.ReleaseConn(cc)
				} else {
					u.client.CloseConn(cc)
				}
			}, conn: conn}, req, resp, buffer)
			return e
		}
		// Closed by the backend since its last use, and noticed before a byte
		// was written: the one case in which another connection is taken. A
		// backend that closes a new one has no use for further ones either.
		fresh := isFresh(conn)
		u.client.CloseConn(cc)
		if fresh {
			e.fail(idem.NothingSent, err)
			return e
		}
	}
}

// pooledConn is a connection on loan.
type pooledConn struct {
	conn    net.Conn
	release func(reuse bool)
}

func (u *upstream) exchange(
	e *exchange, c *pooledConn, req *fasthttp.Request, resp *fasthttp.Response, buffer int,
) {
	before := written(c.conn)
	bw := u.client.AcquireWriter(c.conn)
	err := req.Write(bw)
	if err == nil {
		err = bw.Flush()
	}
	u.client.ReleaseWriter(bw)
	if err != nil {
		sent := idem.MayHaveExecuted
		if written(c.conn) == before {
			sent = idem.NothingSent
		}
		c.release(false)
		e.fail(sent, fmt.Errorf("sending the request: %w", err))
		return
	}

	br := u.client.AcquireReader(c.conn)
	resp.Header.DisableNormalizing()
	resp.Header.SetNoDefaultContentType(true)
	e.rest = &responseStream{upstream: u, conn: c, reader: br}
	if err = e.rest.start(req, resp, buffer); err != nil {
		e.rest.end(false)
		e.rest = nil
		e.fail(idem.MayHaveExecuted, fmt.Errorf("reading the response: %w", err))
		return
	}
	if e.rest.done {
		e.rest.end(true)
		e.rest = nil
	}
	e.sent = idem.Answered
}

// backendConn is a connection that knows whether anything was written to it, and
// can look whether the backend has closed it.
type backendConn struct {
	net.Conn
	written int64
	raw     syscall.RawConn
	peek    func(fd uintptr) bool // made once, since a closure a request would be garbage
	state   error
	used    bool
	tls     bool
}

var errConnClosed = errors.New("the backend has closed the connection")

func newBackendConn(c net.Conn, isTLS bool) *backendConn {
	b := &backendConn{Conn: c, tls: isTLS}
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			b.raw = raw
		}
	}
	b.peek = func(fd uintptr) bool {
		var buf [1]byte
		n, _, err := syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			b.state = nil // open, and nothing to read: as it should be
		case err == nil && n > 0 && b.tls && !b.used:
			b.state = nil // a session ticket, which comes unasked after a handshake
		default: // end of file (in TLS: its alert), an error, or bytes that belong to no request
			b.state = errConnClosed
		}
		return true
	}
	return b
}

// Write implements net.Conn.
func (b *backendConn) Write(p []byte) (int, error) {
	n, err := b.Conn.Write(p)
	b.written += int64(n)
	return n, err //nolint:wrapcheck // it stands in for the connection
}

func unwrap(conn net.Conn) *backendConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	b, _ := conn.(*backendConn)
	return b
}

// isFresh: nothing was ever sent over it.
func isFresh(conn net.Conn) bool {
	b := unwrap(conn)
	return b == nil || !b.used
}

func written(conn net.Conn) int64 {
	if b := unwrap(conn); b != nil {
		return b.written
	}
	return -1
}

// aliveBeforeWrite looks, without waiting, whether an idle connection was closed
// by the backend or has bytes on it that nobody asked for.
func aliveBeforeWrite(conn net.Conn) error {
	b := unwrap(conn)
	if b == nil || b.raw == nil {
		return nil
	}
	if err := b.raw.Read(b.peek); err != nil {
		return fmt.Errorf("looking at the connection: %w", err)
	}
	if b.state == nil {
		b.used = true // the caller is about to write
	}
	return b.state
}

type dialFunc = func(ctx context.Context, addr string) (net.Conn, error)

// dialer connects to the backend, TLS handshake included, so that a handshake
// that fails is known to have sent nothing.
func dialer(timeout time.Duration, tlsConfig *tls.Config, dial dialFunc) fasthttp.DialFunc {
	if dial == nil {
		d := &net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}
		dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	return func(addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		c, err := dial(ctx, addr)
		if err != nil {
			return nil, fmt.Errorf("connecting to the backend: %w", err)
		}
		b := newBackendConn(c, tlsConfig != nil)
		if tlsConfig == nil {
			return b, nil
		}
		t := tls.Client(b, tlsConfig)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("TLS handshake with the backend: %w", err)
		}
		return t, nil
	}
}

func tcpIP(a *net.TCPAddr) (netip.Addr, bool) {
	ip, ok := netip.AddrFromSlice(a.IP)
	return ip.Unmap(), ok
}
