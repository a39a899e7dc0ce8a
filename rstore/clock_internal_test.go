package rstore

import (
	"testing"
	"time"
)

// What is known of a server's clock is what all of its replies leave possible, and
// what the last one says where they contradict each other.
func TestClocksLearn(t *testing.T) {
	t.Parallel()
	c := newClocks()
	const show = 5_000_000 // what the server's clock shows, ms, when c was made
	after := func(d time.Duration) time.Time { return c.start.Add(d) }
	reply := func(at, there, back time.Duration, shown int64) {
		c.learn(3, shown+at.Milliseconds(), after(at-there), after(at+back))
	}
	want := func(what string, at time.Duration, least, surely int64) {
		t.Helper()
		if got := c.at(3, after(at)); got != least {
			t.Errorf("%s: at least %d, want %d", what, got, least)
		}
		if got := c.surely(3, after(at)); got != surely {
			t.Errorf("%s: surely %d, want %d", what, got, surely)
		}
	}
	const ms = time.Millisecond
	want("nothing heard", time.Second, 0, 0)
	reply(time.Second, 20*ms, 30*ms, show)
	want("a slow reply", 2*time.Second, show+2000-30, 0)
	reply(2*time.Second, 20*ms, 0, show)
	want("one that was slow on its way there", 3*time.Second, show+3000, 0)
	reply(3*time.Second, 0, 40*ms, show)
	want("one that was slow on its way back", 4*time.Second, show+4000, show+4001)
	want("long after", 3*time.Second+40*ms+heardAtMost+1, show+13040, 0)
	reply(20*time.Second, ms, ms, show-3_600_000)
	want("the clock was set back", 21*time.Second, show-3_600_000+21000-1, 0)
	if c.forget(); c.at(3, after(time.Second)) != 0 || c.surely(3, after(20*time.Second)) != 0 {
		t.Error("it is not forgotten")
	}
	if c.at(4, after(time.Second)) != 0 {
		t.Error("another slot's clock is known")
	}
}
