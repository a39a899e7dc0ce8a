package cli

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How much garbage there may be beside what is live. While little is live, collecting
// is rare if garbage piles up to twice that. The caches of the stores count as live (the
// embedded store's, too: without C, its memory is Go's), and twice them would be more
// memory than the caches have: a soak with large bodies took 600 MiB for 200 that were
// live. So there is a bound in bytes, too; but where much is live, because much is under
// way, no bound makes collecting the main occupation.
const (
	mostGarbage  = 64 << 20
	mostPercent  = 200
	leastPercent = 25
)

// garbagePercent is what GOGC should be while so many bytes are live.
func garbagePercent(live uint64) int {
	if live == 0 {
		return mostPercent
	}
	return int(min(max(mostGarbage*100/live, leastPercent), mostPercent))
}

// tuneGC sets it for a command. GOGC, where it is set, stands.
func tuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(mostPercent)
	}
}

// gcEvery is how often it is looked at. A proxy that answers with large bodies makes some
// ten MiB of garbage meanwhile.
const gcEvery = 200 * time.Millisecond

// followHeap sets it anew as the heap grows and shrinks, until ctx ends. What is live is
// what the last collection left, so one that finds much more at once is late by one cycle.
func followHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(gcEvery)
	defer tick.Stop()
	for percent := mostPercent; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(live)
		// Setting it stops the world for a moment: not for every little change.
		if now := garbagePercent(live[0].Value.Uint64()); now < percent*9/10 || now > percent*11/10 {
			percent = now
			debug.SetGCPercent(percent)
		}
	}
}
