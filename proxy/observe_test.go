package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// seen collects what would have become of requests.
type seen struct {
	mu    sync.Mutex
	all   []string
	holds int
}

func (s *seen) observe(c *proxy.Config) {
	c.Observe = true
	s.watch(c)
}

func (s *seen) watch(c *proxy.Config) {
	done := c.Trace.Done
	c.Trace.Done = func(r *proxy.Report) {
		s.mu.Lock()
		s.all = append(s.all, r.Would.String())
		s.mu.Unlock()
		done(r)
	}
	c.Trace.WouldHold = func(string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.holds++
	}
}

func (s *seen) is(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !reflect.DeepEqual(s.all, want) {
		t.Errorf("seen %q, want %q", s.all, want)
	}
	s.all = nil
}

// Everything executes, and what would have become of it is told.
func TestObserve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s seen
		r := bubbleRig(t, backendtest.OK, s.observe, func(c *proxy.Config) {
			c.Policy.Retention, c.Policy.Remember = time.Minute, time.Minute
			c.MaxRequestBody, c.RequireBind = 40_000, true
		})
		me := "Authorization: me"
		for range 3 {
			if a := r.post("a", "x", me); a.StatusCode != 200 || a.Header.Get("Idempotent-Replayed") != "" {
				t.Errorf("%d %v", a.StatusCode, a.Header)
			}
		}
		s.is(t, "execute", "replay", "replay")
		r.post("a", "y", me)
		r.post("a", "x", "Authorization: you")
		r.do("POST", "/other", "a", "x", me)
		s.is(t, "mismatch", "mismatch", "mismatch")
		r.post("b", "x")                             // nobody known
		r.do("POST", "/pay", "\"", "x", me)          // no key
		r.post("c", strings.Repeat("x", 50_000), me) // too large
		s.is(t, "refused", "refused", "refused")
		long := strings.Repeat("x", 30_000) // passed on as it comes
		r.post("d", long, me)
		r.post("d", long, me)
		r.post("d", long[1:], me)
		s.is(t, "execute", "replay", "mismatch")
		r.do("POST", "/pay", "", "x", me)
		s.is(t, "")
		time.Sleep(time.Minute)
		r.post("a", "x", me)
		time.Sleep(time.Minute)
		r.post("a", "x", me)
		s.is(t, "expired", "execute")
		if n := r.backend.Total(); n != 15 {
			t.Errorf("%d executions, want 15", n)
		}
		r.storeIsEmpty()
	})
}

func (r *rig) storeIsEmpty() {
	r.t.Helper()
	err := r.store.List(r.t.Context(), func(record *idem.Record) bool {
		r.t.Errorf("in the store: %+v", record)
		return true
	})
	if err != nil {
		r.t.Error(err)
	}
}

// A body is the same, whether it was read first or passed on as it came.
func TestObservedBodiesInAnyFraming(t *testing.T) {
	t.Parallel()
	var s seen
	r := newRig(t, backendtest.OK, s.observe)
	head := "POST /pay HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\n"
	for _, rest := range []string{"Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"} {
		if a := r.raw(head + rest); a.StatusCode != 200 {
			t.Errorf("%d", a.StatusCode)
		}
	}
	s.is(t, "execute", "replay")
}

// What is not known to have been executed would be held.
func TestObservedDoubt(t *testing.T) {
	t.Parallel()
	var s seen
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		switch q.URL.Path {
		case "/cut":
			c.Reset()
		case "/busy":
			c.Answer(429, "")
		case "/secret":
			c.Answer(200, "", "Idempotency-Policy: no-store")
		default:
			c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
			c.Reset()
		}
	}, s.observe, func(c *proxy.Config) { c.Policy.OnAmbiguous = idem.AmbiguousHold })
	for _, path := range []string{"/cut", "/busy", "/secret"} {
		r.do("POST", path, path, "x")
		r.do("POST", path, path, "x")
	}
	s.is(t, "execute", "unknown", "execute", "execute", "execute", "execute")
	if _, err := r.try("POST", "/half", "half", "x"); err == nil {
		t.Error("a response that was cut off came whole")
	}
	if _, err := r.try("POST", "/half", "half", "x"); err == nil {
		t.Error("a response that was cut off came whole")
	}
	s.is(t, "execute", "unknown")
	if s.holds != 2 {
		t.Errorf("%d holds, want 2", s.holds)
	}
}

// A mismatch that is only observed is not told to the client, whatever the backend does.
func TestObservedMismatchIsNotTold(t *testing.T) {
	t.Parallel()
	var s seen
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		if string(q.Payload) == "x" {
			backendtest.OK(c, q)
		} else {
			c.Reset()
		}
	}, s.observe)
	r.post("k", "x")
	with, without := r.post("k", "other"), r.post("", "other")
	s.is(t, "execute", "mismatch", "")
	if with.StatusCode != 502 || with.body != without.body {
		t.Errorf("with a key %d %s, without %s", with.StatusCode, with.body, without.body)
	}
}

// While the first is under way, the second would get 409; it is forwarded all the same.
func TestObservedConflict(t *testing.T) {
	t.Parallel()
	var s seen
	both := make(chan struct{}, 2)
	release := make(chan struct{})
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
		both <- struct{}{}
		<-release
		c.Answer(200, "x")
	}, s.observe)
	var sent sync.WaitGroup
	for range 2 {
		answered := make(chan struct{})
		sent.Go(func() {
			defer close(answered)
			r.post("k", "x")
		})
		select {
		case <-both: // the backend has it, so the proxy has seen it
		case <-answered:
			t.Error("a request was answered, and not forwarded")
		}
	}
	close(release)
	sent.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := strings.Join(s.all, " "); got != "execute in-progress" && got != "in-progress execute" {
		t.Errorf("seen %q", got)
	}
}

// The store is never asked, so that it does not matter how it is.
func TestObserveNeedsNoStore(t *testing.T) {
	t.Parallel()
	var s seen
	r := newRig(t, backendtest.OK, s.observe)
	defer r.store.Sever()()
	r.post("k", "x")
	r.post("k", "x")
	s.is(t, "execute", "replay")
	r.executions("k", 2)
}

// What was observed means nothing to what is enforced, and the other way about.
func TestFromObserveToEnforce(t *testing.T) {
	t.Parallel()
	var s seen
	var config proxy.Config
	r := newRig(t, backendtest.OK, s.observe, func(c *proxy.Config) { config = *c })
	r.post("k", "x")
	config.Observe = false
	if err := r.server.Reload(config); err != nil {
		t.Fatal(err)
	}
	if a := r.post("k", "other"); a.StatusCode != 200 {
		t.Errorf("the first that is enforced: %d %s", a.StatusCode, a.body)
	}
	r.isProblem(r.post("k", "x"), 422, "key-reused")
	r.executions("k", 2)
	s.is(t, "execute", "", "")
}

// A share of the keys is enforced: always the same ones, and a greater share has them all.
func TestEnforcedShare(t *testing.T) {
	t.Parallel()
	const keys = 1000
	enforced := func(observedShare int) map[string]bool {
		var s seen
		r := newRig(t, backendtest.OK, s.watch, func(c *proxy.Config) { c.ObservedShare = observedShare })
		all := map[string]bool{}
		for i := range keys {
			key := fmt.Sprint("key-", i)
			r.post(key, "x")
			all[key] = r.post(key, "x").Header.Get("Idempotent-Replayed") == "true"
			if want := 2 - map[bool]int{true: 1}[all[key]]; r.backend.Executions(key) != want {
				t.Errorf("%s: %d executions, want %d", key, r.backend.Executions(key), want)
			}
		}
		return all
	}
	few, many := enforced(9500), enforced(7000)
	n, m := 0, 0
	for key := range few {
		if few[key] {
			n++
		}
		if many[key] {
			m++
		}
		if few[key] && !many[key] {
			t.Errorf("%s is enforced at 5%%, and not at 30%%", key)
		}
	}
	if n < 25 || n > 85 || m < 240 || m > 360 {
		t.Errorf("%d and %d of %d keys enforced, want about 50 and 300", n, m, keys)
	}
}

// bothSides are one connection's bytes, to and from.
type bothSides struct{ client, backend string }

// conversation sends raw bytes through a proxy, and is what client and backend saw.
func conversation(t *testing.T, request, response string, change func(*proxy.Config)) bothSides {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	got := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			got <- ""
			return
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		var raw strings.Builder
		br := bufio.NewReader(io.TeeReader(c, &raw))
		if req, err := http.ReadRequest(br); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
		}
		_, _ = io.WriteString(c, response)
		got <- raw.String()
	}()
	r := newRig(t, backendtest.OK, change, func(c *proxy.Config) { c.Upstream.Backends = []string{"http://" + ln.Addr().String()} })
	c, _ := dial(t, r.addr)
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	send(t, c, request)
	answered, err := io.ReadAll(c)
	if err != nil {
		t.Logf("reading the answer: %v", err)
	}
	_ = ln.Close()
	same := strings.NewReplacer(ln.Addr().String(), "BACKEND", c.LocalAddr().String(), "CLIENT", r.addr, "PROXY")
	undated := regexp.MustCompile(`\r\nDate: [^\r]*`).ReplaceAllString(string(answered), "\r\nDate: NOW")
	return bothSides{client: same.Replace(undated), backend: same.Replace(<-got)}
}

// Byte for byte, an observed request is one that goes through a route without keys.
func TestObservedIsPassedThrough(t *testing.T) {
	t.Parallel()
	const common = "Host: a\r\nX-Request-Id: r\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nConnection: close\r\n"
	fields := map[string]string{
		"a key": "Idempotency-Key: k\r\n", "a quoted key": "Idempotency-Key: \"k\"\r\n", "two keys": "Idempotency-Key: a\r\nIdempotency-Key: b\r\n",
		"one key twice": "Idempotency-Key: a, a\r\n", "an empty key": "Idempotency-Key: \r\n", "a bad key": "Idempotency-Key: \xff\r\n",
		"a long key": "Idempotency-Key: " + strings.Repeat("x", 300) + "\r\n", "one's own field": "X-Order: k\r\nX-Account: q\r\nConnection: X-Account, X-Order\r\n",
		"twins": "Idempotency-Key: k\r\nX_Order: k\r\nX_Account: j\r\n", "prefers to wait": "Idempotency-Key: k\r\nPrefer: wait=5\r\n",
		"no key": "",
	}
	bodies := map[string]string{
		"none": "\r\n", "small": "Content-Length: 3\r\n\r\nabc", "chunked": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"expected": "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
		"large":    "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000),
	}
	answers := map[string]string{
		"small":      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nIdempotency-Policy: retention=5\r\nSet-Cookie: a=b\r\n\r\nok",
		"chunked":    "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
		"to the end": "HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\nok", "cut": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "gone": "",
	}
	with := func(c *proxy.Config) {
		c.Observe, c.KeyHeaders, c.RequireKey, c.RequireBind = true, []string{"Idempotency-Key", "X-Order"}, true, true
		c.BindHeaders, c.MaxRequestBody, c.MaxPerKey, c.Wait = []string{"Authorization", "X-Account"}, 10_000, 1, true
		c.Policy.OnAmbiguous = idem.AmbiguousHold
	}
	without := func(c *proxy.Config) { c.KeyHeaders, c.BindHeaders = []string{"X-Nobody-Has-This"}, nil }
	for name, field := range fields {
		for body, rest := range bodies {
			for answer, response := range answers {
				if name != "a key" && body != "small" && answer != "small" {
					continue // each with each of one other
				}
				if body == "large" && answer == "cut" {
					continue // whether the head of the answer is passed on before the cut is seen varies without observing, too
				}
				t.Run(name+", "+body+", "+answer, func(t *testing.T) {
					t.Parallel()
					request := "POST /pay?a=b HTTP/1.1\r\n" + common + field + rest
					if a, b := conversation(t, request, response, without), conversation(t, request, response, with); a != b {
						t.Errorf("passed through:\n%.600q\nobserved:\n%.600q", a, b)
					}
				})
			}
		}
	}
}
