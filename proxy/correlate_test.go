package proxy_test

import (
	"net/http"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// Client, log and backend call a request the same; one that has no name yet gets
// one that nobody else has. Traces are passed on, and none is begun.
func TestCorrelation(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen http.Header
	var told [2]string
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		mu.Lock()
		seen = q.Header.Clone()
		mu.Unlock()
		backendtest.OK(c, q)
	}, func(c *proxy.Config) {
		c.Trace.Done = func(q *proxy.Report) {
			mu.Lock()
			told = [2]string{string(q.RequestID), string(q.TraceID)}
			mu.Unlock()
		}
	})
	const trace, id = "4bf92f3577b34da6a3ce929d0e0e4736", "client-7"
	const parent = "00-" + trace + "-00f067aa0ba902b7-01"
	made := map[string]bool{}
	for _, c := range []struct {
		key         string
		header      []string
		id, traceID string // "*": made here
		parent      string
	}{
		{"a", nil, "*", "", ""},
		{"a", nil, "*", "", ""},
		{"", nil, "*", "", ""},
		{"b", []string{"X-Request-Id: " + id, "Traceparent: " + parent}, id, trace, parent},
		{"b", []string{"X-Request-Id: again"}, "again", "", ""},
		{"", []string{"Traceparent: 00-short"}, "*", "", "00-short"},
		{"", []string{"Traceparent: 00-" + trace[1:] + "G-00f067aa0ba902b7-01"}, "*", "", "00-" + trace[1:] + "G-00f067aa0ba902b7-01"},
	} {
		seen = nil
		r.post(c.key, "x", c.header...)
		mu.Lock()
		if want := c.id; want == "*" {
			if len(told[0]) != 32 || made[told[0]] {
				t.Errorf("%v: the id %q", c, told[0])
			}
			made[told[0]] = true
		} else if told[0] != want {
			t.Errorf("%v: told %q", c, told[0])
		}
		if told[1] != c.traceID {
			t.Errorf("%v: trace %q", c, told[1])
		}
		if seen != nil && (seen.Get("X-Request-Id") != told[0] || seen.Get("Traceparent") != c.parent || len(seen["X-Request-Id"]) != 1) {
			t.Errorf("%v: the backend saw %v", c, seen)
		}
		mu.Unlock()
	}
}

// A trace is begun for requests without one, if the operator says how.
func TestNewTraceparent(t *testing.T) {
	t.Parallel()
	for wish, flags := range map[message.Traceparent]string{message.Sampled: "01", message.Unsampled: "00"} {
		var seen atomic.Value
		r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			seen.Store(q.Header.Get("Traceparent"))
			backendtest.OK(c, q)
		}, func(c *proxy.Config) { c.Traceparent = wish })
		well, made := regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-`+flags+`$`), map[any]bool{}
		for _, key := range []string{"a", "b", ""} {
			r.post(key, "x")
			if got := seen.Load(); !well.MatchString(got.(string)) || made[got] { //nolint:forcetypeassert // stored above
				t.Errorf("%v: %q", wish, got)
			}
			made[seen.Load()] = true
		}
		const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		if r.post("c", "x", "Traceparent: "+parent); seen.Load() != parent {
			t.Errorf("the client's own became %q", seen.Load())
		}
	}
}

// Every answer has the name that log and backend know its request by: those of the
// backend, unless it says another one, replays, and this proxy's own.
func TestEveryAnswerHasItsRequestID(t *testing.T) {
	t.Parallel()
	told := make(chan string, 1)
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		switch q.URL.Path {
		case "/own":
			c.Answer(200, "ok", "x-request-id: of the backend")
		case "/cut":
			_ = c.Close()
		case "/stream":
			c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n")
		default:
			c.Answer(200, "ok")
		}
	}, func(c *proxy.Config) {
		c.Trace.Done = func(q *proxy.Report) { told <- string(q.RequestID) }
		c.MaxResponseBody = 100
	})
	for _, c := range []struct{ path, key, body, id string }{
		{"/", "", "x", ""},
		{"/", "", "x", "mine"},
		{"/", "a", "x", "first"},
		{"/", "a", "x", "second"},
		{"/", "a", "x", ""},
		{"/", "a", "y", ""},
		{"/", "\x7f", "x", ""},
		{"/cut", "c", "x", ""},
		{"/stream", "", "x", ""},
		{"/stream", "s", "x", ""},
		{"/own", "", "x", "mine"},
		{"/own", "o", "x", "mine"},
		{"/own", "o", "x", "mine"},
	} {
		header := ""
		if c.id != "" {
			header = "X-Request-Id: " + c.id + "\r\n"
		}
		if c.key != "" {
			header += "Idempotency-Key: " + c.key + "\r\n"
		}
		a := r.raw("POST " + c.path + " HTTP/1.1\r\nHost: x\r\n" + header + "Content-Length: 1\r\n\r\n" + c.body)
		id := <-told
		if want := a.Header.Values("X-Request-Id"); len(want) != 1 || want[0] != id && want[0] != "of the backend" || c.id != "" && id != c.id || id == "" {
			t.Errorf("%v: the answer %d says %q, the log %q", c, a.StatusCode, want, id)
		}
		if own := a.Header.Get("X-Request-Id") == "of the backend"; own != (c.path == "/own" && a.Header.Get("Idempotent-Replayed") == "") {
			t.Errorf("%v: %v", c, a.Header)
		}
	}
}

// A response of a backend that replays by itself is marked once.
func TestReplayedByBoth(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) { c.Answer(200, "ok", "idempotent-replayed: true") })
	for range 2 {
		if a := r.post("k", "x"); len(a.Header.Values("Idempotent-Replayed")) != 1 {
			t.Errorf("%v", a.Header)
		}
	}
	r.executions("k", 1)
}
