package rstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// fill acquires keys until Redis is full.
func fill(tb testing.TB, server *redistest.Server, s *rstore.Store) {
	tb.Helper()
	server.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	server.Do("CONFIG", "SET", "maxmemory", fmt.Sprint(number(tb, server, "DBSIZE")+1))
	if _, err := s.Acquire(context.Background(), claim("one too many")); !errors.Is(err, idem.ErrUnavailable) {
		tb.Fatalf("it is not full: %v", err)
	}
}

// A Redis that is full (noeviction) takes no new keys, and lets what runs come to
// its end.
func TestP6WhatRunsEndsInAFullRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	ctx := t.Context()
	done(t, s, remembered("completed before", time.Hour), &idem.Response{Status: 200, Body: []byte("before")})
	ends := map[string]func(c idem.Claim) error{
		"completed": func(c idem.Claim) error {
			return s.Complete(ctx, c.Lease(), &idem.Response{Status: 200, Body: make([]byte, 4096)})
		},
		"released":   func(c idem.Claim) error { return s.Release(ctx, c.Lease()) },
		"held":       func(c idem.Claim) error { return s.Hold(ctx, c.Lease()) },
		"by hand":    func(c idem.Claim) error { return s.Release(ctx, idem.Lease{Key: c.Key, Owner: c.Owner}) },
		"purged":     func(c idem.Claim) error { return s.Purge(ctx, c.Key) },
		"registered": func(idem.Claim) error { return s.Enter(ctx, "name", "text", time.Hour) },
	}
	running := map[string]idem.Claim{}
	for name := range ends {
		c := remembered(name, time.Hour)
		if _, err := s.Acquire(ctx, c); err != nil {
			t.Fatal(err)
		}
		running[name] = c
	}
	fill(t, server, s)
	server.Do("SCRIPT", "FLUSH") // a proxy that starts now must be able to load them
	if _, err := s.Acquire(ctx, claim("new")); !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) {
		t.Errorf("a new key: %v, want it refused", err)
	}
	for name, c := range running {
		if err := s.Renew(ctx, []idem.Lease{c.Lease()})[0]; err != nil {
			t.Errorf("%s: renewal: %v", name, err)
		}
		if err := ends[name](c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	acquire(t, s, running["completed"], idem.VerdictCompleted)
	acquire(t, s, running["held"], idem.VerdictUnknown)
	if out := acquire(t, s, remembered("completed before", time.Hour), idem.VerdictCompleted); string(out.Response.Body) != "before" {
		t.Errorf("replays %q", out.Response.Body)
	}
	server.Do("CONFIG", "SET", "maxmemory", "0")
	if out := acquire(t, s, running["released"], idem.VerdictAcquired); out.Attempt != 2 {
		t.Errorf("attempt %d, want 2", out.Attempt)
	}
}

// What Redis refused and what never left this process was certainly not done; of
// what got no answer, that is not said.
func TestP5RefusedIsCertain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL(), Timeout: 500 * time.Millisecond})
	ctx := t.Context()
	running := completed(t, s, "warm-up")
	each := func(ctx context.Context) map[string]error {
		_, acquired := s.Acquire(ctx, claim("k"))
		return map[string]error{
			"acquire": acquired, "renew": s.Renew(ctx, []idem.Lease{running.Lease()})[0],
			"complete": s.Complete(ctx, running.Lease(), &idem.Response{Status: 200}), "release": s.Release(ctx, running.Lease()),
		}
	}
	check := func(when string, certain bool, errs map[string]error) {
		t.Helper()
		for name, err := range errs {
			if !errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused) != certain {
				t.Errorf("%s, %s: %v, want it to be certain: %v", when, name, err, certain)
			}
		}
	}
	server.Do("ACL", "SETUSER", "default", "-evalsha")
	check("NOPERM", true, each(ctx))
	server.Do("ACL", "SETUSER", "default", "+evalsha")
	server.Do("CONFIG", "SET", "min-replicas-to-write", "1")
	check("NOREPLICAS", true, each(ctx))
	server.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	server.Do("REPLICAOF", "127.0.0.1", "1")
	check("READONLY", true, each(ctx))
	server.Do("REPLICAOF", "NO", "ONE")
	awaitReady(t, s)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	check("a context that has ended", true, each(ended))

	resume := server.Stall()
	// Those after it may find the connection given up, and send nothing.
	_, err := s.Acquire(ctx, claim("k"))
	check("no answer", false, map[string]error{"acquire": err})
	resume()
	server.Kill()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := s.Acquire(ctx, claim("k")); errors.Is(err, idem.ErrRefused) {
			break // the broken connection is known, and there is no other
		}
		if time.Now().After(deadline) {
			t.Fatal("a connection that is refused is not certain")
		}
	}
	check("no connection", true, each(ctx))
	never := open(t, rstore.Config{URL: server.URL()})
	if _, err := never.Acquire(ctx, claim("k")); !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) {
		t.Errorf("never connected: %v", err)
	}
}

// A name that steers slots, or a response away from its record, is no namespace.
func TestNamespacesWithBraces(t *testing.T) {
	t.Parallel()
	for _, namespace := range []string{"{a}", "a{", "}"} {
		if s, err := rstore.New(rstore.Config{URL: "redis://127.0.0.1:1", Namespace: namespace}); err == nil {
			_ = s.Close()
			t.Errorf("%q is taken", namespace)
		}
	}
}

// pause has a server take commands that may write, and not execute them before
// resume is called.
func pause(server *redistest.Server) (resume func()) {
	server.Do("CLIENT", "PAUSE", "60000", "WRITE")
	return func() { server.Do("CLIENT", "UNPAUSE") }
}

// arrived waits until a command is at a server that is paused.
func arrived(tb testing.TB, server *redistest.Server) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		m := server.Do("CLIENT", "LIST")
		text, err := m.ToString()
		for line := range strings.Lines(text) {
			_, flags, _ := strings.Cut(line, " flags=")
			if flags, _, _ = strings.Cut(flags, " "); strings.Contains(flags, "b") {
				return
			}
		}
		if err != nil || time.Now().After(deadline) {
			tb.Fatalf("nothing arrives: %v", err)
		}
	}
}

// A purge whose answer is not awaited is done all the same, perhaps; nobody tells
// this process of its own, so it must not trust its memory.
func TestP2APurgeForgetsWhateverItsAnswer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, other := open(t, rstore.Config{URL: server.URL()}), open(t, rstore.Config{URL: server.URL()})
	c := remembered("k", time.Hour)
	done(t, s, c, &idem.Response{Status: 200, Body: []byte("before")})
	acquire(t, s, c, idem.VerdictCompleted)
	if out := acquire(t, s, c, idem.VerdictCompleted); !out.Local {
		t.Fatal("not cached")
	}
	if err := s.Purge(t.Context(), claim("none").Key); !errors.Is(err, idem.ErrNotFound) { // the script is loaded
		t.Fatal(err)
	}
	resume := pause(server)
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() { answer <- s.Purge(ctx, c.Key) }()
	arrived(t, server)
	cancel()
	if err := <-answer; !errors.Is(err, idem.ErrUnavailable) {
		t.Fatalf("purge: %v", err)
	}
	resume()
	next := c
	next.Owner = idem.NewOwner()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		out, err := other.Acquire(t.Context(), next)
		if err != nil || out.Kind == idem.VerdictAcquired {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the purge was not done")
		}
	}
	if err := other.Complete(t.Context(), next.Lease(), &idem.Response{Status: 200, Body: []byte("after")}); err != nil {
		t.Fatal(err)
	}
	if out := acquire(t, s, c, idem.VerdictCompleted); string(out.Response.Body) != "after" {
		t.Errorf("replays %q, what it executed is forgotten", out.Response.Body)
	}
}
