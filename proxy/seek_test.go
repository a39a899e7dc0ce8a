package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// keysIn has keys where sources say.
func keysIn(t *testing.T, sources ...string) func(*proxy.Config) {
	t.Helper()
	s, err := operation.ParseSources(sources)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *proxy.Config) { c.Key = s }
}

const isJSON = "Content-Type: application/json"

// A key in the body is a key: one execution, whichever way the body comes.
func TestKeyInTheBody(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 16)
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		bodies <- string(q.Payload)
		backendtest.OK(c, q)
	}, keysIn(t, "json:/order"))
	const body = `{"order":"7","amount":5}`
	for n := range 3 {
		a := r.do("POST", "/pay", "", body, isJSON)
		if replayed := a.Header.Get("Idempotent-Replayed") == "true"; a.StatusCode != 200 || replayed != (n > 0) {
			t.Errorf("try %d: %d, replayed: %v", n, a.StatusCode, replayed)
		}
	}
	a := r.raw("POST /pay HTTP/1.1\r\nHost: " + r.addr + "\r\n" + isJSON + "\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"8\r\n" + body[:8] + "\r\n10\r\n" + body[8:] + "\r\n0\r\n\r\n")
	if a.StatusCode != 200 || a.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("in chunks: %d %s", a.StatusCode, a.body)
	}
	if got := <-bodies; got != body || len(bodies) != 0 {
		t.Errorf("the backend got %q, and %d more", got, len(bodies))
	}
	r.isProblem(r.do("POST", "/pay", "", `{"order":"7","amount":6}`, isJSON), 422, "key-reused")
	r.outcome(proxy.Executed, 1)
	r.outcome(proxy.ReplayedStore, 3)
}

// What has no key is passed on, whole, whatever its size was to the proxy.
func TestNoKeyInTheBody(t *testing.T) {
	t.Parallel()
	sizes := make(chan int, 16)
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		sizes <- len(q.Payload)
		backendtest.OK(c, q)
	}, keysIn(t, "json:/order"), func(c *proxy.Config) { c.MaxRequestBody = 100_000 })
	long := `{"text":"` + strings.Repeat("x", 80_000) + `"}`
	for _, c := range []struct{ method, body, mediaType string }{
		{"POST", `{}`, isJSON},
		{"POST", long, isJSON},
		{"POST", strings.Repeat("x", 200_000), "Content-Type: application/octet-stream"}, // streams: nothing there can be a key
		{"GET", "", isJSON},
		{"POST", "", isJSON},
	} {
		a := r.do(c.method, "/pay", "not counted", c.body, c.mediaType)
		if n := <-sizes; a.StatusCode != 200 || n != len(c.body) {
			t.Errorf("%s of %d bytes of %s: %d, and the backend got %d", c.method, len(c.body), c.mediaType, a.StatusCode, n)
		}
	}
	r.outcome(proxy.Passed, 5)
	r.isProblem(r.do("POST", "/pay", "", `{"text":"`+strings.Repeat("x", 200_000)+`"}`, isJSON), 413, "body-too-large")
	if n := r.server.Buffered(); n != 0 {
		t.Errorf("%d bytes still count", n)
	}
}

// What cannot be read, or has several operations, is refused, and executes nothing.
func TestKeysThatCannotBeFound(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, keysIn(t, "json-rpc:/id", "header:X-Op"))
	for _, c := range []struct {
		body, header, name string
		status             int
	}{
		{`{"params":{"id":"7"`, "X-A: b", "key-unreadable", 400},
		{`[{"params":{"id":"7"}}]`, "X-A: b", "key-of-batch", 400},
		{`{"params":{"id":{}}}`, "X-A: b", "key-invalid", 400},
		{`{"params":{"id":"é"}}`, "X-A: b", "key-invalid", 400},
		{`{"params":{"id":"7"}}`, "Content-Encoding: gzip", "key-unreadable", 400},
		{`{"params":{"id":"7"`, "X-Op: 7", "key-unreadable", 400},
	} {
		a := r.do("POST", "/pay", "", c.body, isJSON, c.header)
		r.isProblem(a, c.status, c.name)
		if strings.Contains(a.body, "params") {
			t.Errorf("%s repeats the body", a.body)
		}
	}
	lenient := newRig(t, backendtest.OK, keysIn(t, "json-rpc:/id", "header:X-Op"), func(c *proxy.Config) { c.LenientKey = true })
	if a := lenient.do("POST", "/pay", "", `{"params":{"id":"7"`, isJSON); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	lenient.outcome(proxy.Passed, 1)
}

// Keys count for some methods only: others have none, and need none.
func TestKeyMethods(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.KeyMethods, c.RequireKey = []string{"POST"}, true })
	for range 2 {
		if a := r.do("PUT", "/", "k", "x"); a.StatusCode != 200 {
			t.Errorf("PUT: %d", a.StatusCode)
		}
		r.do("POST", "/", "k", "x")
	}
	r.isProblem(r.do("POST", "/", "", "x"), 400, "key-missing")
	r.outcome(proxy.Passed, 2)
	r.outcome(proxy.Executed, 1)
	r.outcome(proxy.ReplayedStore, 1)
}

// What else depends on the key works for one in the body.
func TestBodyKeysAreKeys(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		if strings.Contains(string(q.Payload), "slow") {
			entered <- struct{}{}
			<-proceed
		}
		backendtest.OK(c, q)
	}, keysIn(t, "json:/id"), func(c *proxy.Config) { c.MaxPerKey, c.RequireKey, c.RequireBind = 1, true, true })
	const me = "Authorization: me"
	r.isProblem(r.do("POST", "/", "k", `{}`, isJSON, me), 400, "key-missing")
	r.isProblem(r.do("POST", "/", "k", `{"id":1}`, isJSON), 400, "caller-unknown")
	done := make(chan answerOrError, 1)
	go func() {
		a, err := r.try(http.MethodPost, "/", "", `{"id":"slow"}`, isJSON, me)
		done <- answerOrError{a, err}
	}()
	<-entered
	r.isProblem(r.do("POST", "/", "", `{"id":"slow"}`, isJSON, me), 429, "too-many-with-key")
	close(proceed)
	if a := <-done; a.err != nil || a.StatusCode != 200 {
		t.Errorf("%v", a)
	}
	r.isProblem(r.do("POST", "/", "", `{"id":"slow"}`, isJSON, "Authorization: you"), 422, "key-of-another-caller")
}

// A body is asked for before its key is looked for in it, but not if it is too large.
func TestBodyKeysAndExpect(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, keysIn(t, "json:/id"), func(c *proxy.Config) { c.MaxRequestBody = 100 })
	conn, br := dial(t, r.addr)
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\n"+isJSON+"\r\nExpect: 100-continue\r\nContent-Length: 8\r\n\r\n")
	if line, err := br.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") {
		t.Fatalf("%q %v", line, err)
	}
	_, _ = br.ReadString('\n')
	send(t, conn, `{"id":7}`)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	r.outcome(proxy.Executed, 1)
	a := r.raw("POST / HTTP/1.1\r\nHost: x\r\n" + isJSON + "\r\nExpect: 100-continue\r\nContent-Length: 101\r\n\r\n")
	r.isProblem(a, 413, "body-too-large")
}

// A route's own segment has the key, by its name.
func TestKeyInThePath(t *testing.T) {
	t.Parallel()
	in := keysIn(t, "path:order")
	r := newRig(t, backendtest.OK, func(c *proxy.Config) {
		route := proxy.Route{Name: "orders", Match: proxy.Match{Path: "/orders/{order}/pay"}, Rules: c.Rules}
		of := proxy.Config{}
		in(&of)
		route.Rules.Key = of.Key
		c.Routes = append(c.Routes, route)
	})
	for range 2 {
		r.do("POST", "/orders/7/pay", "", "x")
	}
	r.outcome(proxy.Executed, 1)
	r.outcome(proxy.ReplayedStore, 1)
	if _, err := proxy.PlanOf(&proxy.Config{Rules: proxy.Rules{Key: func() *operation.Sources { c := proxy.Config{}; in(&c); return c.Key }()}}); err == nil {
		t.Error("a segment of no path is taken")
	}
}

// Observed, keys in small bodies are found; what is passed on as it comes is not compared.
func TestObservedBodyKeys(t *testing.T) {
	t.Parallel()
	var s seen
	r := newRig(t, backendtest.OK, s.observe, keysIn(t, "json:/id"))
	for range 2 {
		r.do("POST", "/", "", `{"id":7}`, isJSON)
	}
	r.do("POST", "/", "", `{}`, isJSON)
	r.do("POST", "/", "", `{`, isJSON)
	r.do("POST", "/", "", `{"id":7,"text":"`+strings.Repeat("x", 100_000)+`"}`, isJSON)
	s.is(t, "execute", "replay", "", "refused", "not-compared")
	r.outcome(proxy.Passed, 5)
}

// Where a share of the keys is enforced, a key in the body decides as one in a header does.
func TestShareOfBodyKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, keysIn(t, "json:/id", "header:Idempotency-Key"), func(c *proxy.Config) { c.ObservedShare = 5_000 })
	enforced := 0
	for i := range 40 {
		id := strings.Repeat("k", i+1)
		one := r.do("POST", "/", "", `{"id":"`+id+`"}`, isJSON)
		two := r.do("POST", "/", "", `{"id":"`+id+`"}`, isJSON)
		byHeader := r.do("POST", "/", id, "", "X-A: b")
		if one.StatusCode != 200 || two.StatusCode != 200 {
			t.Fatalf("%d, %d", one.StatusCode, two.StatusCode)
		}
		replayed := two.Header.Get("Idempotent-Replayed") != ""
		if replayed {
			enforced++
		}
		if refused := byHeader.StatusCode == 422; refused != replayed {
			t.Errorf("%s: enforced by the body %v, by the header %v", id, replayed, refused)
		}
	}
	if enforced == 0 || enforced == 40 {
		t.Errorf("%d of 40 keys are enforced", enforced)
	}
}

// A request whose key is in its body can be answered at once, and is the same one ever after.
func TestAsyncBodyKeys(t *testing.T) {
	t.Parallel()
	a := newAsyncRig(t, keysIn(t, "json:/id"), func(c *proxy.Config) { c.MaxPerKey = 2 })
	first := a.do("POST", "/pay", "", `{"id":7}`, isJSON, preferAsync)
	if first.StatusCode != http.StatusAccepted || first.Header.Get("Location") == "" {
		t.Fatalf("%d %v %s", first.StatusCode, first.Header, first.body)
	}
	if q := <-a.arrived; string(q.Payload) != `{"id":7}` {
		t.Errorf("the backend got %q", q.Payload)
	}
	a.isProblem(a.do("POST", "/pay", "", `{"id":7}`, isJSON), 409, "in-progress")
	a.let <- "done"
	if ended := <-a.ended; !ended.Keyed || ended.Key.Value() != "7" {
		t.Errorf("%+v", ended)
	}
	if again := a.do("POST", "/pay", "", `{"id":7}`, isJSON); again.StatusCode != 201 || again.body != "done" || len(a.arrived) != 0 {
		t.Errorf("%d %s", again.StatusCode, again.body)
	}
	if told, _ := a.ask(first.Header.Get("Location")); told.Key != "7" {
		t.Errorf("%+v", told)
	}
}
