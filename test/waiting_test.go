package test_test

import (
	"sync"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// gated is a backend that is at work on every request until open is called.
type gated struct {
	*backendtest.Backend
	t    *testing.T
	open func() // may be repeated
}

func newGated(t *testing.T) *gated {
	t.Helper()
	gate := make(chan struct{})
	g := &gated{t: t, open: sync.OnceFunc(func() { close(gate) })}
	g.Backend = backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		<-gate
		backendtest.OK(c, q)
	})
	t.Cleanup(g.open) // before the backend's own end, which waits for its requests
	return g
}

// began waits until the backend has been at work on n requests with that key.
func (g *gated) began(key string, n int) {
	g.t.Helper()
	eventually(g.t, "the backend begins with "+key, func() bool { return g.Executions(key) == n })
}

// crowd posts n times at once.
func crowd(p *process, n int, key string) <-chan answer {
	answers := make(chan answer, n)
	for range n {
		go func() {
			a, err := p.try("/", key)
			if err != nil {
				a.body = err.Error()
			}
			answers <- a
		}()
	}
	return answers
}

func (p *process) waiters(n float64) {
	p.t.Helper()
	eventually(p.t, "all wait", func() bool { return p.metric("idemproxy_waiters") == n })
}

// Two proxies on one Redis: who waits at one gets what the other one executed.
func TestWaitingAcrossProxies(t *testing.T) {
	t.Parallel()
	redis, backend := redistest.Start(t), newGated(t)
	args := []string{"--store", redis.URL(), "--backend", backend.URL(), "--in-progress", "wait", "--max-wait", "60s"}
	here, there := start(t, args...), start(t, args...)
	const key, n = "waited for", 30
	first := crowd(here, 1, key)
	backend.began(key, 1)
	mine, theirs := crowd(here, n, key), crowd(there, n, key)
	here.waiters(n)
	there.waiters(n)
	backend.open()
	executed := <-first
	for range n {
		for _, a := range []answer{<-mine, <-theirs} {
			if a.status != 200 || !a.replayed || a.body != executed.body {
				t.Errorf("a waiter got %v, the first %v", a, executed)
			}
		}
	}
	if n := backend.Executions(key); n != 1 {
		t.Errorf("%d executions", n)
	}
}

// The proxy that executes dies: one of those who wait elsewhere takes over when
// its lease has lapsed; under hold nobody does.
func TestWaitersOfAKilledProxy(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"release", "hold"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			redis, backend := redistest.Start(t), newGated(t)
			args := []string{
				"--store", redis.URL(), "--backend", backend.URL(), "--in-progress", "wait", "--max-wait", "60s",
				"--lock-ttl", "4s", "--on-ambiguous", policy,
			}
			here, there := start(t, args...), start(t, args...)
			const key, n = "killed", 20
			crowd(here, 1, key)
			backend.began(key, 1)
			waiting := crowd(there, n, key)
			there.waiters(n)
			here.kill()
			executions := 1
			if policy == "release" {
				executions = 2
				backend.began(key, 2)
			}
			backend.open()
			fresh := 0
			for range n {
				a := <-waiting
				switch {
				case policy == "hold" && a.status == 409:
				case policy == "release" && a.status == 200:
					if !a.replayed {
						fresh++
					}
				default:
					t.Errorf("a waiter got %v", a)
				}
			}
			if fresh != executions-1 || backend.Executions(key) != executions {
				t.Errorf("%d waiters executed, %d executions, want %d", fresh, backend.Executions(key), executions)
			}
		})
	}
}

// A stop sends those home who wait, and lets the one finish that executes.
func TestStopSendsWaitersHome(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store string) {
		backend := newGated(t)
		p := start(t, "--store", store, "--backend", backend.URL(), "--in-progress", "wait", "--max-wait", "60s")
		first := crowd(p, 1, "k")
		backend.began("k", 1)
		waiting := crowd(p, 10, "k")
		p.waiters(10)
		stopped := make(chan int, 1)
		go func() { stopped <- p.stop() }()
		for range 10 {
			if a := <-waiting; a.status != 409 {
				t.Errorf("a waiter got %v", a)
			}
		}
		backend.open()
		if a := <-first; a.status != 200 {
			t.Errorf("the first got %v", a)
		}
		if code := <-stopped; code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

// Redis dies under a proxy that fails open, and one that says 503.
func TestFailingOpenAndClosed(t *testing.T) {
	t.Parallel()
	redis, o := redistest.Start(t), newOrigin(t)
	open := start(t, "--store", redis.URL(), "--backend", o.url(), "--fail-open")
	closed := start(t, "--store", redis.URL(), "--backend", o.url(), "--fail-status", "503")
	redis.Kill()
	for n := 1; n <= 2; n++ {
		if a := open.expect("/", "open", 200, false); a.header.Get("Idempotency-Unprotected") != "true" {
			t.Errorf("not marked: %v", a.header)
		}
		o.executions("open", n)
	}
	if n := open.metric(`idemproxy_requests_total{outcome="failed-open",route="default"}`); n != 2 {
		t.Errorf("%v counted", n)
	}
	if a := closed.expect("/", "closed", 503, false); a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	o.executions("closed", 0)
	redis.Restart()
	for _, p := range []*process{open, closed} {
		eventually(t, "Redis is back", func() bool { status, _ := p.ready(); return status == 200 })
	}
	if a := open.expect("/", "protected", 200, false); a.header.Get("Idempotency-Unprotected") != "" {
		t.Error("protected, but marked as not")
	}
	open.expect("/", "protected", 200, true)
	closed.expect("/", "closed", 200, false)
	o.executions("protected", 1)
	o.executions("closed", 1)
}
