package main

import (
	"strings"
	"testing"
	"time"
)

// TestStoresTable: each store has a contender for each column, and a line with what it did.
func TestStoresTable(t *testing.T) {
	t.Parallel()
	r := newResults(options{})
	for i, w := range storeWorkloads() {
		for j, name := range w.run {
			if find(name) == nil {
				t.Errorf("%s: there is no contender %s", w.name, name)
			}
			for _, rate := range []float64{1, 2, 9} {
				r.add(w, name, &sample{PerSecond: float64(1000*(i+1)+100*j) + rate})
			}
		}
	}
	if table := r.storesTable(); table != "" {
		t.Errorf("a table of what was not checked: %s", table)
	}
	r.Checks[storesNew] = check{Keys: 9, Most: 1}
	r.Missing[onDisk] = true
	for _, s := range stores()[2:] {
		r.Stores = append(r.Stores, latency{Name: s.warm, Rate: 7, P50: time.Millisecond, P99: 3 * time.Millisecond})
	}
	table := r.storesTable()
	for _, line := range []string{
		"| embedded | not installed |",
		"| Redis, `appendfsync always` | 1202 (1201 to 1209) | 1ms | 3ms | 2202 (2201 to 2209) | 3202 (3201 to 3209) |",
		"| Redis, without a file | 1102 (1101 to 1109) |  |  | 2102 (2101 to 2109) | 3102 (3101 to 3109) |",
		"at most: 1.",
	} {
		if !strings.Contains(table, line) {
			t.Errorf("%q is not in %s", line, table)
		}
	}
}
