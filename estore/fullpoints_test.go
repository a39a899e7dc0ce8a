package estore_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestP2EveryWriteThatFindsNoSpace has the disk be full from one write on, from each in turn,
// while the store is asked again as the engine asks again. The process may end, or refuse;
// nothing that it acknowledged is lost when the power fails then. Flushes are left out, as for
// syncs that fail.
func TestP2EveryWriteThatFindsNoSpace(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	ended := 0
	for at := 1; ; at++ {
		r := newCrashRun(t)
		r.acts = slices.DeleteFunc(r.acts, func(a act) bool { return a.name == "flush" })
		var writes atomic.Int32
		disk := &steppedDisk{MemFS: vfs.NewCrashableMem(), step: func(bool) error { return nil }}
		disk.full = func() bool { return int(writes.Add(1)) >= at }
		if r.ends(disk) {
			ended++
		}
		if _, _, err := r.crash(disk.MemFS, rng); err != nil {
			t.Errorf("seed %d: no space from write %d on, %d acts were acknowledged: %v", seed, at, r.done.Load(), err)
		}
		if int(writes.Load()) < at { // there was space for all
			t.Logf("figure: no space from each of %d writes on, and the process ended %d times", at-1, ended)
			if at < 10 {
				t.Errorf("only %d writes", at-1)
			}
			return
		}
	}
}

// ends lives until the process ends, or not.
func (r *crashRun) ends(disk vfs.FS) bool {
	gone, lived := make(chan struct{}), make(chan struct{})
	end := sync.OnceFunc(func() { close(gone) })
	go func() {
		defer func() { // the engine panics when it cannot note which files count
			if p := recover(); p != nil {
				end()
			}
		}()
		_ = r.live(disk, func(int) { // it may refuse
			end()
			select {} // nothing is done by a process that has ended
		})
		close(lived)
	}()
	select {
	case <-gone:
		return true
	case <-lived:
		return false
	}
}
