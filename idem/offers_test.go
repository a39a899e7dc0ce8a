package idem_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

// A request that begins late costs no call of the store while the watchdog has its lease
// renewed: the backend may be asked at once.
func TestConfirmAsksNobodyWhileTheLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	bubbleOver(t, func(_ context.Context, e idem.Event, _ idem.Key) error {
		if e == idem.EventRenew {
			asked.Add(1)
		}
		return nil
	}, func(r *rig) {
		a := r.mustBegin("k")
		for range 5 {
			time.Sleep(r.policy.Heartbeat + time.Second)
			before := asked.Load()
			if err := a.Confirm(context.Background()); err != nil {
				r.Fatal(err)
			}
			if n := asked.Load() - before; n != 0 {
				r.Errorf("the store was asked %d times", n)
			}
		}
		a.Finish(idem.NothingSent, nil)
	})
}

// A response that the store does not take, though it is there (it is too full for that
// one), holds up nothing else. That it is there may be known from renewals alone.
func TestP6AResponseThatIsNotTakenHoldsUpNothing(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	bubbleOver(t, func(_ context.Context, e idem.Event, _ idem.Key) error {
		if e == idem.EventComplete || e != idem.EventRenew && away.Load() {
			return fmt.Errorf("%w: %w", idem.ErrUnavailable, idem.ErrRefused)
		}
		return nil
	}, func(r *rig) {
		large, free := r.mustBegin("too large"), r.mustBegin("to be free")
		away.Store(true)
		if end := large.Finish(idem.Answered, ok()); end != idem.Deferred {
			r.Fatalf("finish: %v", end)
		}
		if end := free.Finish(idem.NothingSent, nil); end != idem.Deferred {
			r.Fatalf("finish: %v", end)
		}
		away.Store(false)
		time.Sleep(2 * r.policy.Heartbeat)
		if n := r.counts.released.Load(); n != 1 {
			r.Errorf("%d are released while the store takes all but one response, want 1", n)
		}
	})
}

// Responses come first after an outage, however long it was: that leases could not be
// renewed meanwhile is no sign that the store takes anything.
func TestP6ResponsesComeFirstAfterALongOutage(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	var mu sync.Mutex
	var order []idem.Event
	bubbleOver(t, func(_ context.Context, e idem.Event, _ idem.Key) error {
		if away.Load() {
			return idem.ErrUnavailable
		}
		if e != idem.EventRenew {
			mu.Lock()
			order = append(order, e)
			mu.Unlock()
		}
		return nil
	}, func(r *rig) {
		r.policy.TTL, r.policy.OnAmbiguous = 10*time.Minute, idem.AmbiguousHold
		var attempts []*idem.Attempt
		for i := range 30 {
			attempts = append(attempts, r.mustBegin(fmt.Sprint(i)))
		}
		away.Store(true)
		for i, a := range attempts {
			a.Finish([]idem.Sent{idem.NothingSent, idem.MayHaveExecuted, idem.Answered}[i%3], ok())
			time.Sleep(7 * time.Millisecond)
		}
		time.Sleep(2*r.policy.Heartbeat + time.Second)
		mu.Lock()
		order = nil
		mu.Unlock()
		away.Store(false)
		time.Sleep(5 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(order) != 30 {
			r.Fatalf("%d calls, want 30: %v", len(order), order)
		}
		for i, e := range order {
			if want := []idem.Event{idem.EventComplete, idem.EventHold, idem.EventRelease}[i/10]; e != want {
				r.Fatalf("the %d. call is to %v, want %v", i+1, e, want)
			}
		}
	})
}

// An ending is offered once at a time, also while the engine is closed: it is told of
// once, as what it was.
func TestCloseOffersNothingTwice(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]time.Duration{
		"closed while it rests":       50 * time.Millisecond,
		"closed while it is offered":  150 * time.Millisecond,
		"closed before it is offered": 0,
	} {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int64
			before := func(_ context.Context, e idem.Event, _ idem.Key) error {
				if e != idem.EventComplete {
					return nil
				}
				if asked.Add(1) == 1 {
					return idem.ErrUnavailable
				}
				time.Sleep(3 * time.Second) // longer than anything rests
				return nil
			}
			r := &rig{T: t, store: storetest.NewMemory(), counts: &counts{}, policy: idem.DefaultPolicy()}
			r.engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, r.store, &hooked{r.store, before}), Trace: r.counts.trace()})
			if end := r.mustBegin("k").Finish(idem.Answered, ok()); end != idem.Deferred {
				t.Fatalf("finish: %v", end)
			}
			time.Sleep(at)
			if n := closeWithin(r.engine, time.Minute); n != 0 {
				t.Errorf("%s: %d dropped", name, n)
			}
			if n := asked.Load(); n != 2 {
				t.Errorf("%s: the store was asked %d times, want 2", name, n)
			}
			if n := r.counts.stored.Load(); n != 1 || r.counts.lost.Load() != 0 {
				t.Errorf("%s: %d stored, %d lost, want 1 and none", name, n, r.counts.lost.Load())
			}
		})
	}
}

// Close waits for all that the store is taking, and for nothing else.
func TestCloseWaitsForTheLast(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 5} {
		synctest.Test(t, func(t *testing.T) {
			var away atomic.Bool
			var taken atomic.Int64
			before := func(_ context.Context, e idem.Event, _ idem.Key) error {
				switch {
				case e == idem.EventComplete && away.Load():
					return idem.ErrUnavailable
				case e == idem.EventComplete:
					time.Sleep(time.Duration(taken.Add(1)) * time.Second)
				}
				return nil
			}
			r := &rig{T: t, store: storetest.NewMemory(), counts: &counts{}, policy: idem.DefaultPolicy()}
			r.engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, r.store, &hooked{r.store, before}), Trace: r.counts.trace()})
			away.Store(true)
			for i := range n {
				r.mustBegin(fmt.Sprint(i)).Finish(idem.Answered, ok())
			}
			away.Store(false)
			begun := time.Now()
			if dropped := closeWithin(r.engine, time.Minute); dropped != 0 || r.counts.stored.Load() != int64(n) {
				t.Errorf("of %d, %d are dropped and %d stored", n, dropped, r.counts.stored.Load())
			}
			if d := time.Since(begun); d != time.Duration(n)*time.Second {
				t.Errorf("it took %v, the last was taken after %d s", d, n)
			}
		})
	}
}

// What was given up at the end, and told so, is not offered to the store any more: neither
// what was being offered then, nor what waited behind it.
func TestWhatIsDroppedIsOfferedNoMore(t *testing.T) {
	t.Parallel()
	const many = 3000 // more than are offered at a time
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		var late atomic.Int64
		r := &rig{T: t, store: storetest.NewMemory(), counts: &counts{}, policy: idem.DefaultPolicy()}
		before := func(ctx context.Context, e idem.Event, _ idem.Key) error {
			if e != idem.EventComplete {
				return nil
			}
			if r.counts.dropped.Load() == many {
				late.Add(1)
			}
			if hangs.Load() {
				<-ctx.Done()
			}
			return idem.ErrUnavailable
		}
		r.engine = idem.NewEngine(idem.Config{Store: &hooked{r.store, before}, Trace: r.counts.trace()})
		for i := range many {
			if end := r.mustBegin(fmt.Sprint(i)).Finish(idem.Answered, ok()); end != idem.Deferred {
				t.Fatalf("finish: %v", end)
			}
		}
		hangs.Store(true)
		if n := closeWithin(r.engine, time.Second); n != many {
			t.Errorf("%d dropped, want %d", n, many)
		}
		synctest.Wait()
		if n := late.Load(); n != 0 {
			t.Errorf("%d were offered after they had been given up", n)
		}
	})
}

// What a route gets that says nothing: the reference promises these.
func TestDefaultPolicy(t *testing.T) {
	t.Parallel()
	if got, want := idem.DefaultPolicy(), (idem.Policy{
		TTL: 30 * time.Second, Heartbeat: 10 * time.Second, Retention: 24 * time.Hour, Remember: 24 * time.Hour,
		OnAmbiguous: idem.AmbiguousRelease,
	}); got != want {
		t.Errorf("it is %+v, want %+v", got, want)
	}
}
