package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRestOfAnEarlierRun: what a run measured stays its own, what it did not is the earlier one's,
// and the page says which is which.
func TestRestOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	earlier := newResults(options{})
	earlier.When, earlier.Commit, earlier.Machine = time.Date(2026, 11, 27, 14, 45, 0, 0, time.UTC), "14a2b9d", "two cores"
	earlier.add(findWorkload(newKeys), bare, &sample{PerSecond: 100})
	earlier.add(findWorkload("no key"), bare, &sample{PerSecond: 300})
	earlier.Latencies = []latency{{Name: bare, Rate: 4000}}
	earlier.figure(soakMemory+", of 10m0s", "531 MiB")
	earlier.figure(binarySize, "27 MiB")
	earlier.Numbers[soakMemory], earlier.Numbers[soakCaches], earlier.Numbers[binarySize] = 531, 160, 27

	r := newResults(options{})
	r.add(findWorkload("no key"), bare, &sample{PerSecond: 7})
	r.figure(soakMemory+", of 5m0s", "300 MiB")
	r.Numbers[soakMemory], r.Numbers[soakCaches] = 300, 160
	r.takeRest(earlier)

	if got := r.median("no key", bare); got != 7 {
		t.Errorf("a workload of its own: %v", got)
	}
	if got := r.median(newKeys, bare); got != 100 {
		t.Errorf("a workload of before: %v", got)
	}
	if r.latency(bare) == nil {
		t.Error("no latencies")
	}
	want := [][2]string{{soakMemory + ", of 5m0s", "300 MiB"}, {binarySize, "27 MiB"}}
	if !slices.Equal(r.Figures, want) || r.Numbers[soakMemory] != 300 || r.Numbers[binarySize] != 27 {
		t.Errorf("figures %v, numbers %v", r.Figures, r.Numbers)
	}
	if page, want := r.markdown(), "Not of this run, but of that of 2026-11-27 14:45, commit 14a2b9d (two cores): figures, latency, new keys.\n"; !strings.Contains(page, want) {
		t.Errorf("the page says %s", page[:min(len(page), 600)])
	}
}
