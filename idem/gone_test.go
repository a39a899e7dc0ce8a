package idem_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// A store that is away is asked a second time at once, but not for a client that is gone: the second asking could
// only be granted to nobody.
func TestNobodyAsksForAClientThatIsGone(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		var asked atomic.Int64
		bubbleOver(t, func(_ context.Context, e idem.Event, _ idem.Key) error {
			if e != idem.EventAcquire {
				return nil
			}
			asked.Add(1)
			if gone {
				leave()
			}
			return idem.ErrUnavailable
		}, func(r *rig) {
			key, err := idem.ParseKey("k")
			if err != nil {
				r.Fatal(err)
			}
			if _, _, err := r.engine.Begin(ctx, idem.Request{Key: key, Policy: &r.policy}); !errors.Is(err, idem.ErrUnavailable) {
				r.Errorf("begin: %v", err)
			}
			if n, want := asked.Load(), map[bool]int64{false: 2, true: 1}[gone]; n != want {
				r.Errorf("the client is gone: %v: the store was asked %d times, want %d", gone, n, want)
			}
		})
	}
}

// A renewal may be under way while the attempt ends. The store refuses it then, and an operator who reads "lease
// lost" would look for a second execution: nothing is lost.
func TestARenewalThatComesAfterTheEndIsNoLoss(t *testing.T) {
	t.Parallel()
	var a atomic.Pointer[idem.Attempt]
	bubbleOver(t, func(_ context.Context, e idem.Event, _ idem.Key) error {
		if e != idem.EventRenew {
			return nil
		}
		if ending := a.Swap(nil); ending != nil {
			if end := ending.Finish(idem.Answered, ok()); end != idem.Stored {
				t.Errorf("finish: %v", end)
			}
		}
		return nil
	}, func(r *rig) {
		a.Store(r.mustBegin("k"))
		time.Sleep(time.Minute)
		if n := r.counts.lost.Load(); n != 0 {
			r.Errorf("%d leases are said to be lost", n)
		}
		if n := r.counts.stored.Load(); n != 1 {
			r.Errorf("%d responses were stored", n)
		}
		r.expect("k", idem.VerdictCompleted)
	})
}
