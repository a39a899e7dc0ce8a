package idem_test

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

// plain is a store that tells nobody of changes.
type plain struct {
	idem.Store
	idem.Inspector
}

// A proxy that was idle for long guards the next long job as it did the first.
func TestP1LongJobAfterIdleHours(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		for range 2 {
			a := r.mustBegin("k")
			time.Sleep(2 * r.policy.TTL)
			r.expect("k", idem.VerdictInProgress)
			if end := a.Finish(idem.NothingSent, nil); end != idem.Released {
				r.Errorf("finish: %v", end)
			}
			time.Sleep(10*time.Minute + time.Second)
		}
		if n := r.counts.lost.Load(); n != 0 {
			r.Errorf("%d leases were lost", n)
		}
	})
}

// Whoever waits hears of what an operator or the backend decides, though the store tells nobody.
func TestWaitersHearOfDecisions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		decide func(e *idem.Engine, k idem.Key, o idem.Owner) error
		want   idem.Verdict
	}{
		"released": {func(e *idem.Engine, k idem.Key, o idem.Owner) error {
			return e.ReleaseFrom(context.Background(), k, o)
		}, idem.VerdictAcquired},
		"settled as executed": {func(e *idem.Engine, k idem.Key, o idem.Owner) error {
			return e.Settle(context.Background(), k, o, ok())
		}, idem.VerdictCompleted},
		"settled as not executed": {func(e *idem.Engine, k idem.Key, o idem.Owner) error {
			return e.Settle(context.Background(), k, o, nil)
		}, idem.VerdictAcquired},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := storetest.NewMemory()
			e := idem.NewEngine(idem.Config{Store: plain{store, store}})
			defer closeWithin(e, time.Second)
			r := &rig{T: t, store: store, engine: e, counts: &counts{}, policy: idem.DefaultPolicy()}
			a := r.mustBegin("k")
			got := r.waiting(e, 1, r.policy.TTL/2)
			if err := c.decide(e, a.Key(), a.Owner()); err != nil {
				t.Fatal(err)
			}
			w := <-got
			if w.err != nil || w.out.Kind != c.want {
				t.Errorf("%s: a waiter got %v, %v, want %v", name, w.out.Kind, w.err, c.want)
			}
			if w.attempt != nil {
				w.attempt.Finish(idem.NothingSent, nil)
			}
		})
	}
}

// After a pause the store is asked once; then the lease is as good as new.
func TestConfirmAsksOnce(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	var asked atomic.Int64
	bubbleOver(t, func(_ context.Context, e idem.Event, _ idem.Key) error {
		if e == idem.EventRenew {
			asked.Add(1)
			if away.Load() {
				return idem.ErrUnavailable
			}
		}
		return nil
	}, func(r *rig) {
		a := r.mustBegin("k")
		away.Store(true)
		time.Sleep(r.policy.Heartbeat + time.Second)
		away.Store(false)
		before := asked.Load()
		for range 3 {
			if err := a.Confirm(context.Background()); err != nil {
				r.Fatal(err)
			}
		}
		if n := asked.Load() - before; n != 1 {
			r.Errorf("the store was asked %d times, want 1", n)
		}
		a.Finish(idem.NothingSent, nil)
	})
}

// Every call of the store is measured, and every ending is told of once: that is what an operator's graphs show.
func TestCallsAndEndingsAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		calls := map[idem.Event]int{}
		c := &counts{}
		trace := c.trace()
		trace.StoreCall = func(op idem.Event, _ time.Duration, err error) {
			if err != nil {
				t.Errorf("%v: %v", op, err)
			}
			calls[op]++
		}
		r := &rig{T: t, store: store, counts: c, policy: idem.DefaultPolicy()}
		r.policy.OnAmbiguous = idem.AmbiguousHold
		r.engine = idem.NewEngine(idem.Config{Store: store, Trace: trace})
		defer closeWithin(r.engine, time.Second)
		r.mustBegin("stored").Finish(idem.Answered, ok())
		r.mustBegin("released").Finish(idem.NothingSent, nil)
		held := r.mustBegin("held")
		if end := held.Finish(idem.MayHaveExecuted, nil); end != idem.Held {
			t.Errorf("finish: %v", end)
		}
		if s, re, h := c.stored.Load(), c.released.Load(), c.held.Load(); s != 1 || re != 1 || h != 1 {
			t.Errorf("told: %d stored, %d released, %d held, want one each", s, re, h)
		}
		if err := r.engine.Settle(context.Background(), held.Key(), held.Owner(), ok()); err != nil {
			t.Fatal(err)
		}
		for op, want := range map[idem.Event]int{idem.EventAcquire: 3, idem.EventComplete: 2, idem.EventRelease: 1, idem.EventHold: 1} {
			if calls[op] != want {
				t.Errorf("%v: %d calls were measured, want %d", op, calls[op], want)
			}
		}
	})
}

// A store without an operator's side says so; with one, the engine shows what it has.
func TestLooksOfAnOperator(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		r.mustBegin("k").Finish(idem.Answered, ok())
		key, err := idem.ParseKey("k")
		if err != nil {
			r.Fatal(err)
		}
		seen := 0
		if err := r.engine.List(context.Background(), func(*idem.Record) bool { seen++; return true }); err != nil || seen != 1 {
			r.Errorf("list: %d records, %v", seen, err)
		}
		if record, err := r.engine.Get(context.Background(), key); err != nil || record.State != idem.Completed {
			r.Errorf("get: %v, %v", record.State, err)
		}
		without := idem.NewEngine(idem.Config{Store: struct{ idem.Store }{r.store}})
		defer closeWithin(without, time.Second)
		if err := without.List(context.Background(), nil); !errors.Is(err, idem.ErrNoOperator) {
			r.Errorf("list without an operator's side: %v", err)
		}
		if _, err := without.Get(context.Background(), key); !errors.Is(err, idem.ErrNoOperator) {
			r.Errorf("get without an operator's side: %v", err)
		}
	})
}

// What a look at a key says is what a request with it would hear.
func TestALookSaysWhatARequestWouldHear(t *testing.T) {
	t.Parallel()
	for state, want := range map[idem.State]idem.Verdict{
		idem.InProgress: idem.VerdictInProgress, idem.Completed: idem.VerdictCompleted,
		idem.Unknown: idem.VerdictUnknown, idem.Expired: idem.VerdictExpired,
	} {
		r := idem.Record{State: state, Attempt: 3, LeaseUntil: 2500, ReadAt: 1000}
		out := r.Outcome()
		if out.Kind != want || out.Attempt != 3 {
			t.Errorf("%v: %v, attempt %d, want %v", state, out.Kind, out.Attempt, want)
		}
		if state == idem.InProgress && out.Remaining != 1500*time.Millisecond {
			t.Errorf("it remains in progress for %v", out.Remaining)
		}
	}
}

// A response is replayed until its retention ends, and not at that moment any more; a lease likewise.
func TestTimesEndWhenTheySay(t *testing.T) {
	t.Parallel()
	kept := idem.Record{State: idem.Completed, ReplayUntil: 1000}
	leased, held := idem.Record{State: idem.InProgress, LeaseUntil: 1000}, idem.Record{State: idem.InProgress, LeaseUntil: 1000, HoldOnLapse: true}
	for now, want := range map[int64][3]idem.State{
		999: {idem.Completed, idem.InProgress, idem.InProgress}, 1000: {idem.Expired, idem.Lapsed, idem.Unknown},
		1001: {idem.Expired, idem.Lapsed, idem.Unknown},
	} {
		if got := [3]idem.State{kept.StateAt(now), leased.StateAt(now), held.StateAt(now)}; got != want {
			t.Errorf("at %d: %v, want %v", now, got, want)
		}
	}
}

// What fits the layout is stored, and nothing larger.
func TestTheLargestFieldName(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]error{math.MaxUint16: nil, math.MaxUint16 + 1: idem.ErrTooLarge} {
		r := &idem.Response{Header: []idem.Field{{Name: make([]byte, n)}}}
		if err := idem.CheckResponse(r); !errors.Is(err, want) {
			t.Errorf("a name of %d bytes: %v, want %v", n, err, want)
		}
		fields := &idem.Response{Header: make([]idem.Field, n)}
		if err := idem.CheckResponse(fields); !errors.Is(err, want) {
			t.Errorf("%d fields: %v, want %v", n, err, want)
		}
	}
}

// A call that fails is told as one: that is what the alert about the store counts. Of a
// burst of renewals, one that fails is enough.
func TestFailedCallsAreTold(t *testing.T) {
	t.Parallel()
	for op := idem.EventAcquire; op <= idem.EventHold; op++ {
		var broken atomic.Bool
		before := func(_ context.Context, e idem.Event, k idem.Key) error {
			if broken.Load() && e == op && k.Value() == "broken" {
				return idem.ErrUnavailable
			}
			return nil
		}
		synctest.Test(t, func(t *testing.T) {
			var failed atomic.Int64
			c := &counts{}
			trace := c.trace()
			trace.StoreCall = func(told idem.Event, _ time.Duration, err error) {
				switch {
				case !errors.Is(err, idem.ErrUnavailable): // the give-back of what was never granted finds nothing
				case told != op:
					t.Errorf("%v: told of %v, %v", op, told, err)
				default:
					failed.Add(1)
				}
			}
			r := &rig{T: t, store: storetest.NewMemory(), counts: c, policy: idem.DefaultPolicy()}
			r.policy.OnAmbiguous = idem.AmbiguousHold
			r.engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, r.store, &hooked{r.store, before}), Trace: trace})
			defer closeWithin(r.engine, time.Second)
			fine := r.mustBegin("fine")
			a := r.mustBegin("broken")
			broken.Store(true)
			switch op {
			case idem.EventAcquire:
				_, _, _ = r.begin("broken")
			case idem.EventComplete:
				a.Finish(idem.Answered, ok())
			case idem.EventRelease:
				a.Finish(idem.NothingSent, nil)
			case idem.EventHold:
				a.Finish(idem.MayHaveExecuted, nil)
			default:
				time.Sleep(r.policy.Heartbeat + time.Second)
			}
			if failed.Load() == 0 {
				t.Errorf("%v failed, and nobody was told", op)
			}
			broken.Store(false)
			time.Sleep(2 * time.Second)
			fine.Finish(idem.NothingSent, nil)
			if op == idem.EventAcquire || op == idem.EventRenew {
				a.Finish(idem.NothingSent, nil)
			}
		})
	}
}
