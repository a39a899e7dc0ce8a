package idem

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// MeasureHeartbeat measures one heartbeat of n leases, the store included.
func MeasureHeartbeat(b *testing.B, n int, store Store) {
	b.Helper()
	e := NewEngine(Config{Store: store})
	policy := DefaultPolicy()
	policy.Heartbeat = time.Hour // the goroutine stays out of it
	policy.TTL = 2 * time.Hour
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		key, _ := ParseKey(fmt.Sprint(i))
		if _, a, err := e.Begin(b.Context(), Request{Key: key, Policy: &policy}); err != nil || a == nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	defer func() { // the store's share is in it
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/lease")
	}()
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Hour)
		renewed := 0
		for batch := e.watchdog.takeDue(now); len(batch) > 0; batch = e.watchdog.takeDue(now) {
			e.watchdog.renew(batch)
			renewed += len(batch)
		}
		if renewed != n {
			b.Fatalf("%d of %d leases were due", renewed, n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/lease")
}
