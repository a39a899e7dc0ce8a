package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/upstream"
)

// wire is a proxy that is fed bytes, and a backend that writes down what it was
// sent.
type wire struct {
	conns chan net.Conn

	mu  sync.Mutex
	got []seenRequest // guarded by mu
}

// seenRequest is a request as net/http reads it.
type seenRequest struct {
	method, host, target, body string
	header                     http.Header
}

func (s *seenRequest) String() string {
	return fmt.Sprintf("%s %s of %s with %q", s.method, s.target, s.host, s.body)
}

func (s *seenRequest) is(o *seenRequest) bool {
	sameHost := strings.EqualFold(s.host, o.host) || o.host == "" // of HTTP/1.0: the backend's own is sent
	return s.method == o.method && sameHost && s.target == o.target && s.body == o.body
}

func newWire(tb testing.TB) *wire {
	tb.Helper()
	w := &wire{conns: make(chan net.Conn)}
	ln := fasthttputil.NewInmemoryListener()
	backendtest.Serve(tb, ln, func(c backendtest.Conn, q *backendtest.Request) {
		w.mu.Lock()
		w.got = append(w.got, readAs(q.Request, q.Payload))
		w.mu.Unlock()
		backendtest.OK(c, q)
	})
	engine := idem.NewEngine(idem.Config{Store: storetest.NewMemory()})
	s, err := proxy.New(proxy.Config{
		Engine: engine, Rules: proxy.Rules{Policy: idem.DefaultPolicy()}, Upstream: upstream.Config{Backends: []string{"http://backend:80"}},
		Dial: func(context.Context, string, string) (net.Conn, error) { return ln.Dial() },
	})
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener{w.conns}) }()
	tb.Cleanup(func() {
		close(w.conns)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := <-served; err != nil {
			tb.Error(err)
		}
		if err := s.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
		engine.Close(ctx)
	})
	return w
}

func readAs(q *http.Request, payload []byte) seenRequest {
	return seenRequest{
		method: q.Method, host: q.Host, target: q.URL.RequestURI(), body: string(payload), header: q.Header,
	}
}

// send has the proxy read text and then the end of the connection, and returns
// what reached the backend and what the client was answered.
func (w *wire) send(text []byte) (got []seenRequest, answers []byte) {
	w.mu.Lock()
	w.got = nil
	w.mu.Unlock()
	c := &script{text: bytes.NewReader(text), closed: make(chan struct{})}
	w.conns <- c
	<-c.closed
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got, c.answers.Bytes()
}

// byNetHTTP is how net/http reads the same bytes. A request is one if its body
// arrives whole.
func byNetHTTP(text []byte) (all []seenRequest) {
	br := bufio.NewReader(bytes.NewReader(text))
	for {
		for { // RFC 9112 section 2.2: empty lines before a request are ignored; net/http does not
			if b, _ := br.Peek(2); bytes.HasPrefix(b, []byte("\n")) || bytes.Equal(b, []byte("\r\n")) {
				_, _ = br.ReadString('\n')
				continue
			}
			break
		}
		q, err := http.ReadRequest(br)
		if err != nil {
			return all
		}
		payload, err := io.ReadAll(q.Body)
		if err != nil {
			return all
		}
		all = append(all, readAs(q, payload))
	}
}

// isSubsequence: the proxy may answer a request itself, or refuse what comes
// after it; it must not make requests of what is none.
func isSubsequence(some, all []seenRequest) bool {
	for i := range all {
		if len(some) > 0 && some[0].is(&all[i]) {
			some = some[1:]
		}
	}
	return len(some) == 0
}

func compareFraming(t *testing.T, w *wire, text []byte) {
	t.Helper()
	got, answers := w.send(text)
	if parsed := byNetHTTP(text); !isSubsequence(got, parsed) {
		t.Errorf("the proxy forwarded %v, net/http reads %v", got, parsed)
	}
	if bytes.Contains(text, []byte("HEAD")) {
		return // whether an answer has a body depends on the request that it is to
	}
	for br := bufio.NewReader(bytes.NewReader(answers)); ; {
		if _, err := br.Peek(1); err != nil {
			return
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("the answer is %q: %v", answers, err)
		}
		if resp.StatusCode == http.StatusInternalServerError {
			t.Errorf("the answer is %q", answers)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// seedMost keeps seeds short: the engine takes minutes to shrink long ones.
const seedMost = 2 << 10

// FuzzFraming: whatever reaches the backend is a request that net/http, another
// implementation, reads from the very same bytes.
func FuzzFraming(f *testing.F) {
	for i, c := range allRaw() {
		if len(c.text) < seedMost {
			f.Add([]byte(strings.ReplaceAll(c.text, "{k}", fmt.Sprint("k", i))))
		}
	}
	w := newWire(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		compareFraming(t, w, text)
	})
}

// FuzzChunks is FuzzFraming for what is inside a chunked body.
func FuzzChunks(f *testing.F) {
	for _, c := range rawChunks() {
		if _, body, _ := strings.Cut(c.text, "\r\n\r\n"); len(body) < seedMost {
			f.Add([]byte(body))
		}
	}
	w := newWire(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		compareFraming(t, w, append([]byte(post+"Transfer-Encoding: chunked\r\n\r\n"), body...))
	})
}

// FuzzHeaderRules: what ends at this hop ends here, whatever Connection says the
// key goes on, and nothing else of the client's gets lost or changed.
func FuzzHeaderRules(f *testing.F) {
	for _, seed := range [][3]string{
		{"close", "X-Kept", "yes"},
		{"X-Gone, keep-alive", "X-Gone", "gone"},
		{"Idempotency-Key", "TE", "trailers"},
		{"content-length", "Upgrade", "h2c"},
		{"Content-Type, Host", "Content-Type", "text/plain"},
		{"x-forwarded-for", "X-Forwarded-For", "1.2.3.4"},
		{",,", "Idempotency-Attempt", "7"},
		{"\"quoted\"", "Proxy-Authorization", "Basic eA=="},
		{"X-A;q=1", "X-A", "\xff"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	w := newWire(f)
	serial := 0
	f.Fuzz(func(t *testing.T, connection, name, value string) {
		if strings.ContainsAny(connection+name+value, "\r\n") || strings.Contains(name, ":") {
			return // those would be other fields, which are FuzzFraming's
		}
		serial++
		key := fmt.Sprint("key-", serial)
		got, _ := w.send([]byte("POST /p HTTP/1.1\r\nHost: x\r\nIdempotency-Key: " + key + "\r\nConnection: " + connection +
			"\r\n" + name + ": " + value + "\r\nContent-Length: 2\r\n\r\nok"))
		if len(got) == 0 {
			return // refused
		}
		h := got[0].header
		if h.Get("Idempotency-Key") != key || got[0].body != "ok" || h.Get("Idempotency-Attempt") != "1" {
			t.Errorf("the backend got %v %v", &got[0], h)
		}
		for _, ends := range []string{
			"Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Upgrade", "Expect",
			"Proxy-Authorization", "Proxy-Authenticate", "Transfer-Encoding",
		} {
			if _, there := h[textproto.CanonicalMIMEHeaderKey(ends)]; there {
				t.Errorf("%s went on to the backend", ends)
			}
		}
		checkField(t, h, connection, name, strings.Trim(value, " \t"))
	})
}

func checkField(t *testing.T, h http.Header, connection, name, value string) {
	t.Helper()
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	// What a backend may take for such a field ends here, too.
	folded := textproto.CanonicalMIMEHeaderKey(strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			return c
		}
		return '-'
	}, name))
	if strings.HasPrefix(folded, "X-Forwarded") {
		return
	}
	switch folded {
	case "Forwarded", "X-Real-Ip", "X-Client-Ip", "True-Client-Ip", "X-Original-Url", "X-Rewrite-Url",
		"Idempotency-Attempt-Token", "Idempotency-Scope", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Upgrade", "Expect", "Proxy-Authorization",
		"Proxy-Authenticate", "Proxy-Authentication-Info", "Transfer-Encoding", "Via", "Idempotency-Attempt", "Idempotency-Key", "X-Idempotency-Key", "Content-Length", "Host":
		return
	case "Prefer", "Content-Type", "Content-Encoding", "Traceparent", "X-Request-Id", "X-Http-Method", "X-Method-Override",
		"X-Http-Method-Override":
		if folded != canonical {
			return
		}
	}
	nominated := false
	for token := range strings.SplitSeq(connection, ",") {
		nominated = nominated || strings.EqualFold(strings.Trim(token, " \t"), name)
	}
	nominated = nominated && canonical != "Content-Type" && canonical != "X-Request-Id"
	switch sent := h[canonical]; {
	case nominated && len(sent) > 0:
		t.Errorf("%q is nominated by %q and went on", name, connection)
	case !nominated && (len(sent) != 1 || sent[0] != value):
		t.Errorf("%q: %q became %q", name, value, sent)
	}
}

// listener hands out connections.
type listener struct{ conns chan net.Conn }

func (l listener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, io.EOF
	}
	return c, nil
}
func (listener) Close() error   { return nil }
func (listener) Addr() net.Addr { return &net.TCPAddr{} }

// script is a client that has said all it will say.
type script struct {
	text    *bytes.Reader
	answers bytes.Buffer
	once    sync.Once
	closed  chan struct{}
}

func (s *script) Read(p []byte) (int, error)  { return s.text.Read(p) }
func (s *script) Write(p []byte) (int, error) { return s.answers.Write(p) }
func (s *script) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}
func (*script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }
