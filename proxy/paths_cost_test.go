//go:build !race

package proxy_test

import (
	"runtime"
	"testing"
)

// TestAllocationsOfPaths: a request without a key allocates twice: what looks after its
// client, and what is the server's own (it looks whether a streamed body has ended); one with a new key has an
// attempt besides, with its key's bytes. What a response of 256 KiB is read into is
// used again. The bounds leave room for pools that the collector empties.
func TestAllocationsOfPaths(t *testing.T) {
	const runs = 500
	for _, path := range paths(t) {
		allocs, bytes := 2.0, 2048.0
		switch path.name {
		case "bare":
			continue
		case "new key":
			allocs = 5
		}
		if path.size > 64<<10 {
			allocs, bytes = allocs+4, 48<<10
		}
		send := path.sender(t)
		for range 20 {
			send()
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got := testing.AllocsPerRun(runs, send)
		runtime.ReadMemStats(&after)
		if each := float64(after.TotalAlloc-before.TotalAlloc) / runs; got > allocs || each > bytes {
			t.Errorf("%s, %d bytes: %v allocations and %.0f bytes a request, more than %v and %v",
				path.name, path.size, got, each, allocs, bytes)
		}
	}
}
