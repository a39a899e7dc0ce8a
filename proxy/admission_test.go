package proxy_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// What is beyond the limit is refused at once: nothing is acquired, nothing
// forwarded, and the same key works as soon as there is room.
func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	arrived, proceed := make(chan struct{}, 2), make(chan struct{})
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		arrived <- struct{}{}
		<-proceed
		backendtest.OK(c, q)
	}, func(c *proxy.Config) { c.MaxInFlight = 2 })
	results := make(chan answer, 2)
	for i := range 2 {
		go func() { results <- r.post(fmt.Sprint("k", i), "x") }()
		<-arrived
	}
	for _, key := range []string{"late", "k0", ""} {
		a := r.post(key, "x")
		r.isProblem(a, 503, "overloaded")
		if a.Header.Get("Retry-After") != "1" {
			t.Error("no Retry-After")
		}
	}
	r.outcome(proxy.Overloaded, 3)
	late, err := idem.ParseKey("late")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Get(t.Context(), late); !errors.Is(err, idem.ErrNotFound) {
		t.Errorf("the store has heard of a refused key: %v", err)
	}
	close(proceed)
	for range 2 {
		if a := <-results; a.StatusCode != 200 {
			t.Errorf("a request under way got %d", a.StatusCode)
		}
	}
	if a := r.post("late", "x"); a.StatusCode != 200 {
		t.Errorf("afterwards: %d %s", a.StatusCode, a.body)
	}
	r.executions("late", 1)
}

// Who waits for a key in progress does not take the place of others.
func TestWaitersAreNotInFlight(t *testing.T) {
	t.Parallel()
	proceed := make(chan struct{})
	arrived, waiting := make(chan struct{}, 1), make(chan int, 8)
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.Header.Get("Idempotency-Key") == "slow" {
			arrived <- struct{}{}
			<-proceed
		}
		backendtest.OK(c, q)
	}, func(c *proxy.Config) {
		c.MaxInFlight, c.MaxWait = 2, time.Minute
		c.Engine.Close(t.Context())
		c.Engine = idem.NewEngine(idem.Config{Store: storetest.NewMemory(), Trace: idem.Trace{
			Waiting: func(delta int) { waiting <- delta },
		}})
	})
	results := make(chan answer, 5)
	go func() { results <- r.post("slow", "x") }()
	<-arrived
	for range 4 {
		go func() { results <- r.post("slow", "x", "Prefer: wait=60") }()
		<-waiting
	}
	if a := r.post("other", "x"); a.StatusCode != 200 {
		t.Errorf("beside four that wait: %d %s", a.StatusCode, a.body)
	}
	close(proceed)
	for range 5 {
		if a := <-results; a.StatusCode != 200 {
			t.Errorf("got %d %s", a.StatusCode, a.body)
		}
	}
}

// A body counts as it comes: who announces one and sends nothing takes nothing from
// others, and while there is no room only those are refused that need some.
func TestMaxBuffered(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.MaxBuffered, c.MaxRequestBody = 100<<10, 1<<20 })
	if a := r.post("before", "x"); a.StatusCode != 200 {
		t.Fatal(a.StatusCode)
	}
	for _, header := range []string{"Content-Length: 200000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n20000\r\n"} {
		var slow []net.Conn
		for range 20 { // which announce 4 MB
			slow = append(slow, r.dial("POST /p HTTP/1.1\r\nHost: x\r\nIdempotency-Key: slow\r\n"+header))
		}
		if a := r.post("probe", "x"); a.StatusCode != 200 {
			t.Errorf("%s: nothing has come, and others are refused: %d", header, a.StatusCode)
		}
		for _, c := range slow[:12] { // 96 KiB
			send(t, c, strings.Repeat("x", 8<<10+200))
		}
		r.until("the bodies count", func() bool { return r.server.Buffered() == 12*(8<<10+200) })
		r.isProblem(r.post("other", strings.Repeat("x", 60<<10)), 503, "overloaded")
		for _, key := range []string{"", "before"} {
			if a := r.post(key, "x"); a.StatusCode != 200 {
				t.Errorf("one that there is room for, key %q: %d", key, a.StatusCode)
			}
		}
		for _, c := range slow {
			_ = c.Close()
		}
		r.until("they count no more", func() bool { return r.server.Buffered() == 0 })
	}
	r.executions("other", 0)
}

// A body that does not come, or comes in drops, is given up: of any length, with a
// key or without.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*proxy.Config)
		fields string
	}{
		"in all":             {func(c *proxy.Config) { c.BodyTimeout, c.BodyMinRate = 200*time.Millisecond, 0 }, "Content-Length: 100\r\nIdempotency-Key: k"},
		"in all, without":    {func(c *proxy.Config) { c.BodyTimeout, c.BodyMinRate = 200*time.Millisecond, 0 }, "Content-Length: 100"},
		"the rate":           {func(c *proxy.Config) { c.HeaderTimeout, c.BodyMinRate = 200*time.Millisecond, 1<<20 }, "Content-Length: 100\r\nIdempotency-Key: k"},
		"the rate, chunked":  {func(c *proxy.Config) { c.HeaderTimeout, c.BodyMinRate = 200*time.Millisecond, 1<<20 }, "Transfer-Encoding: chunked\r\nIdempotency-Key: k"},
		"the rate, too long": {func(c *proxy.Config) { c.HeaderTimeout, c.BodyMinRate = 200*time.Millisecond, 1<<20 }, "Content-Length: 100000\r\nIdempotency-Key: k"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, backendtest.OK, c.change)
			conn, br := dial(t, r.addr)
			send(t, conn, "POST /p HTTP/1.1\r\nHost: x\r\n"+c.fields+"\r\n\r\n40\r\nhalf of it")
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 408 || r.backend.Total() != 0 {
				t.Errorf("%d, want 408; %d executions", resp.StatusCode, r.backend.Total())
			}
			// A body that comes takes as long as it takes.
			if a := r.post("other", strings.Repeat("x", 200<<10)); a.StatusCode != 200 {
				t.Errorf("a good one: %d", a.StatusCode)
			}
		})
	}
}

// What is decoded for a client counts, is bounded, and is what was signed no more.
func TestDecodingIsBounded(t *testing.T) {
	t.Parallel()
	bomb := func(n int) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(make([]byte, n))
		_ = w.Close()
		return b.String()
	}
	small, large := bomb(64<<10), bomb(40<<20)
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		switch q.Header.Get("Idempotency-Key") {
		case "large":
			c.Answer(200, large, "Content-Encoding: gzip")
		case "fixed":
			c.Answer(200, small, "Content-Encoding: gzip", "Cache-Control: private, No-Transform")
		default:
			c.Answer(200, small, "Content-Encoding: gzip", "Content-Digest: sha-256=:x:", "Repr-Digest: sha-256=:x:", "Digest: x", "Content-MD5: x",
				"ETag: \"a\"")
		}
	}, func(c *proxy.Config) { c.MaxResponseBody = 1 << 20 })
	for _, key := range []string{"small", "large", "fixed"} {
		if a := r.do("POST", "/", key, "x", "Accept-Encoding: gzip"); a.StatusCode != 200 {
			t.Fatalf("%s: %d", key, a.StatusCode)
		}
	}
	a := r.do("POST", "/", "small", "x", "Accept-Encoding: identity")
	if a.StatusCode != 200 || len(a.body) != 64<<10 || a.Header.Get("ETag") != `W/"a"` {
		t.Errorf("decoded: %d, %d bytes, %v", a.StatusCode, len(a.body), a.Header)
	}
	for _, gone := range []string{"Content-Encoding", "Content-Digest", "Repr-Digest", "Digest", "Content-MD5"} {
		if v := a.Header.Get(gone); v != "" {
			t.Errorf("%s: %s", gone, v)
		}
	}
	for _, key := range []string{"large", "fixed"} {
		r.isProblem(r.do("POST", "/", key, "x", "Accept-Encoding: identity"), 406, "encoding-not-accepted")
		if a := r.do("POST", "/", key, "x", "Accept-Encoding: gzip"); a.StatusCode != 200 || a.Header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s, for who takes it: %d", key, a.StatusCode)
		}
	}
}

// A response counts until its client has taken it.
func TestResponsesCountUntilTheyAreTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) { c.Answer(200, strings.Repeat("x", 16<<20)) },
		func(c *proxy.Config) { c.MaxBuffered, c.MaxResponseBody = 10<<20, 32<<20 })
	slow := r.dial("POST /p HTTP/1.1\r\nHost: x\r\nIdempotency-Key: slow\r\nContent-Length: 1\r\n\r\nx")
	r.until("it was executed", func() bool { return r.backend.Total() == 1 })
	r.until("it is answered", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.outcomes[proxy.Executed] == 1 })
	r.isProblem(r.post("other", "x"), 503, "overloaded")
	_ = slow.Close()
	r.until("it counts no more", func() bool { return r.post("probe", "x").StatusCode == http.StatusOK })
}

// So does a replay, which is read from the store for each client.
func TestReplaysCountUntilTheyAreTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.Header.Get("Idempotency-Key") == "large" {
			c.Answer(200, strings.Repeat("x", 16<<20))
			return
		}
		c.Answer(200, "ok")
	}, func(c *proxy.Config) { c.MaxBuffered, c.MaxResponseBody = 10<<20, 32<<20 })
	ask := func(more string) string {
		return "POST /p HTTP/1.1\r\nHost: x\r\nIdempotency-Key: large\r\nContent-Length: 1\r\n" + more + "\r\nx"
	}
	if got := r.exchange(ask("Connection: close\r\n")); len(got) < 16<<20 {
		t.Fatalf("%d bytes", len(got))
	}
	r.until("it counts no more", func() bool { return r.server.Buffered() == 0 })
	slow := r.dial(ask(""))
	r.until("it is replayed", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.outcomes[proxy.ReplayedStore] == 1 })
	r.isProblem(r.post("other", "x"), 503, "overloaded")
	_ = slow.Close()
	r.until("it counts no more", func() bool { return r.post("probe", "x").StatusCode == http.StatusOK })
}

// slowStore lets no completion through until it is opened.
type slowStore struct {
	*storetest.Memory
	completing chan struct{}
	open       chan struct{}
}

func (s *slowStore) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	close(s.completing)
	<-s.open
	return s.Memory.Complete(ctx, l, r)
}

// Responses count while they are in memory; what was executed is answered all
// the same.
func TestMaxBufferedCountsResponses(t *testing.T) {
	t.Parallel()
	slow := &slowStore{storetest.NewMemory(), make(chan struct{}), make(chan struct{})}
	r := newRig(t, func(c backendtest.Conn, _ *backendtest.Request) { c.Answer(200, strings.Repeat("x", 200<<10)) },
		func(c *proxy.Config) {
			c.MaxBuffered, c.MaxResponseBody = 100<<10, 1<<20
			c.Engine.Close(t.Context())
			c.Engine = idem.NewEngine(idem.Config{Store: slow})
		})
	first := make(chan answer, 1)
	go func() { first <- r.post("large", "x") }()
	<-slow.completing
	r.isProblem(r.post("other", "x"), 503, "overloaded")
	close(slow.open)
	if a := <-first; a.StatusCode != 200 || len(a.body) != 200<<10 {
		t.Errorf("got %d with %d bytes", a.StatusCode, len(a.body))
	}
	if a := r.post("large", "x"); a.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("afterwards: %d", a.StatusCode)
	}
}

// until polls, for a bounded time, for what no event tells: that the proxy has
// read bytes that were sent, or noticed that a client is gone.
func (r *rig) until(what string, f func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("in vain: %s", what)
		}
	}
}
