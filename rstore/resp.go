package rstore

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// wire speaks RESP2 over a connection: for what is asked of a server before the
// client library gets its connection, and of Sentinels, which it hides.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
}

// What a reply may have at most; ours are far smaller.
const (
	maxBulk  = 1 << 20
	maxItems = 1 << 14
	maxDepth = 4
)

// errProtocol is what no Redis says.
var errProtocol = errors.New("it does not speak Redis's protocol")

// nothing is a reply of no value.
type nothing struct{}

// refusal is an error that the server answered with.
type refusal string

// Error implements error.
func (r refusal) Error() string { return string(r) }

func newWire(conn net.Conn) *wire { return &wire{conn: conn, r: bufio.NewReader(conn)} }

// ask sends the commands in one packet and returns a reply of each: a string, an
// int64, nothing, []any, or a refusal. The refusal of the first one is an error at once:
// who refuses may say nothing more, or hang up, and may have done so before all was sent.
func (w *wire) ask(commands ...[]string) ([]any, error) {
	var b strings.Builder
	for _, command := range commands {
		fmt.Fprintf(&b, "*%d\r\n", len(command))
		for _, arg := range command {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
		}
	}
	_, unsent := io.WriteString(w.conn, b.String())
	replies := make([]any, len(commands))
	for i := range replies {
		var err error
		replies[i], err = w.read(maxDepth)
		refused, is := replies[i].(refusal)
		switch {
		case is && i == 0:
			return nil, refused
		case unsent != nil:
			return nil, fmt.Errorf("asking: %w", unsent)
		case err != nil:
			return nil, err
		}
	}
	return replies, nil
}

// subscribe asks for the messages of channels, and awaits that each is granted.
func (w *wire) subscribe(patterns []string) error {
	if _, err := w.ask(append([]string{"PSUBSCRIBE"}, patterns...)); err != nil {
		return err
	}
	for range len(patterns) - 1 {
		reply, err := w.read(maxDepth)
		if err != nil {
			return err
		}
		if refused, is := reply.(refusal); is { // one for all that are left
			return refused
		}
	}
	return nil
}

func (w *wire) read(depth int) (any, error) {
	line, err := w.r.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, errProtocol
	}
	text := string(line[1 : len(line)-2])
	switch line[0] {
	case '+':
		return text, nil
	case '-':
		text, _, _ = strings.Cut(text, ", with args beginning with") // a password, cut short
		return refusal(text), nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, errProtocol
	}
	switch {
	case line[0] == ':':
		return n, nil
	case n == -1 && (line[0] == '$' || line[0] == '*'):
		return nothing{}, nil
	case line[0] == '$' && n >= 0 && n <= maxBulk:
		b := make([]byte, n+2)
		if _, err := io.ReadFull(w.r, b); err != nil {
			return nil, fmt.Errorf("reading: %w", err)
		}
		return string(b[:n]), nil
	case line[0] == '*' && n >= 0 && n <= maxItems && depth > 0:
		return w.readItems(int(n), depth-1)
	}
	return nil, errProtocol
}

func (w *wire) readItems(n, depth int) ([]any, error) {
	items := make([]any, 0, min(n, 16))
	for range n {
		item, err := w.read(depth)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

// pairs are a reply's names and values; what is no text is left out.
func pairs(reply any) map[string]string {
	items, _ := reply.([]any)
	fields := map[string]string{}
	for i := 0; i+1 < len(items); i += 2 {
		name, ok1 := items[i].(string)
		value, ok2 := items[i+1].(string)
		if ok1 && ok2 {
			fields[name] = value
		}
	}
	return fields
}
