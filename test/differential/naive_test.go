package differential_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// naive is a forwarder with a bug that somebody's had. It takes one connection
// after the other, and has one to the backend.
type naive struct {
	*plant
	to     string
	back   net.Conn
	reader *bufio.Reader
	last   []byte // the answer before
}

// plant is a bug.
type plant struct {
	name string
	// byLength: a length counts, even beside a coding.
	byLength bool
	// forward writes the message; nil: as it came.
	forward func(q *naiveRequest) []byte
	// answers are those that the reader gives to what is written; 1 unless set.
	answers int
	// alone: it answers itself. stale: with the answer to the request before.
	alone, stale bool
	// stuck: readers may wait for what it does not send, or look at what is left
	// over only when more comes.
	stuck bool
	// messages that show it, and what must be said of one of them: a regular
	// expression.
	messages []string
	want     string
}

// naiveRequest is a request as the naive forwarder reads it.
type naiveRequest struct {
	head      string // with the empty line
	body, raw []byte // without and with its chunks
}

func (q *naiveRequest) whole() []byte { return append([]byte(q.head), q.raw...) }

// framed is the request with a body and its length.
func (q *naiveRequest) framed(body []byte) []byte {
	head := fmt.Sprintf("%sContent-Length: %d\r\n\r\n", q.unframed(), len(body))
	return append([]byte(head), body...)
}

var framing = regexp.MustCompile(`(?i)\r\n(content-length|transfer-encoding):[^\r\n]*`)

// unframed is the head without what says where the body ends, and without its
// empty line.
func (q *naiveRequest) unframed() string {
	return strings.TrimSuffix(framing.ReplaceAllString(q.head, ""), "\r\n")
}

func startNaive(t *testing.T, to string, p *plant) (addr string, stop func()) {
	t.Helper()
	ln := listen(t)
	n := &naive{plant: p, to: to}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				break
			}
			n.serve(c)
			_ = c.Close()
		}
		n.hangUp()
	}()
	return ln.Addr().String(), func() {
		_ = ln.Close()
		<-done
	}
}

func (n *naive) hangUp() {
	if n.back != nil {
		_ = n.back.Close()
		n.back = nil
	}
}

func (n *naive) serve(c net.Conn) {
	for br := bufio.NewReader(c); ; {
		q, err := n.read(br)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return
		}
		answer, err := n.exchange(q)
		if err != nil {
			n.hangUp()
			answer = []byte("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// read reads a request as far as a naive one can.
func (n *naive) read(br *bufio.Reader) (*naiveRequest, error) {
	q := &naiveRequest{}
	for !strings.HasSuffix(q.head, "\r\n\r\n") {
		line, err := br.ReadString('\n')
		if err != nil {
			return nil, err
		}
		q.head += line
	}
	if len(strings.Fields(strings.SplitN(q.head, "\r\n", 2)[0])) != 3 {
		return nil, errors.New("no request")
	}
	field := func(name string) (value string) {
		for _, line := range strings.Split(q.head, "\r\n") {
			if is, of, _ := strings.Cut(line, ":"); strings.EqualFold(is, name) {
				value = strings.TrimSpace(of)
			}
		}
		return value
	}
	coded, length := strings.EqualFold(field("Transfer-Encoding"), "chunked"), field("Content-Length")
	switch {
	case coded && (length == "" || !n.byLength):
		return q, q.readChunks(br)
	case length != "":
		size, err := strconv.Atoi(length)
		if err != nil {
			return nil, err
		}
		q.body = make([]byte, size)
		_, err = io.ReadFull(br, q.body)
		q.raw = q.body
		return q, err
	}
	return q, nil
}

func (q *naiveRequest) readChunks(br *bufio.Reader) error {
	var raw bytes.Buffer
	defer func() { q.raw = raw.Bytes() }()
	tee := bufio.NewReaderSize(io.TeeReader(oneByOne{br}, &raw), 16) // what is read is what was needed
	for {
		line, err := tee.ReadString('\n')
		if err != nil {
			return err
		}
		text, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		size, err := strconv.ParseUint(text, 16, 20)
		if err != nil {
			return err
		}
		if size == 0 {
			for line != "\r\n" {
				if line, err = tee.ReadString('\n'); err != nil {
					return err
				}
			}
			return nil
		}
		chunk := make([]byte, size+2)
		if _, err := io.ReadFull(tee, chunk); err != nil {
			return err
		}
		q.body = append(q.body, chunk[:size]...)
	}
}

// oneByOne gives out a byte a time, so that who reads it buffers nothing.
type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1)]) }

func (n *naive) exchange(q *naiveRequest) ([]byte, error) {
	if n.alone && !strings.Contains(q.head, "/marker/") {
		return []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), nil
	}
	if n.back == nil {
		c, err := net.Dial("tcp", n.to) //nolint:noctx // a test
		if err != nil {
			return nil, err
		}
		n.back, n.reader = c, bufio.NewReader(c)
	}
	patience := atMost
	if n.stuck { // whether it is given up too early makes no difference
		patience = 300 * time.Millisecond
	}
	_ = n.back.SetDeadline(time.Now().Add(patience))
	text, answers := q.whole(), 1
	if n.forward != nil && !strings.Contains(q.head, "/marker/") {
		text, answers = n.forward(q), max(n.answers, 1)
	}
	if _, err := n.back.Write(text); err != nil {
		return nil, err
	}
	var first []byte
	for i := range answers {
		method, _, _ := strings.Cut(q.head, " ")
		resp, err := http.ReadResponse(n.reader, &http.Request{Method: method})
		if err != nil {
			return nil, err
		}
		var out bytes.Buffer
		if err := resp.Write(&out); err != nil {
			return nil, err
		}
		if i == 0 {
			first = out.Bytes()
		}
		if resp.Close {
			n.hangUp()
			break
		}
	}
	before := n.last
	n.last = first
	if n.stale && before != nil {
		return before, nil
	}
	return first, nil
}
