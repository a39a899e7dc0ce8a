package differential_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// Behind readers that forward, too, is one of these. What it writes down is how
// the reader in front of it read the request.

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// startHTTPOrigin answers for a reader that says in X-Seen-Line and X-Seen-Port
// which request line it read, and on which connection.
func startHTTPOrigin(t *testing.T, name string, into *records) (addr string) {
	t.Helper()
	ln := listen(t)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		line := strings.Split(q.Header.Get("X-Seen-Line"), " ")
		port, notNumber := strconv.Atoi(q.Header.Get("X-Seen-Port"))
		if err != nil || notNumber != nil || len(line) != 3 {
			http.Error(w, "not read whole, or not by the reader", http.StatusInternalServerError)
			return
		}
		seen := recordOf(line[0], line[1], body, port)
		into.add(seen)
		w.Header().Set("X-Read-By", name)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(seen.json())))
		_, _ = w.Write(seen.json())
	})}
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(func() { _ = s.Close() })
	return ln.Addr().String()
}

// startSCGIOrigin is one for a reader that hands requests on taken apart.
func startSCGIOrigin(t *testing.T, name string, into *records) (addr string) {
	t.Helper()
	ln := listen(t)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				seen, err := readSCGI(bufio.NewReader(c))
				if err != nil {
					_, _ = io.WriteString(c, "Status: 500 Internal Server Error\r\n\r\n")
					return
				}
				into.add(seen)
				_, _ = fmt.Fprintf(c, "Status: 200 OK\r\nX-Read-By: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
					name, len(seen.json()), seen.json())
			}()
		}
	}()
	return ln.Addr().String()
}

// readSCGI reads a request: a netstring of names and values, each ended by NUL,
// and the body.
func readSCGI(br *bufio.Reader) (record, error) {
	size, err := br.ReadString(':')
	if err != nil {
		return record{}, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(size, ":"))
	if err != nil || n < 0 || n > 1<<20 {
		return record{}, errors.New("the head has no size")
	}
	head := make([]byte, n+1) // with a comma
	if _, err := io.ReadFull(br, head); err != nil {
		return record{}, err
	}
	vars := map[string]string{}
	for parts := bytes.Split(head[:n], []byte{0}); len(parts) >= 2; parts = parts[2:] {
		vars[string(parts[0])] = string(parts[1])
	}
	length, err := strconv.Atoi(vars["CONTENT_LENGTH"])
	if err != nil {
		return record{}, fmt.Errorf("the length: %w", err)
	}
	port, err := strconv.Atoi(vars["REMOTE_PORT"])
	if err != nil {
		return record{}, fmt.Errorf("the port: %w", err)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(br, body); err != nil {
		return record{}, err
	}
	return recordOf(vars["REQUEST_METHOD"], vars["REQUEST_URI"], body, port), nil
}
