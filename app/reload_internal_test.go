package app

import (
	"crypto/sha256"
	"testing"
)

// Settings are loaded when nobody writes their files any more: not before, and not never.
func TestFilesAreReadWhenTheyAreWritten(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		unchanged int // from which look on; 0: never
		pauses    int
	}{
		{"nobody writes", 1, 1},
		{"two more pieces come", 3, 3},
		{"somebody writes without end", 0, mostLooks},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			looks, pauses := 0, 0
			digest := func() (sum [sha256.Size]byte) {
				looks++
				sum[0] = byte(looks)
				if test.unchanged > 0 {
					sum[0] = byte(min(looks, test.unchanged))
				}
				return sum
			}
			got := settled(digest, func() { pauses++ })
			if pauses != test.pauses {
				t.Errorf("%d pauses, want %d", pauses, test.pauses)
			}
			if want := max(test.unchanged, 0); want > 0 && int(got[0]) != want {
				t.Errorf("settled on look %d, want %d", got[0], want)
			}
		})
	}
}
