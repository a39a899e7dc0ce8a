package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// backendConn is a connection that knows whether anything was written to it, and
// can look whether the backend has closed it.
type backendConn struct {
	net.Conn
	written atomic.Int64
	raw     syscall.RawConn
	peek    func(fd uintptr) bool // made once, since a closure a request would be garbage
	release func(reuse bool)      // as well: gives the connection back to where it came from; see endpoint.do
	state   error
	used    bool
	tls     bool

	readTimeout, writeTimeout time.Duration // between two reads, or writes; 0 for none

	mu       sync.Mutex
	deadline time.Time // of the exchange under way, guarded by mu; see bound
	// uploading: the request is on its way while the response is awaited. Guarded by
	// mu; patience is how long the backend may take nothing of it.
	uploading bool
	patience  time.Duration
	last      time.Time // see endBy; guarded by mu
	drained   bool      // see nothingLeft
	ended     bool      // the backend has ended its side of the connection; of the reader alone
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

// bound has an exchange end at deadline, unless that is zero.
func (b *backendConn) bound(deadline time.Time) error {
	if deadline.IsZero() && b.deadline.IsZero() && b.readTimeout == 0 && b.writeTimeout == 0 && b.patience == 0 && b.last.IsZero() {
		return nil // nothing was ever set
	}
	b.deadline, b.patience, b.last = deadline, 0, time.Time{}
	return b.SetDeadline(deadline) //nolint:wrapcheck // it stands in for the connection
}

// beginUpload has no time pass while the client sends: only the backend's own count,
// in which it takes nothing.
func (b *backendConn) beginUpload(patience time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uploading, b.patience, b.deadline = true, patience, time.Time{}
	return b.SetDeadline(time.Time{}) //nolint:wrapcheck // it stands in for the connection
}

// endUpload has the rest of the response come within a time (0: no bound).
func (b *backendConn) endUpload(within time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uploading = false
	b.deadline = time.Time{}
	if within > 0 {
		b.deadline = time.Now().Add(within)
	}
	b.deadline = earlier(b.deadline, b.last)
	_ = b.SetReadDeadline(b.next(b.readTimeout)) // if it cannot be set, reading fails too
	_ = b.SetWriteDeadline(b.deadline)
}

// next is when an operation that starts now has to have ended; zero: no bound. It
// is called with mu held.
func (b *backendConn) next(timeout time.Duration) time.Time {
	if timeout <= 0 {
		return b.deadline
	}
	at := time.Now().Add(timeout)
	if !b.deadline.IsZero() && b.deadline.Before(at) {
		return b.deadline
	}
	return at
}

// Read implements net.Conn.
func (b *backendConn) Read(p []byte) (int, error) {
	if b.drained {
		return 0, errDrained
	}
	if b.readTimeout > 0 {
		b.mu.Lock()
		var err error
		if !b.uploading {
			err = b.SetReadDeadline(b.next(b.readTimeout))
		}
		b.mu.Unlock()
		if err != nil {
			return 0, err //nolint:wrapcheck // it stands in for the connection
		}
	}
	n, err := b.Conn.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err //nolint:wrapcheck // as above
}

// endedAlone says that the backend's side ended without the alert by which TLS says that nothing
// was cut off (RFC 8446 section 6.1). TLS itself takes it for an end between two records. With
// the alert, it does not read as far as the connection's end.
func endedAlone(conn net.Conn) bool {
	b := unwrap(conn)
	return b != nil && b.tls && b.ended
}

// Write implements net.Conn.
func (b *backendConn) Write(p []byte) (int, error) {
	timeout := b.writeTimeout
	if b.patience > 0 && (timeout == 0 || b.patience < timeout) {
		timeout = b.patience
	}
	if timeout > 0 {
		b.mu.Lock()
		err := b.SetWriteDeadline(b.next(timeout))
		b.mu.Unlock()
		if err != nil {
			return 0, err //nolint:wrapcheck // as above
		}
	}
	n, err := b.Conn.Write(p)
	b.written.Add(int64(n))
	return n, err //nolint:wrapcheck // as above
}

// drainedError is what TLS gets to read that may read no further. A temporary error
// is one after which it goes on.
type drainedError struct{}

var errDrained drainedError

func (drainedError) Error() string   { return "nothing is to be read now" }
func (drainedError) Timeout() bool   { return true }
func (drainedError) Temporary() bool { return true }

// nothingLeft says that nothing is left of what was read from the connection: TLS
// decrypts whole records, which may have more in them than was asked for, and what
// is left of one would be the begin of the next exchange's response. What is still
// in the socket, aliveBeforeWrite sees.
func nothingLeft(conn net.Conn) bool {
	t, ok := conn.(*tls.Conn)
	if !ok {
		return true
	}
	b := unwrap(conn)
	if b == nil {
		return false
	}
	b.drained = true
	defer func() { b.drained = false }()
	var one [1]byte
	n, err := t.Read(one[:])
	return n == 0 && errors.Is(err, errDrained)
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
		return b.written.Load()
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

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// Network is how backends are reached; tests have their own.
type Network struct {
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error) // nil: the system's
	Lookup func(ctx context.Context, host string) ([]string, error)          // nil: the system's
}

// dialer connects to a backend, TLS handshake included, so that a handshake
// that fails is known to have sent nothing.
type dialer struct {
	network, addr string
	timeout       time.Duration
	tls           *tls.Config // nil: plain text
	dial          dialFunc    // nil: the network's

	readTimeout, writeTimeout time.Duration
}

// Dialer connects to a backend outside of any Upstream.
func (b *Backend) Dialer(timeout time.Duration) func(string) (net.Conn, error) {
	d := &dialer{network: b.Network, addr: b.Addr, timeout: timeout}
	if b.TLS {
		name, _, _ := net.SplitHostPort(b.Addr)
		d.tls = &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	}
	return d.connect
}

func (d *dialer) connect(string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout)
	defer cancel()
	return d.connectIn(ctx)
}

func (d *dialer) connectIn(ctx context.Context) (net.Conn, error) {
	dial := d.dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	c, err := dial(ctx, d.network, d.addr)
	if err != nil {
		return nil, fmt.Errorf("connecting to the backend: %w", err)
	}
	b := newBackendConn(c, d.tls != nil)
	b.readTimeout, b.writeTimeout = d.readTimeout, d.writeTimeout
	if d.tls == nil {
		return b, nil
	}
	t := tls.Client(b, d.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("TLS handshake with the backend: %w", err)
	}
	return t, nil
}
