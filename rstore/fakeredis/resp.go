package fakeredis

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A reply is nil, a string, an int64, []any or one of these.
type (
	status string
	fault  string
	pairs  []any // names and values
)

const (
	maxArgs = 1 << 20
	maxBulk = 512 << 20
)

var errProtocol = errors.New("fakeredis: protocol error")

// readCommand reads a client's: an array of strings, or words on a line.
func readCommand(r *bufio.Reader) ([]string, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(line, "*") {
		return strings.Fields(line), nil
	}
	n, err := size(line, maxArgs)
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		if line, err = readLine(r); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(line, "$") {
			return nil, errProtocol
		}
		if n, err = size(line, maxBulk); err != nil {
			return nil, err
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, fmt.Errorf("fakeredis: reading: %w", err)
		}
		args[i] = string(b[:n])
	}
	return args, nil
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("fakeredis: reading: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func size(line string, most int) (int, error) {
	n, err := strconv.Atoi(line[1:])
	if err != nil || n < 0 || n > most {
		return 0, errProtocol
	}
	return n, nil
}

// appendReply appends one in a version of the protocol.
func appendReply(b []byte, reply any, proto int) []byte {
	switch v := reply.(type) {
	case nil:
		if proto == 2 {
			return append(b, "$-1\r\n"...)
		}
		return append(b, "_\r\n"...)
	case status:
		return fmt.Appendf(b, "+%s\r\n", string(v))
	case fault:
		return fmt.Appendf(b, "-%s\r\n", strings.NewReplacer("\r", " ", "\n", " ").Replace(string(v)))
	case string:
		b = append(strconv.AppendInt(append(b, '$'), int64(len(v)), 10), "\r\n"...)
		return append(append(b, v...), "\r\n"...)
	case int64:
		return fmt.Appendf(b, ":%d\r\n", v)
	case []any:
		return appendAll(fmt.Appendf(b, "*%d\r\n", len(v)), v, proto)
	case pairs:
		if proto == 2 {
			return appendReply(b, []any(v), proto)
		}
		return appendAll(fmt.Appendf(b, "%%%d\r\n", len(v)/2), v, proto)
	}
	return fmt.Appendf(b, "-ERR fakeredis: a reply of type %T\r\n", reply)
}

func appendAll(b []byte, all []any, proto int) []byte {
	for _, v := range all {
		b = appendReply(b, v, proto)
	}
	return b
}
