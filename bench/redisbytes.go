package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// contents are the bytes of all names and of all strings in Redis: what somebody put
// there, without what Redis needs to find it and to let it expire.
func contents(addr string) (names, values float64, err error) {
	conn, err := net.DialTimeout("tcp", addr, time.Minute)
	if err != nil {
		return 0, 0, fmt.Errorf("asking Redis: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, 0, fmt.Errorf("asking Redis: %w", err)
	}
	c := conversation{conn, bufio.NewReader(conn)}
	for cursor := "0"; ; {
		keys, next, err := c.scan(cursor)
		if err != nil {
			return 0, 0, fmt.Errorf("asking Redis: %w", err)
		}
		for _, key := range keys {
			names += float64(len(key))
		}
		sum, err := c.lengths(keys)
		if err != nil {
			return 0, 0, fmt.Errorf("asking Redis: %w", err)
		}
		values += sum
		if cursor = next; cursor == "0" {
			return names, values, nil
		}
	}
}

// conversation is with a Redis server.
type conversation struct {
	to   io.Writer
	from *bufio.Reader
}

// scan is one step of SCAN.
func (c conversation) scan(cursor string) (keys []string, next string, err error) {
	if _, err := c.to.Write(command("SCAN", cursor, "COUNT", "1000")); err != nil {
		return nil, "", fmt.Errorf("sending SCAN: %w", err)
	}
	if _, err := c.line('*'); err != nil {
		return nil, "", err
	}
	if next, err = c.text(); err != nil {
		return nil, "", err
	}
	n, err := c.line('*')
	for ; err == nil && n > 0; n-- {
		var key string
		key, err = c.text()
		keys = append(keys, key)
	}
	return keys, next, err
}

// lengths adds up those of the strings among the keys.
func (c conversation) lengths(keys []string) (sum float64, err error) {
	var all []byte
	for _, key := range keys {
		all = append(all, command("STRLEN", key)...)
	}
	if _, err := c.to.Write(all); err != nil {
		return 0, fmt.Errorf("sending STRLEN: %w", err)
	}
	for range keys {
		text, err := c.from.ReadString('\n')
		if err != nil {
			return 0, fmt.Errorf("reading lengths: %w", err)
		}
		if n, err := strconv.Atoi(strings.Trim(text, ":\r\n")); err == nil { // else it is no string
			sum += float64(n)
		}
	}
	return sum, nil
}

// line reads a number behind its sign.
func (c conversation) line(sign byte) (int, error) {
	text, err := c.from.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("reading a reply: %w", err)
	}
	n, err := strconv.Atoi(strings.Trim(text[1:], "\r\n"))
	if err != nil || text[0] != sign {
		return 0, fmt.Errorf("it says %q", text)
	}
	return n, nil
}

func (c conversation) text() (string, error) {
	n, err := c.line('$')
	if err != nil {
		return "", err
	}
	b := make([]byte, n+len("\r\n"))
	_, err = io.ReadFull(c.from, b)
	return string(b[:n]), err
}

func command(words ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b
}

// plain is what Redis needs for a key with a name and a value of these many bytes that
// somebody put there with SET and a time to live. It empties Redis before and after.
func plain(addr string, name, value int) (float64, error) {
	const keys = 20_000
	if err := flush(addr); err != nil {
		return 0, err
	}
	before, err := redisInfo(addr, "memory")
	if err != nil {
		return 0, err
	}
	conn, err := net.DialTimeout("tcp", addr, time.Minute)
	if err != nil {
		return 0, fmt.Errorf("asking Redis: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, fmt.Errorf("asking Redis: %w", err)
	}
	from, text := bufio.NewReader(conn), strings.Repeat("v", value)
	for i := range keys {
		if _, err := conn.Write(command("SET", fmt.Sprintf("%0*d", max(name, 1), i), text, "PX", "86400000")); err != nil {
			return 0, fmt.Errorf("sending SET: %w", err)
		}
		if answer, err := from.ReadString('\n'); err != nil || !strings.HasPrefix(answer, "+OK") {
			return 0, errors.Join(fmt.Errorf("a SET was answered with %q", answer), err)
		}
	}
	after, err := redisInfo(addr, "memory")
	return (after["used_memory"] - before["used_memory"]) / keys, errors.Join(err, flush(addr))
}
