package proxy

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// told counts how often a connection's read deadline is set.
type told struct {
	net.Conn
	times int
}

// SetReadDeadline implements net.Conn.
func (c *told) SetReadDeadline(t time.Time) error {
	c.times++
	return c.Conn.SetReadDeadline(t)
}

// onClock runs f with both ends of a client's connection, on a fake clock.
func onClock(t *testing.T, f func(t *testing.T, c *clientConn, client net.Conn, below *told)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ours, client := net.Pipe()
		defer func() { _, _ = ours.Close(), client.Close() }()
		below := &told{Conn: ours}
		f(t, &clientConn{Conn: below}, client, below)
	})
}

// waits says how long a Read waits in vain.
func waits(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	begun := time.Now()
	if n, err := c.Read(make([]byte, 8)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes: %v", n, err)
	}
	return time.Since(begun)
}

// TestLazyDeadlineOfRequests: requests that come whole have the connection told
// once, however many deadlines the server sets.
func TestLazyDeadlineOfRequests(t *testing.T) {
	t.Parallel()
	onClock(t, func(t *testing.T, c *clientConn, client net.Conn, below *told) {
		for range 100 {
			if err := c.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = client.Write([]byte("whole")) }()
			if n, err := c.Read(make([]byte, 8)); n != 5 || err != nil {
				t.Fatal(n, err)
			}
			if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if below.times > 2 { // at first, and perhaps after two minutes
			t.Errorf("the connection was told %d times", below.times)
		}
	})
}

// TestLazyDeadline: each deadline ends a Read when it should, whatever the connection
// was told before.
func TestLazyDeadline(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ before, wanted time.Duration }{
		"the first":                {0, 10 * time.Second},
		"earlier":                  {2 * time.Minute, 10 * time.Second},
		"later":                    {10 * time.Second, 2 * time.Minute},
		"later than one long gone": {time.Second, 2 * time.Minute},
		"in the past":              {2 * time.Minute, -time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onClock(t, func(t *testing.T, conn *clientConn, client net.Conn, _ *told) {
				if c.before > 0 { // as the request before had it
					_ = conn.SetReadDeadline(time.Now().Add(c.before))
					go func() { _, _ = client.Write([]byte("x")) }()
					if _, err := conn.Read(make([]byte, 8)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(5 * time.Second)
				}
				_ = conn.SetReadDeadline(time.Now().Add(c.wanted))
				if got := waits(t, conn); got != max(c.wanted, 0) {
					t.Errorf("gave up after %v instead of %v", got, c.wanted)
				}
			})
		})
	}
}

// TestLazyDeadlineMovesUnderARead: another goroutine may end a Read that waits, have it
// wait longer, or for ever.
func TestLazyDeadlineMovesUnderARead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		to   time.Duration // from the move on; 0: for ever
		ends time.Duration // from the beginning
	}{
		"now":      {-time.Hour, 3 * time.Second},
		"sooner":   {time.Second, 4 * time.Second},
		"later":    {time.Minute, 63 * time.Second},
		"for ever": {0, 1000 * time.Second}, // when bytes come
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onClock(t, func(t *testing.T, conn *clientConn, client net.Conn, _ *told) {
				begun := time.Now()
				_ = conn.SetReadDeadline(begun.Add(time.Minute))
				go func() {
					time.Sleep(3 * time.Second)
					var to time.Time
					if c.to != 0 {
						to = time.Now().Add(c.to)
					}
					_ = conn.SetReadDeadline(to)
					if c.to == 0 {
						time.Sleep(997 * time.Second)
						_, _ = client.Write([]byte("x"))
					}
				}()
				n, err := conn.Read(make([]byte, 8))
				if got := time.Since(begun); got != c.ends || (n == 0) != (c.to != 0) || (err == nil) != (c.to == 0) {
					t.Errorf("read %d bytes (%v) after %v instead of %v", n, err, got, c.ends)
				}
			})
		})
	}
}

// TestSetDeadlineIsOfReadsToo: SetDeadline is both.
func TestSetDeadlineIsOfReadsToo(t *testing.T) {
	t.Parallel()
	onClock(t, func(t *testing.T, c *clientConn, _ net.Conn, _ *told) {
		if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if got := waits(t, c); got != time.Second {
			t.Errorf("gave up after %v", got)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a write after the deadline: %v", err)
		}
	})
}
