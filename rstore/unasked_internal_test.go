package rstore

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// The ends of messages are found in whatever pieces these come.
func TestMessagesAreCounted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"":                                   0,
		"+OK\r\n":                            1,
		"-ERR no\r\n:1\r\n_\r\n":             3,
		",1.5\r\n#t\r\n(12345\r\n":           3,
		"$0\r\n\r\n":                         1,
		"$-1\r\n*-1\r\n":                     2,
		"$12\r\n+1\r\n+2\r\n+3\r\n\r\n":      1,
		"=6\r\ntxt:ab\r\n!3\r\nERR\r\n":      2,
		"*0\r\n":                             1,
		"*2\r\n$1\r\na\r\n$1\r\nb\r\n":       1,
		"*2\r\n*1\r\n:1\r\n*-1\r\n+OK\r\n":   2,
		"%1\r\n+a\r\n~2\r\n:1\r\n:2\r\n":     1,
		">2\r\n+invalidate\r\n*1\r\n+k\r\n":  0,
		">2\r\n+invalidate\r\n_\r\n+OK\r\n":  1,
		"|1\r\n+a\r\n:1\r\n*1\r\n:2\r\n":     1,
		"*1\r\n|1\r\n+a\r\n:1\r\n:2\r\n:3\r": 1,
		"*2\r\n:1\r\n":                       0,
		"$3\r\nab":                           0,
	} {
		var bytewise messages
		got := 0
		for i := range len(text) {
			n, err := bytewise.count([]byte(text[i : i+1]))
			if got += n; err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
		if got != want {
			t.Errorf("%q, byte by byte: %d messages, want %d", text, got, want)
		}
		for i := range len(text) + 1 {
			var m messages
			first, err1 := m.count([]byte(text[:i]))
			second, err2 := m.count([]byte(text[i:]))
			if err := errors.Join(err1, err2); first+second != want || err != nil {
				t.Errorf("%q, cut at %d: %d messages, %v, want %d", text, i, first+second, err, want)
			}
		}
	}
}

// What the client library would panic at, or make no sense of, is an error.
func TestWhatIsNoMessage(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"$-2\r\n", "*-2\r\n", "$-\r\n", "%-1\r\n", ">-1\r\n", "|-1\r\n", "$1-\r\n", "$--1\r\n", "$x\r\n",
		"$9999999999999999999999\r\n", "$5000000000\r\n", "*17000000\r\n", "*?\r\n", ".\r\n", "HTTP/1.1 200 OK\r\n", "\r\n",
		"*1\r\n$-7\r\n", "*1\r\n.\r\n",
	} {
		var m messages
		if n, err := m.count([]byte(text)); n != 0 || !errors.Is(err, errProtocol) {
			t.Errorf("%q: %d messages, %v", text, n, err)
		}
	}
}

// A connection hands over as many replies as there were commands. With one more, it fails,
// and hands over nothing that came with it.
func TestAConnectionFailsAtAReplyTooMany(t *testing.T) {
	t.Parallel()
	const ping, push = "*1\r\n$4\r\nPING\r\n", ">2\r\n+invalidate\r\n_\r\n"
	for name, c := range map[string]struct {
		good []string // what comes and is handed over
		bad  string   // what comes after it and is not
	}{
		"at once":          {nil, "+1\r\n+2\r\n+3\r\n"},
		"after the others": {[]string{"+1\r\n+2\r\n"}, "+2\r\n"},
		"after a push":     {[]string{push, "+1\r\n", push + push, "+2\r\n", push}, push + "+2\r\n"},
		"in two pieces":    {[]string{"+1\r", "\n+2\r\n+", "2\r"}, "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := net.Pipe()
			defer func() { _ = client.Close() }()
			go func() {
				defer func() { _ = server.Close() }()
				if _, err := io.ReadFull(server, make([]byte, 2*len(ping))); err != nil {
					return
				}
				for _, text := range append(c.good, c.bad) {
					_, _ = io.WriteString(server, text)
				}
			}()
			conn := &countingConn{Conn: client}
			for _, piece := range []string{ping[:7], ping[7:] + ping[:1], ping[1:]} {
				if _, err := io.WriteString(conn, piece); err != nil {
					t.Fatal(err)
				}
			}
			b := make([]byte, 100)
			for _, want := range c.good {
				if n, err := conn.Read(b); string(b[:n]) != want || err != nil {
					t.Errorf("it hands over %q, %v, want %q", b[:n], err, want)
				}
			}
			if n, err := conn.Read(b); n != 0 || !errors.Is(err, errUnasked) {
				t.Errorf("at a reply too many it hands over %q, %v", b[:n], err)
			}
		})
	}
}

// BenchmarkCounting is what it costs to count a new key's two commands and their replies.
func BenchmarkCounting(b *testing.B) {
	var asked strings.Builder
	for _, sizes := range [][]int{{7, 40, 1, 37, 74, 136, 8, 13, 16}, {7, 40, 1, 37, 74, 1, 16, 6, 24, 8, 400, 8}} {
		fmt.Fprintf(&asked, "*%d\r\n", len(sizes))
		for _, n := range sizes {
			fmt.Fprintf(&asked, "$%d\r\n%s\r\n", n, strings.Repeat("x", n))
		}
	}
	write, read := []byte(asked.String()), []byte(":1764271234567\r\n:6\r\n")
	var w, r messages
	for b.Loop() {
		n, err1 := w.count(write)
		m, err2 := r.count(read)
		if err := errors.Join(err1, err2); n != 2 || m != 2 || err != nil {
			b.Fatalf("%d commands, %d replies, %v", n, m, err)
		}
	}
}
