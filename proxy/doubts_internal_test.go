package proxy

import (
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// What becomes of attempts that are to be asked about: when there are too many, when half
// of the room is free again, when the server ends, and after that.
func TestDoubts(t *testing.T) {
	t.Parallel()
	d := doubts{most: 4, all: map[doubtful]*Doubt{}}
	all := make([]doubtful, 8)
	for i := range all {
		all[i].owner = idem.NewOwner()
	}
	begun := 0
	add := func(i int, want admitted) {
		t.Helper()
		before := begun
		if got := d.add(all[i], func() { begun++ }); got != want {
			t.Errorf("adding %d: %d, want %d", i, got, want)
		}
		if (begun > before) != (want == entered) {
			t.Errorf("adding %d: begun %d times", i, begun-before)
		}
	}
	remove := func(i int, want bool) {
		t.Helper()
		if got := d.remove(all[i]); got != want {
			t.Errorf("removing %d: room again: %v", i, got)
		}
	}
	for i := range 4 {
		add(i, entered)
	}
	add(0, known)
	add(4, firstTurned)
	add(5, turnedAway)
	remove(0, false)
	add(4, entered)
	add(5, turnedAway)
	remove(1, false)
	remove(2, true)
	remove(3, false)
	d.stop()
	add(6, tooLate)
	if n := d.leave(); n != 2 {
		t.Errorf("%d are left", n)
	}
	add(7, afterAll)
	if n := d.leave(); n != 0 {
		t.Errorf("%d are left, the second time", n)
	}
}

// Looks of many proxies are spread, about the time that was set.
func TestSpread(t *testing.T) {
	t.Parallel()
	const d = 8 * time.Minute
	early, late := d, d
	for range 1000 {
		s := spread(d)
		early, late = min(early, s), max(late, s)
	}
	if early < 6*time.Minute || early > 7*time.Minute || late > 10*time.Minute || late < 9*time.Minute {
		t.Errorf("from %v to %v", early, late)
	}
	if s := spread(1); s < 0 || s > 2 {
		t.Errorf("%v", s)
	}
}
