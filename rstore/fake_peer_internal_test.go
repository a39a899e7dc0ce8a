package rstore

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
)

// peer is a connection in RESP3 that keeps pushes apart. A reply is a string, a simple one,
// a fault, an int64, nil or []any; a map is a list of names and values.
type peer struct {
	tb     testing.TB
	conn   net.Conn
	r      *bufio.Reader
	pushes []string
}

type (
	simple string
	fault  string
)

// newPeer greets, and tracks what it reads if that is asked for.
func newPeer(tb testing.TB, conn net.Conn, tracks bool) *peer {
	tb.Helper()
	tb.Cleanup(func() { _ = conn.Close() })
	p := &peer{tb: tb, conn: conn, r: bufio.NewReader(conn)}
	p.do("HELLO", "3")
	if tracks {
		p.do("CLIENT", "TRACKING", "ON", "NOLOOP")
	}
	return p
}

// do sends a command and reads its reply.
func (p *peer) do(args ...string) any {
	p.tb.Helper()
	return p.all(args)[0]
}

// all sends commands in one packet.
func (p *peer) all(commands ...[]string) (replies []any) {
	p.tb.Helper()
	var b strings.Builder
	for _, args := range commands {
		fmt.Fprintf(&b, "*%d\r\n", len(args))
		for _, arg := range args {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
		}
	}
	if _, err := io.WriteString(p.conn, b.String()); err != nil {
		p.tb.Fatal(err)
	}
	for len(replies) < len(commands) {
		kind, reply := p.read()
		if kind == '>' {
			p.pushes = append(p.pushes, fmt.Sprintf("%q", reply))
		} else {
			replies = append(replies, reply)
		}
	}
	return replies
}

// told returns what was pushed by now.
func (p *peer) told() []string {
	p.tb.Helper()
	p.do("PING")
	told := p.pushes
	p.pushes = nil
	return told
}

func (p *peer) read() (kind byte, reply any) {
	p.tb.Helper()
	line, err := p.r.ReadString('\n')
	if err != nil || len(line) < 3 {
		p.tb.Fatalf("reading %q: %v", line, err)
	}
	kind, text := line[0], line[1:len(line)-2]
	n, _ := strconv.Atoi(text)
	switch kind {
	case '+':
		return kind, simple(text)
	case '-':
		return kind, fault(text)
	case ':':
		return kind, int64(n)
	case '_':
		return kind, nil
	case '$':
		b := make([]byte, n+2)
		if _, err := io.ReadFull(p.r, b); err != nil {
			p.tb.Fatal(err)
		}
		return kind, string(b[:n])
	case '%':
		n *= 2
	case '*', '>', '~':
	default:
		p.tb.Fatalf("a reply that the test cannot read: %q", line)
	}
	all := make([]any, n)
	for i := range all {
		_, all[i] = p.read()
	}
	return kind, all
}
