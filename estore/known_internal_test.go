package estore

import "testing"

// A round reads the ids of all records. It is made where most of those that are known may be
// gone, and not again and again where they are there, be they few or many.
func TestARoundIsMadeWhereMostMayBeGone(t *testing.T) {
	t.Parallel()
	var n known
	if !n.stale() {
		t.Error("no round was made yet, and none is due")
	}
	for name, c := range map[string]struct {
		known, live int64
		stale       bool
	}{
		"an empty store":                       {0, 0, false},
		"a few, all there":                     {1000, 1000, false},
		"a few, nearly all gone":               {1000, 1, false}, // too few to matter
		"many, all there":                      {10_000_000, 10_000_000, false},
		"many, and as many came since a round": {10_000_000, 5_000_000, false},
		"many, nearly all gone":                {10_000_000, 1000, true},
		"many, two of three gone":              {10_000_000, 3_000_000, true},
	} {
		set := newIDSet()
		set.count.Store(c.known)
		n.current.Store(set)
		n.live.Store(c.live)
		if n.stale() != c.stale {
			t.Errorf("%s: a round is due: %v, want %v", name, n.stale(), c.stale)
		}
	}
}
