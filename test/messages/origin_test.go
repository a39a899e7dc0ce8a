package messages_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// origin is a backend that writes down what comes, to the byte, and answers what it is told to.
type origin struct {
	ln      net.Listener
	serving sync.WaitGroup

	mu    sync.Mutex
	cases map[string]*expected // guarded by mu; nil for what is over
	stray []string             // guarded by mu; requests that nobody sent
	conns map[net.Conn]bool    // guarded by mu
}

// expected is an exchange at the backend.
type expected struct {
	x     *exchange
	begun chan struct{} // closed when the first answer has begun, if others are to join it
	goOn  chan struct{} // closed when it may go on
	once  sync.Once

	mu   sync.Mutex
	seen []seen   // guarded by mu
	over int      // guarded by mu; how many of them have been answered
	left net.Conn // guarded by mu; over which something comes behind the answer; nil for none
}

// seen is a request that arrived whole.
type seen struct {
	method, target, host string
	fields               []field
	body                 string
}

func startOrigin() (*origin, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{ln: ln, cases: map[string]*expected{}, conns: map[net.Conn]bool{}}
	o.serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns[c] = true
			o.mu.Unlock()
			o.serving.Go(func() { o.serve(c) })
		}
	})
	return o, nil
}

func (o *origin) close() {
	_ = o.ln.Close()
	o.mu.Lock()
	for c := range o.conns {
		_ = c.Close()
	}
	o.mu.Unlock()
	o.serving.Wait()
}

func (o *origin) expect(x *exchange) *expected {
	e := &expected{x: x, begun: make(chan struct{}), goOn: make(chan struct{})}
	o.mu.Lock()
	o.cases[x.id] = e
	o.mu.Unlock()
	return e
}

func (o *origin) forget(id string) {
	o.mu.Lock()
	o.cases[id] = nil
	o.mu.Unlock()
}

func (o *origin) strays() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stray
}

func (o *origin) serve(c net.Conn) {
	defer func() {
		_ = c.Close()
		o.mu.Lock()
		delete(o.conns, c)
		o.mu.Unlock()
	}()
	left := "" // behind the answer before
	for br := bufio.NewReaderSize(c, 64<<10); ; {
		q, s, ok := read(br)
		if !ok {
			return
		}
		if _, err := io.WriteString(c, left); err != nil {
			return
		}
		o.mu.Lock()
		e, known := o.cases[q.Header.Get("X-Case")]
		if !known {
			o.stray = append(o.stray, s.method+" "+s.target)
		}
		o.mu.Unlock()
		if e == nil {
			return
		}
		if left, ok = e.answer(c, s); !ok {
			return
		}
	}
}

// read reads a request, with its lines as they came.
func read(br *bufio.Reader) (q *http.Request, s seen, ok bool) {
	var head strings.Builder
	for {
		text, err := br.ReadString('\n')
		if err != nil {
			return nil, s, false
		}
		head.WriteString(text)
		if text = strings.TrimSuffix(text, lineEnd); text == "" {
			break
		}
		if name, value, is := strings.Cut(text, ":"); is && s.method != "" {
			s.fields = append(s.fields, field{name, strings.Trim(value, " \t"), lineEnd})
		} else if s.method == "" {
			s.method, text, _ = strings.Cut(text, " ")
			s.target, _, _ = strings.Cut(text, " ")
		}
	}
	q, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head.String()), br)))
	if err != nil {
		return nil, s, false
	}
	body, err := io.ReadAll(q.Body)
	s.body, s.host = string(body), q.Host
	return q, s, err == nil
}

// answer says whether the connection can be used on, and what comes over it then.
func (e *expected) answer(c net.Conn, s seen) (left string, goesOn bool) {
	e.mu.Lock()
	e.seen = append(e.seen, s)
	n := len(e.seen)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.over++
		e.mu.Unlock()
	}()
	r := &e.x.reply
	head, pieces := r.wire(e.x.id, s.method, n)
	if len(pieces) == 0 {
		_, err := io.WriteString(c, head)
		return e.leaves(c, s.method, n), err == nil && !r.cut
	}
	for i, one := range pieces {
		if i == 0 {
			one = head + one
		}
		if _, err := io.WriteString(c, one); err != nil {
			return "", false
		}
		if i == 0 && n == 1 && e.x.joins {
			close(e.begun)
			select {
			case <-e.goOn:
			case <-time.After(patience):
			}
		}
	}
	return e.leaves(c, s.method, n), r.framing != 'e' && !r.cut
}

func (e *expected) proceed() { e.once.Do(func() { close(e.goOn) }) }

func (e *expected) requests() []seen {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]seen(nil), e.seen...)
}

// idle says whether all that came has been answered.
func (e *expected) idle() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.over == len(e.seen)
}
