package rstore_test

import (
	"testing"

	"github.com/idemproxy/idemproxy/rstore"
)

// Each shard is asked by a name of its own, also one that has a single slot left.
func TestAShardOfOneSlotHasAName(t *testing.T) {
	t.Parallel()
	for _, slots := range [][2]uint16{{0, 0}, {5460, 5460}, {16383, 16383}, {0, 16383}, {5461, 5470}} {
		tag := rstore.TagFor(slots[0], slots[1])
		if at := rstore.SlotOf(tag); at < slots[0] || at > slots[1] {
			t.Errorf("the slots from %d to %d: %q is in %d", slots[0], slots[1], tag, at)
		}
	}
}
