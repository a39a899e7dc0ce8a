package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/upstream"
)

func TestMain(m *testing.M) {
	// fasthttp starts a goroutine that lives for ever at the first use of a
	// response's header; started here it stays out of the tests' bubbles.
	var r fasthttp.Response
	r.Header.Header()
	os.Exit(m.Run())
}

// rig is a proxy between a client and a backend.
type rig struct {
	t       *testing.T
	store   *storetest.Memory
	backend *backendtest.Backend
	client  *http.Client
	addr    string
	scheme  string // http unless set
	server  *proxy.Server

	mu       sync.Mutex
	outcomes map[proxy.Outcome]int
	cuts     int
}

// newRig runs a proxy over TCP.
func newRig(t *testing.T, respond func(backendtest.Conn, *backendtest.Request), change ...func(*proxy.Config)) *rig {
	t.Helper()
	return newSlowRig(t, time.Minute, respond, change...)
}

// newSlowRig is newRig for clients that may stop reading for that long.
func newSlowRig(
	t *testing.T, sendTimeout time.Duration, respond func(backendtest.Conn, *backendtest.Request), change ...func(*proxy.Config),
) *rig {
	t.Helper()
	r := &rig{t: t, backend: backendtest.Start(t, respond)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	r.start(proxy.Listen(ln, proxy.Listening{SendTimeout: sendTimeout}), transport, proxy.Config{Upstream: upstream.Config{Backends: []string{r.backend.URL()}}}, change)
	return r
}

// bubbleRig runs a proxy on a fake clock; call within a bubble.
func bubbleRig(t *testing.T, respond func(backendtest.Conn, *backendtest.Request), change ...func(*proxy.Config)) *rig {
	t.Helper()
	backendLn, ln := fasthttputil.NewInmemoryListener(), fasthttputil.NewInmemoryListener()
	r := &rig{t: t, backend: backendtest.Serve(t, backendLn, respond)}
	transport := &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return ln.Dial() },
	}
	t.Cleanup(func() { time.Sleep(time.Minute) }) // fasthttp's cleaners end
	r.start(ln, transport, proxy.Config{
		Upstream: upstream.Config{Backends: []string{"http://backend:80"}},
		Dial:     func(context.Context, string, string) (net.Conn, error) { return backendLn.Dial() },
	}, change)
	return r
}

func (r *rig) start(ln net.Listener, transport *http.Transport, c proxy.Config, change []func(*proxy.Config)) {
	r.t.Helper()
	r.store, r.addr, r.outcomes = storetest.NewMemory(), ln.Addr().String(), map[proxy.Outcome]int{}
	r.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.Engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(r.t, r.store, r.store)})
	c.Policy = idem.DefaultPolicy()
	c.BindHeaders = []string{"Authorization"}
	c.NotReplayed = []string{"Set-Cookie"}
	c.Trace.Done = func(q *proxy.Report) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.outcomes[q.Outcome]++
	}
	c.Trace.Cut = func(string, idem.Key, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.cuts++
	}
	for _, f := range change {
		f(&c)
	}
	s, err := proxy.New(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.server = s
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.client.CloseIdleConnections()
		if err := s.Shutdown(ctx); err != nil {
			r.t.Error(err)
		}
		if err := <-served; err != nil {
			r.t.Error(err)
		}
		c.Engine.Close(ctx)
	})
}

// answer is a response that was read whole.
type answer struct {
	*http.Response
	body string
}

func (r *rig) try(method, path, key, body string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+r.addr+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if r.scheme != "" {
		req.URL.Scheme = r.scheme
	}
	if r.addr == "InmemoryListener" || strings.Contains(r.addr, "InMemory") {
		req.URL.Host = "proxy"
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	for _, field := range header {
		name, value, _ := strings.Cut(field, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return answer{resp, string(b)}, err
}

func (r *rig) do(method, path, key, body string, header ...string) answer {
	r.t.Helper()
	a, err := r.try(method, path, key, body, header...)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (r *rig) post(key, body string, header ...string) answer {
	r.t.Helper()
	return r.do(http.MethodPost, "/pay", key, body, header...)
}

func (r *rig) executions(key string, want int) {
	r.t.Helper()
	if n := r.backend.Executions(key); n != want {
		r.t.Errorf("key %q: %d executions, want %d", key, n, want)
	}
}

func (r *rig) outcome(o proxy.Outcome, want int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outcomes[o] != want {
		r.t.Errorf("%v counted %d times, want %d (all: %v)", o, r.outcomes[o], want, r.outcomes)
	}
}

// isProblem checks status, type and that the body is one of ours.
func (r *rig) isProblem(a answer, status int, name string) {
	r.t.Helper()
	var p struct {
		Type, Title, Detail string
		Status              int
		Retryable           *bool
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		r.t.Errorf("%d %q is no problem: %v", a.StatusCode, a.body, err)
		return
	}
	if p.Retryable == nil || a.Header.Get("Link") != "<"+p.Type+`>; rel="describedby"` {
		r.t.Errorf("retryable %v, Link %q", p.Retryable, a.Header.Get("Link"))
	}
	if a.StatusCode != status || p.Status != status || p.Type != proxy.ProblemBase+name || p.Detail == "" ||
		a.Header.Get("Content-Type") != "application/problem+json" {
		r.t.Errorf("got %d %s (%s), want %d %s", a.StatusCode, p.Type, a.Header.Get("Content-Type"), status, name)
	}
}

// A client that wants text gets text; whoever takes JSON gets JSON.
func TestProblemsAsText(t *testing.T) {
	t.Parallel()
	r := newRig(t, answerOK)
	r.post("k", "x")
	for accept, text := range map[string]bool{
		"text/plain": true, "text/html, text/plain;q=0.5": true,
		"text/plain, application/json": false, "text/plain, */*": false, "application/problem+json": false, "": false,
	} {
		a := r.post("k", "other", "Accept: "+accept)
		if !text {
			r.isProblem(a, 422, "key-reused")
			continue
		}
		want := "Idempotency key reused\nThe body differs. This key was used before with another method, host, target, body or media type. " +
			"Use a new key for a new operation.\nIdempotency key: k\nSee " + proxy.ProblemBase + "key-reused\n"
		if a.StatusCode != 422 || a.body != want || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("Accept %q: %d %s %q", accept, a.StatusCode, a.Header.Get("Content-Type"), a.body)
		}
	}
}

func TestP2ReplayIsTheResponse(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		switch q.URL.Path {
		case "/204":
			c.Raw("HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n")
		case "/304":
			c.Raw("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n")
		case "/chunked":
			c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\nX-A: 2\r\nX-A: 3\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
		case "/close":
			c.Raw("HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nuntil close")
			_ = c.Close()
		case "/interim":
			c.Raw("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		case "/empty":
			c.Answer(200, "")
		case "/binary":
			c.Answer(200, "\x00\x01\xff\r\n\x00", "Content-Type: application/octet-stream")
		default:
			var status int
			_, _ = fmt.Sscanf(q.URL.Path, "/%d", &status)
			c.Answer(status, "body of "+q.URL.Path,
				"Content-Type: text/plain; charset=latin1", "Location: /there", "x-lower: 1",
				"X-Repeat: c", "X-Repeat: a", "X-Repeat: b", "Date: Mon, 02 Jan 2006 15:04:05 GMT",
				"Set-Cookie: secret=1", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: 5")
		}
	})
	for _, path := range []string{
		"/200", "/201", "/301", "/400", "/404", "/409", "/422", "/500",
		"/204", "/304", "/chunked", "/close", "/interim", "/empty", "/binary",
	} {
		for _, method := range []string{"POST", "GET", "PUT", "DELETE", "PATCH"} {
			key := method + path
			first := r.do(method, path, key, "payload")
			second := r.do(method, path, key, "payload")
			third := r.do(method, path, key, "payload")
			r.executions(key, 1)
			for field, want := range map[string]string{"X-Repeat": "[c a b]", "X-A": "[1 2 3]"} {
				if got := fmt.Sprint(first.Header.Values(field)); len(got) > 3 && got != want {
					t.Errorf("%s: %s came as %s, want %s", key, field, got, want)
				}
			}
			for _, a := range []answer{second, third} {
				if a.StatusCode != first.StatusCode || a.body != first.body {
					t.Errorf("%s: replayed %d %q, was %d %q", key, a.StatusCode, a.body, first.StatusCode, first.body)
				}
				if a.Header.Get("Idempotent-Replayed") != "true" || first.Header.Get("Idempotent-Replayed") != "" {
					t.Errorf("%s: the replay is not marked, or the first answer is", key)
				}
				sameHeader(t, key, first.Header, a.Header)
			}
			for _, hop := range []string{"X-Hop", "Keep-Alive", "Connection"} {
				if first.Header.Get(hop) != "" {
					t.Errorf("%s: %s is passed on", key, hop)
				}
			}
		}
	}
	r.outcome(proxy.Executed, 15*5)
	r.outcome(proxy.ReplayedStore, 2*15*5)
}

func sameHeader(t *testing.T, what string, first, replay http.Header) {
	t.Helper()
	want, got := first.Clone(), replay.Clone()
	want.Del("Set-Cookie")
	want.Del("X-Request-Id") // names a request, each its own
	got.Del("X-Request-Id")
	got.Del("Idempotent-Replayed")
	if fmt.Sprint(want) != fmt.Sprint(got) {
		t.Errorf("%s: replayed header\n%v, was\n%v", what, got, want)
	}
}

func TestHeadReplaysItsLength(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Raw("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-A: 1\r\n\r\n")
	})
	for range 3 {
		a := r.do(http.MethodHead, "/x", "k", "")
		if a.StatusCode != 200 || a.ContentLength != 1234 || a.body != "" || a.Header.Get("X-A") != "1" {
			t.Errorf("HEAD: %d, length %d, body %q", a.StatusCode, a.ContentLength, a.body)
		}
	}
	r.executions("k", 1)
}

func TestP3Mismatch(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	// One host, whatever the port is: one difference in 256 is not explained (idem.Hints), and this way
	// it is always the same ones.
	auth, host := "Authorization: Bearer alice", "Host: pay.example"
	first := r.post("k", "a", auth, host)
	for _, c := range []struct {
		answer        answer
		name, differs string
	}{
		{r.post("k", "b", auth, host), "key-reused", `["body"]`},
		{r.post("k", "a", auth, host, "Content-Type: text/csv"), "key-reused", `["body"]`},
		{r.do("PUT", "/pay", "k", "a", auth, host), "key-reused", `["method"]`},
		{r.do("POST", "/other", "k", "a", auth, host), "key-reused", `["target"]`},
		{r.do("POST", "/pay?q=1", "k", "a", auth, host), "key-reused", `["target"]`},
		{r.do("PUT", "/other", "k", "b", auth, host), "key-reused", `["method","target","body"]`},
		{r.post("k", "a", auth, "Host: other.example"), "key-reused", `["target"]`},
		{r.post("k", "a", host, "Authorization: Bearer mallory"), "key-of-another-caller", `["caller"]`},
		{r.post("k", "b", host), "key-of-another-caller", `["caller"]`},
	} {
		r.isProblem(c.answer, 422, c.name)
		if want := `"differs":` + c.differs + "}"; !strings.Contains(c.answer.body, want) {
			t.Errorf("want %s in %s", want, c.answer.body)
		}
	}
	r.executions("k", 1)
	if again := r.post("k", "a", auth, host); again.body != first.body {
		t.Errorf("the first caller gets %q", again.body)
	}
	r.outcome(proxy.Mismatch, 9)
}

func TestP1OneExecutionAmongMany(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		<-release
		backendtest.OK(c, q)
	})
	const clients = 200
	var executed, conflicts atomic.Int64
	var done sync.WaitGroup
	for range clients {
		done.Go(func() {
			a, err := r.try("POST", "/pay", "k", "a")
			switch {
			case err != nil:
				t.Error(err)
			case a.StatusCode == 200:
				executed.Add(1)
			case a.StatusCode == 409 && a.Header.Get("Retry-After") != "":
				if conflicts.Add(1) == clients-1 {
					close(release)
				}
			default:
				t.Errorf("got %d %s", a.StatusCode, a.body)
			}
		})
	}
	done.Wait()
	if executed.Load() != 1 || conflicts.Load() != clients-1 {
		t.Errorf("%d executed, %d in conflict", executed.Load(), conflicts.Load())
	}
	r.executions("k", 1)
	if a := r.post("k", "a"); a.body != "execution 1" {
		t.Errorf("afterwards: %q", a.body)
	}
}

// Scenario B on a fake clock, through the whole of the HTTP path.
func TestLongJobInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := bubbleRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			time.Sleep(45 * time.Second)
			backendtest.OK(c, q)
		})
		first := make(chan answer, 1)
		go func() { first <- r.post("k", "a") }()
		time.Sleep(35 * time.Second)
		r.isProblem(r.post("k", "a"), 409, "in-progress")
		if a := <-first; a.body != "execution 1" {
			t.Errorf("the job's answer: %d %q", a.StatusCode, a.body)
		}
		if a := r.post("k", "a"); a.body != "execution 1" || a.Header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("the replay: %d %q", a.StatusCode, a.body)
		}
		r.executions("k", 1)
	})
}

// A backend that reads keys itself sees one key, as the proxy does, and a key with
// commas in it whole.
func TestJoinedKeysReachTheBackendAsOne(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[string]
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		key := strings.Join(q.Header.Values("Idempotency-Key"), "|")
		got.Store(&key)
		backendtest.OK(c, q)
	})
	for sent, want := range map[string]string{
		"one, one": "one", `"two","two"`: `"two"`, "a, b": "a, b", `"a,b", "a,b"`: `"a,b"`, "three,": "three,",
	} {
		if a := r.post("", "x", "Idempotency-Key: "+sent); a.StatusCode != 200 || *got.Load() != want {
			t.Errorf("%s: %d, the backend got %s, want %s", sent, a.StatusCode, *got.Load(), want)
		}
	}
}

func TestKeySpellings(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	long := strings.Repeat("k", 255)
	for _, c := range []struct {
		name   string
		header []string
		status int
	}{
		{"bare", []string{"Idempotency-Key: one"}, 200},
		{"the same, quoted", []string{`Idempotency-Key: "one"`}, 200},
		{"the same, old spelling", []string{"X-Idempotency-Key: one"}, 200},
		{"the same, lower case", []string{"idempotency-key: one"}, 200},
		{"quoted with a parameter", []string{`Idempotency-Key: "one";v=1`}, 200},
		{"both spellings, equal", []string{"Idempotency-Key: one", "X-Idempotency-Key: one"}, 200},
		{"three lines, equal", []string{"Idempotency-Key: one", `Idempotency-Key: "one"`, "X-Idempotency-Key: one"}, 200},
		{"both spellings, different", []string{"Idempotency-Key: one", "X-Idempotency-Key: two"}, 400},
		{"two lines, different", []string{"Idempotency-Key: one", "Idempotency-Key: two"}, 400},
		{"three lines, the last different", []string{"Idempotency-Key: one", "Idempotency-Key: one", "X-Idempotency-Key: two"}, 400},
		{"empty", []string{"Idempotency-Key: "}, 400},
		{"empty, quoted", []string{`Idempotency-Key: ""`}, 400},
		{"unfinished quote", []string{`Idempotency-Key: "one`}, 400},
		{"list of strings", []string{`Idempotency-Key: "one", "two"`}, 400},
		{"joined by an intermediary", []string{"Idempotency-Key: one, one"}, 200},
		{"joined, without a space", []string{"Idempotency-Key: one,one,one"}, 200},
		{"joined, quoted", []string{`Idempotency-Key: "one", "one"`}, 200},
		{"joined, both spellings", []string{`Idempotency-Key: one, "one"`}, 200},
		{"joined, the other way", []string{`Idempotency-Key: "one", one`}, 200},
		{"a list that goes on", []string{`Idempotency-Key: "one",`}, 400},
		{"a key with a comma", []string{"Idempotency-Key: one, two"}, 200},
		{"a key that ends in one", []string{"Idempotency-Key: one,"}, 200},
		{"commas only", []string{"Idempotency-Key: ,"}, 200},
		{"a list with another", []string{"Idempotency-Key: one, one, two"}, 200},
		{"255 characters", []string{"Idempotency-Key: " + long}, 200},
		{"256 characters", []string{"Idempotency-Key: " + long + "k"}, 400},
		{"UTF-8", []string{"Idempotency-Key: clé"}, 400},
		{"tab within", []string{"Idempotency-Key: a\tb"}, 400},
	} {
		a := r.post("", "x", c.header...)
		if a.StatusCode != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, a.StatusCode, a.body, c.status)
		}
		if c.status == 400 {
			r.isProblem(a, 400, "key-invalid")
		}
	}
	// One execution for "one" in all its spellings, one for the long key, and four
	// for keys with commas in them.
	if n := r.backend.Total(); n != 6 {
		t.Errorf("%d executions in all, want 6", n)
	}
}

func TestKeyRequired(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.RequireKey = true })
	r.isProblem(r.post("", "x"), 400, "key-missing")
	if a := r.post("k", "x"); a.StatusCode != 200 {
		t.Errorf("with a key: %d", a.StatusCode)
	}
	r.executions("", 0)
}

func TestRequestBodyLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		c.Answer(200, fmt.Sprint(len(q.Payload)))
	}, func(c *proxy.Config) { c.MaxRequestBody = 100 << 10 })
	limit := strings.Repeat("x", 100<<10)
	if a := r.post("at the limit", limit); a.body != fmt.Sprint(len(limit)) {
		t.Errorf("at the limit: %d %s", a.StatusCode, a.body)
	}
	r.isProblem(r.post("one over", limit+"x"), 413, "body-too-large")
	r.executions("one over", 0)
	if a := r.post("", limit+"x"); a.body != fmt.Sprint(len(limit)+1) {
		t.Errorf("without a key there is no limit: %d %s", a.StatusCode, a.body)
	}
}

// A chunked request and one with Content-Length are the same if their bytes are.
func TestFramingDoesNotMatter(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	first := r.post("k", "payload")
	req, _ := http.NewRequest(http.MethodPost, "http://"+r.addr+"/pay", io.MultiReader(strings.NewReader("pay"), strings.NewReader("load")))
	req.Header.Set("Idempotency-Key", "k")
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(b) != first.body {
		t.Errorf("chunked: %d %q, want %q", resp.StatusCode, b, first.body)
	}
	r.executions("k", 1)
}

func TestP5StoreDown(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	mend := r.store.Sever()
	r.isProblem(r.post("k", "a"), 500, "store-unavailable")
	r.executions("k", 0)
	if a := r.post("", "a"); a.StatusCode != 200 {
		t.Errorf("without a key: %d", a.StatusCode)
	}
	mend()
	if a := r.post("k", "a"); a.StatusCode != 200 {
		t.Errorf("afterwards: %d %s", a.StatusCode, a.body)
	}
	r.outcome(proxy.StoreFailed, 1)
}

// The store goes away while the backend works: the client gets its answer, and
// the record is written when the store is back.
func TestP6StoreDownAtCompletion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r *rig
		mended := make(chan func(), 1)
		r = bubbleRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			mended <- r.store.Sever()
			backendtest.OK(c, q)
		})
		if a := r.post("k", "a"); a.body != "execution 1" {
			t.Errorf("the client got %d %q", a.StatusCode, a.body)
		}
		(<-mended)()
		time.Sleep(5 * time.Second)
		if a := r.post("k", "a"); a.body != "execution 1" || a.Header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("the retry got %d %q", a.StatusCode, a.body)
		}
		r.executions("k", 1)
	})
}

func TestStatusesThatSayTryAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.Number == 1 {
			var status int
			_, _ = fmt.Sscanf(q.URL.Path, "/%d", &status)
			c.Answer(status, "not now", "Retry-After: 7")
			return
		}
		backendtest.OK(c, q)
	})
	for _, status := range []int{401, 407, 408, 421, 425, 429, 503, 511, 502, 504} {
		key := fmt.Sprint(status)
		if a := r.do("POST", "/"+key, key, ""); a.StatusCode != status || a.Header.Get("Retry-After") != "7" || a.body != "not now" {
			t.Errorf("%d: got %d %q", status, a.StatusCode, a.body)
		}
		if a := r.do("POST", "/"+key, key, ""); a.body != "execution 2" {
			t.Errorf("%d: the retry got %d %q", status, a.StatusCode, a.body)
		}
	}
}
