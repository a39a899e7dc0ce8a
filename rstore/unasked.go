package rstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
)

// errUnasked: more replies came over a connection than commands were sent over it.
var errUnasked = errors.New("a reply came that no command asked for")

// counting makes connections that fail at a reply which no command asked for.
//
// The client library (v1.0.79) panics at such a reply, on a goroutine of its own, where
// nobody can recover: _backgroundRead in its pipe.go. It has no hook there. So the connection
// must not hand the reply over. To find the replies, both directions are read once more,
// line by line: strings, which are nearly all of the bytes, are passed over.
func (d dialer) counting() dialer {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := d(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &countingConn{Conn: conn}, nil
	}
}

// countingConn is a connection that fails at a reply too many. What was asked over it and has
// no answer yet is then in doubt, as if it had broken. One goroutine at a time reads, and one
// writes.
type countingConn struct {
	net.Conn
	asked, came messages
	open        atomic.Int64 // commands without a reply
}

func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.asked.count(b)
	if err != nil {
		return 0, err
	}
	c.open.Add(int64(n))   // before the server can have answered
	return c.Conn.Write(b) //nolint:wrapcheck // as a connection's
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	replies, wrong := c.came.count(b[:n])
	if left := c.open.Add(int64(-replies)); wrong == nil && left < 0 {
		wrong = errUnasked
	}
	if wrong != nil {
		return 0, wrong // not even those before it: which of them is the one too many is not known
	}
	return n, err //nolint:wrapcheck // as a connection's
}

// The longest string and the longest array that are taken for real. The library makes room
// for them at once.
const (
	longestString = 1 << 32
	longestArray  = 1 << 24
)

// messages finds the ends of messages in what goes one way over a connection, in whatever
// pieces. It speaks RESP3, as far as Redis does.
type messages struct {
	kind   byte  // of the value whose first line has begun; 0: between values
	length int64 // that this line says, as far as it was read
	none   bool  // it says -1
	text   int64 // bytes of a string that are to come, its line's end included
	values int64 // of the message that are to come; 0: between messages
	push   bool  // the message is not a reply
}

// count is how many messages end in b. Pushes do not count.
func (m *messages) count(b []byte) (n int, err error) {
	for len(b) > 0 {
		switch {
		case m.text > 0:
			skipped := min(m.text, int64(len(b)))
			m.text -= skipped
			b = b[skipped:]
		case m.kind == 0:
			if m.values == 0 {
				m.values, m.push = 1, b[0] == '>'
			}
			m.kind, m.length, m.none = b[0], 0, false
			b = b[1:]
		default:
			if b, err = m.line(b); err != nil {
				return n, err
			}
		}
		if m.kind == 0 && m.text == 0 && m.values == 0 && !m.push {
			n++
		}
	}
	return n, nil
}

// line reads what b has of the line that a value begins with, and returns the rest.
func (m *messages) line(b []byte) ([]byte, error) {
	switch m.kind {
	case '+', '-', ':', '_', ',', '#', '(':
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return nil, nil
		}
		m.values--
		m.kind = 0
		return b[end+1:], nil
	case '$', '=', '!', '*', '~', '%', '>', '|':
	default:
		return nil, fmt.Errorf("%w: a value of the kind %q", errProtocol, m.kind)
	}
	for i, c := range b {
		switch {
		case c >= '0' && c <= '9' && m.length <= longestString:
			m.length = 10*m.length + int64(c-'0')
		case c == '-' && m.length == 0 && !m.none:
			m.none = true
		case c == '\r':
		case c == '\n':
			return b[i+1:], m.sized()
		default:
			return nil, fmt.Errorf("%w: a length with %q", errProtocol, c)
		}
	}
	return nil, nil
}

// sized ends the line of a value that has a length.
func (m *messages) sized() error {
	kind, length := m.kind, m.length
	isText := kind == '$' || kind == '=' || kind == '!'
	switch {
	case m.none && (length != 1 || kind == '%' || kind == '>' || kind == '|'),
		isText && length > longestString, !isText && length > longestArray:
		return fmt.Errorf("%w: a length of %d", errProtocol, length)
	case m.none:
	case isText:
		m.text = length + 2
	case kind == '%':
		m.values += 2 * length
	case kind == '|': // it stands before a value, and is none
		m.values += 2*length + 1
	default:
		m.values += length
	}
	m.values--
	m.kind = 0
	return nil
}
