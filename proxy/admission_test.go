package proxy_test

import (
	"context"
	"errors"
	"fmt"
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

// A body counts from when it is announced, not from when it is there.
func TestMaxBuffered(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.MaxBuffered, c.MaxRequestBody = 100<<10, 1<<20 })
	for _, header := range []string{"Content-Length: 200000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2000\r\n"} {
		slow := r.dial("POST /p HTTP/1.1\r\nHost: x\r\nIdempotency-Key: slow\r\n" + header + strings.Repeat("x", 8<<10))
		r.until("the body counts", func() bool { return r.post("probe", "x").StatusCode == http.StatusServiceUnavailable })
		r.isProblem(r.post("other", "x"), 503, "overloaded")
		_ = slow.Close()
		r.until("it counts no more", func() bool { return r.post("probe", "x").StatusCode == http.StatusOK })
	}
	r.executions("other", 0)
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
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("in vain: %s", what)
		}
	}
}
