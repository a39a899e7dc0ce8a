package outage_test

import (
	"slices"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/outage"
)

func TestLinesBecomeFewer(t *testing.T) {
	t.Parallel()
	var lines outage.Lines
	start := time.Now()
	said := func() (at []int) {
		for second := range 200 {
			if lines.Worth(start.Add(time.Duration(second) * time.Second)) {
				at = append(at, second)
			}
		}
		return at
	}
	want := []int{0, 1, 3, 7, 15, 31, 63, 123, 183}
	if got := said(); !slices.Equal(got, want) {
		t.Errorf("lines at the seconds %v, want %v", got, want)
	}
	lines.Over()
	if got := said(); !slices.Equal(got, want) {
		t.Errorf("in the next outage: lines at the seconds %v, want %v", got, want)
	}
}
