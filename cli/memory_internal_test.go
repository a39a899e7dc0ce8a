package cli

import "testing"

// TestGarbageIsBounded: what may pile up beside what is live is in proportion while
// little is live, bounded in bytes beyond that, and never so little that nothing but
// collecting would be done.
func TestGarbageIsBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		live        uint64
		percent     int
		description string
	}{
		{0, 200, "before the first collection"},
		{8 << 20, 200, "a small heap"},
		{32 << 20, 200, "the bound is met"},
		{64 << 20, 100, "the caches are half full"},
		{160 << 20, 40, "the caches are full: 64 MiB"},
		{1 << 30, 25, "much is under way"},
		{1 << 62, 25, "more than there is"},
	} {
		if got := garbagePercent(c.live); got != c.percent {
			t.Errorf("%s: %d bytes live: %d, want %d", c.description, c.live, got, c.percent)
		}
	}
}
