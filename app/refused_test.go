package app

import (
	"testing"
	"time"
)

// Refusals do not fill the log: one line a second for each reason, and none is left out
// of the number.
func TestRefusalsDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	var r refusals
	at := time.Unix(1_000_000, 0)
	for i, c := range []struct {
		why   string
		after time.Duration
		n     int
	}{
		{"a", 0, 1}, {"a", 0, 0}, {"a", 999 * time.Millisecond, 0}, {"b", 0, 1}, {"a", time.Millisecond, 3}, {"a", time.Hour, 1}, {"b", 0, 1},
	} {
		at = at.Add(c.after)
		if n, yes := r.due(c.why, at); n != c.n || yes != (c.n > 0) {
			t.Errorf("%d: %d, %v, want %d", i, n, yes, c.n)
		}
	}
}
