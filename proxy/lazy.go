package proxy

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// lazyDeadline is a connection's read deadline, which the connection is told of only
// when it matters. The server sets two for each request, to wait for its first byte
// and for the rest of its header, and most requests come whole: of the deadlines of a
// connection that is kept alive hardly any would ever be looked at, and setting one
// costs as much as parsing a small header. What the connection has been told may be
// earlier than what is wanted, and then it is told again when that time has come; it is
// never later while somebody reads.
type lazyDeadline struct {
	mu      sync.Mutex
	wanted  time.Time // guarded by mu; zero: none
	told    time.Time // guarded by mu; as well
	reading bool      // guarded by mu
}

// set is SetReadDeadline. It also ends a Read that waits, as it does of any connection.
func (d *lazyDeadline) set(conn net.Conn, t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = t
	if d.reading {
		return d.tell(conn)
	}
	return nil
}

// tell is called with mu held.
func (d *lazyDeadline) tell(conn net.Conn) error {
	if d.wanted.IsZero() || !d.told.IsZero() && !d.wanted.Before(d.told) {
		return nil
	}
	d.told = d.wanted
	return conn.SetReadDeadline(d.told) //nolint:wrapcheck // it stands in for the connection
}

// read reads, and goes on if the connection gives up before it should.
func (d *lazyDeadline) read(conn net.Conn, p []byte) (int, error) {
	for {
		if err := d.begin(conn); err != nil {
			return 0, err
		}
		n, err := conn.Read(p)
		if !d.end(conn, n, err) {
			return n, err //nolint:wrapcheck // it stands in for the connection
		}
	}
}

func (d *lazyDeadline) begin(conn net.Conn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reading = true
	return d.tell(conn)
}

// end says whether a Read that got nothing ended for a deadline that is not wanted any
// more. The connection has then been told the one that is.
func (d *lazyDeadline) end(conn net.Conn, n int, err error) (again bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reading = false
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !d.wanted.IsZero() && !time.Now().Before(d.wanted) {
		return false
	}
	d.told = d.wanted
	return conn.SetReadDeadline(d.told) == nil
}
