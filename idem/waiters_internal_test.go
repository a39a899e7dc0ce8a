package idem

import (
	"context"
	"testing"
)

// newFollower is a waiter of r's group, which somebody leads already.
func newFollower(t *testing.T, w *waiters, r *Request) *waiter {
	t.Helper()
	m, leads := w.join(r, 0)
	if m == nil || leads {
		t.Fatal("it does not follow")
	}
	return m
}

// A follower that is made the leader in the very moment in which it gives up
// passes that on. Which of the two it sees is chance: both happen here.
func TestLeadershipIsPassedOn(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	gaveUp := 0
	for range 200 {
		w := newWaiters(10)
		r := &Request{Key: Key{value: "k"}}
		leader, _ := w.join(r, 0)
		first, second := newFollower(t, w, r), newFollower(t, w, r)
		w.leave(leader, leader.group.until) // the first is told to lead
		if _, ok := w.follow(ended, first); ok {
			continue
		}
		gaveUp++
		if s := <-second.told; !s.lead {
			t.Fatal("the second was not told to lead")
		}
		if w.count != 1 {
			t.Fatalf("%d wait, want 1", w.count)
		}
	}
	if gaveUp == 0 || gaveUp == 200 {
		t.Errorf("it gave up %d times of 200: the test shows nothing", gaveUp)
	}
}

// A follower that gives up in the very moment in which it is told what became of
// the key gets that, and is counted out once.
func TestToldWhileGivingUp(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for range 200 {
		w := newWaiters(10)
		r := &Request{Key: Key{value: "k"}}
		leader, _ := w.join(r, 0)
		follower := newFollower(t, w, r)
		w.share(leader, shared{out: Outcome{Kind: VerdictCompleted}})
		s, ok := w.follow(ended, follower)
		if !ok || s.out.Kind != VerdictCompleted {
			t.Fatalf("it was told %v, %v", s.out.Kind, ok)
		}
		if w.count != 0 || w.some.Load() || len(w.groups) != 0 {
			t.Fatalf("%d wait in %d groups, some: %v", w.count, len(w.groups), w.some.Load())
		}
	}
}

// WaitersLeft is how many wait, for the tests of the package's outside.
func (e *Engine) WaitersLeft() int {
	e.waiters.mu.Lock()
	defer e.waiters.mu.Unlock()
	return e.waiters.count
}

// Only those whose requests are the same in everything wait together: the answer of one is all the others'.
func TestOnlyTheSameWaitTogether(t *testing.T) {
	t.Parallel()
	w := newWaiters(10)
	key := Key{value: "k"}
	for name, r := range map[string]*Request{
		"one":             {Key: key},
		"another payload": {Key: key, Fingerprint: Fingerprint{1}},
		"another caller":  {Key: key, Binding: Binding{1}},
		"another recipe":  {Key: key, Recipe: 1},
	} {
		if _, leads := w.join(r, 0); !leads {
			t.Errorf("%s follows somebody else", name)
		}
		newFollower(t, w, r)
	}
}
