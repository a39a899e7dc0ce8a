package idem

import (
	"context"
	"testing"
)

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
		g, _, _ := w.join(r, 0)
		_, first, _ := w.join(r, 0)
		_, second, _ := w.join(r, 0)
		w.leave(g, g.until) // the first is told to lead
		if _, ok := w.follow(ended, g, first); ok {
			continue
		}
		gaveUp++
		if s := <-second.Value.(chan shared); !s.lead { //nolint:forcetypeassert // see join
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
