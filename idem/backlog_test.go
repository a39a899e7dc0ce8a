package idem_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

// hooked is a store that asks ask before each call for a key: an error is the
// answer, and the store is not asked.
type hooked struct {
	*storetest.Memory
	ask func(ctx context.Context, e idem.Event, k idem.Key) error
}

// errHangs is a store that is away and does not say so.
var errHangs = fmt.Errorf("%w: no answer", idem.ErrUnavailable)

// before waits for as long as a store does that is not answered.
func (s *hooked) before(ctx context.Context, e idem.Event, k idem.Key) error {
	err := s.ask(ctx, e, k)
	if errors.Is(err, errHangs) {
		timeOut(ctx)
	}
	return err
}

func timeOut(ctx context.Context) {
	select {
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
	}
}

func (s *hooked) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	if err := s.before(ctx, idem.EventAcquire, c.Key); err != nil {
		return idem.Outcome{}, err
	}
	return s.Memory.Acquire(ctx, c)
}

// Renew waits once, as a pipeline does.
func (s *hooked) Renew(ctx context.Context, leases []idem.Lease) []error {
	errs := make([]error, len(leases))
	hangs := false
	for i, l := range leases {
		if errs[i] = s.ask(ctx, idem.EventRenew, l.Key); errs[i] == nil {
			errs[i] = s.Memory.Renew(ctx, []idem.Lease{l})[0]
		}
		hangs = hangs || errors.Is(errs[i], errHangs)
	}
	if hangs {
		timeOut(ctx)
	}
	return errs
}

func (s *hooked) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	if err := s.before(ctx, idem.EventComplete, l.Key); err != nil {
		return err
	}
	return s.Memory.Complete(ctx, l, r)
}

func (s *hooked) Release(ctx context.Context, l idem.Lease) error {
	if err := s.before(ctx, idem.EventRelease, l.Key); err != nil {
		return err
	}
	return s.Memory.Release(ctx, l)
}

func (s *hooked) Hold(ctx context.Context, l idem.Lease) error {
	if err := s.before(ctx, idem.EventHold, l.Key); err != nil {
		return err
	}
	return s.Memory.Hold(ctx, l)
}

// bubbleOver is bubble with a store that asks before.
func bubbleOver(t *testing.T, before func(ctx context.Context, e idem.Event, k idem.Key) error, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, store: storetest.NewMemory(), counts: &counts{}, policy: idem.DefaultPolicy()}
		r.engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, r.store, &hooked{r.store, before}), Trace: r.counts.trace()})
		defer closeWithin(r.engine, time.Second)
		f(r)
	})
}

// An outage of two seconds in which ten thousand attempts end and as many
// requests are refused: the responses are stored before any lease lapses, and
// before anything is released that perhaps never was granted.
func TestP6OutageUnderLoad(t *testing.T) {
	t.Parallel()
	const many = 10_000
	var away atomic.Bool
	var begun, lastStored, firstRelease time.Time
	var mu sync.Mutex
	before := func(_ context.Context, e idem.Event, _ idem.Key) error {
		if away.Load() {
			return idem.ErrUnavailable
		}
		mu.Lock()
		if begun.IsZero() {
			mu.Unlock()
			return nil
		}
		if e == idem.EventRelease && firstRelease.IsZero() {
			firstRelease = time.Now()
		}
		mu.Unlock()
		time.Sleep(3 * time.Millisecond)
		mu.Lock()
		if e == idem.EventComplete {
			lastStored = time.Now()
		}
		mu.Unlock()
		return nil
	}
	bubbleOver(t, before, func(r *rig) {
		attempts := make([]*idem.Attempt, many)
		for i := range attempts {
			attempts[i] = r.mustBegin(fmt.Sprint(i))
		}
		mu.Lock()
		begun = time.Now()
		mu.Unlock()
		away.Store(true)
		for i, a := range attempts {
			a.Finish(idem.Answered, ok())
			if _, _, err := r.begin(fmt.Sprint("refused", i)); !errors.Is(err, idem.ErrUnavailable) {
				t.Fatal(err)
			}
			if i%50 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		away.Store(false)
		time.Sleep(time.Minute)
		if n := r.counts.stored.Load(); n != many || r.counts.dropped.Load()+r.counts.lost.Load() != 0 {
			t.Fatalf("%d of %d are stored, %d dropped, %d lost", n, many, r.counts.dropped.Load(), r.counts.lost.Load())
		}
		if d := lastStored.Sub(begun); d >= r.policy.TTL {
			t.Errorf("the last one was stored after %v, the leases are of %v", d, r.policy.TTL)
		}
		if firstRelease.Before(lastStored) {
			t.Errorf("something was released %v before the last response was stored", lastStored.Sub(firstRelease))
		}
	})
}

// After an outage responses come first, then what is held, then what is released.
func TestP6ResponsesComeFirst(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	var mu sync.Mutex
	var order []idem.Event
	before := func(_ context.Context, e idem.Event, _ idem.Key) error {
		if away.Load() {
			return idem.ErrUnavailable
		}
		mu.Lock()
		order = append(order, e)
		mu.Unlock()
		return nil
	}
	bubbleOver(t, before, func(r *rig) {
		r.policy.OnAmbiguous = idem.AmbiguousHold
		var attempts []*idem.Attempt
		for i := range 300 {
			attempts = append(attempts, r.mustBegin(fmt.Sprint(i)))
		}
		away.Store(true)
		for i, a := range attempts {
			a.Finish([]idem.Sent{idem.NothingSent, idem.MayHaveExecuted, idem.Answered}[i%3], ok())
			time.Sleep(7 * time.Millisecond)
		}
		mu.Lock()
		order = nil
		mu.Unlock()
		away.Store(false)
		time.Sleep(5 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		for i, e := range order {
			if want := []idem.Event{idem.EventComplete, idem.EventHold, idem.EventRelease}[i/100%3]; e != want || len(order) != 300 {
				t.Fatalf("of %d calls, the %d. is to %v, want %v", len(order), i+1, e, want)
			}
		}
	})
}

// The store goes on taking renewals but not the response (it is too full, say):
// the lease is kept for as long as that takes.
func TestP1PendingEndingKeepsItsLease(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	before := func(_ context.Context, e idem.Event, _ idem.Key) error {
		if full.Load() && e != idem.EventRenew && e != idem.EventAcquire {
			return fmt.Errorf("%w: %w", idem.ErrUnavailable, idem.ErrRefused)
		}
		return nil
	}
	bubbleOver(t, before, func(r *rig) {
		full.Store(true)
		for i, name := range []string{"completed", "held", "released"} {
			r.policy.OnAmbiguous = idem.AmbiguousHold
			if end := r.mustBegin(name).Finish([]idem.Sent{idem.Answered, idem.MayHaveExecuted, idem.NothingSent}[i], ok()); end != idem.Deferred {
				t.Fatalf("finish: %v", end)
			}
		}
		time.Sleep(10 * time.Minute)
		for _, name := range []string{"completed", "held", "released"} {
			r.expect(name, idem.VerdictInProgress)
		}
		full.Store(false)
		time.Sleep(5 * time.Second)
		r.expect("completed", idem.VerdictCompleted)
		r.expect("held", idem.VerdictUnknown)
		r.expect("released", idem.VerdictAcquired)
		renewed := r.counts.renewed.Load()
		time.Sleep(10 * time.Minute)
		if n := r.counts.renewed.Load(); n != renewed {
			t.Errorf("%d renewals of what has ended", n-renewed)
		}
	})
}

// One shard of a cluster is dead and lets every call time out: the endings of
// the others do not wait for its, whatever their rank.
func TestP6DeadShardHoldsUpNobody(t *testing.T) {
	t.Parallel()
	const many = 3000
	var down, dead atomic.Bool
	before := func(_ context.Context, _ idem.Event, k idem.Key) error {
		switch {
		case dead.Load() && strings.HasPrefix(k.Value(), "dead"):
			return errHangs
		case down.Load():
			return idem.ErrUnavailable
		}
		return nil
	}
	bubbleOver(t, before, func(r *rig) {
		var stuck, well []*idem.Attempt
		for i := range many {
			stuck = append(stuck, r.mustBegin(fmt.Sprint("dead", i)))
			well = append(well, r.mustBegin(fmt.Sprint("well", i)))
		}
		dead.Store(true)
		down.Store(true)
		var wg sync.WaitGroup
		for _, a := range stuck {
			wg.Go(func() { a.Finish(idem.Answered, ok()) })
		}
		wg.Wait()
		for i, a := range well {
			a.Finish([]idem.Sent{idem.Answered, idem.NothingSent}[i%2], ok())
		}
		time.Sleep(time.Second)
		down.Store(false)
		time.Sleep(15 * time.Second)
		if s, n := r.counts.stored.Load(), r.counts.released.Load(); s != many/2 || n != many/2 {
			t.Errorf("%d are stored and %d released of %d", s, n, many)
		}
		dead.Store(false)
		time.Sleep(20 * time.Second)
		if n := r.counts.stored.Load(); n != many/2+many {
			t.Errorf("%d are stored in the end", n)
		}
		if n := r.counts.lost.Load() + r.counts.dropped.Load(); n != 0 {
			t.Errorf("%d lost or dropped", n)
		}
	})
}

// Nor do the renewals of the others: each burst waits for the shard.
func TestP1DeadShardLapsesNobody(t *testing.T) {
	t.Parallel()
	const many = 30_000
	var dead atomic.Bool
	before := func(_ context.Context, _ idem.Event, k idem.Key) error {
		if dead.Load() && strings.HasPrefix(k.Value(), "dead") {
			return errHangs
		}
		return nil
	}
	bubbleOver(t, before, func(r *rig) {
		attempts := make([]*idem.Attempt, many)
		for i := range attempts {
			name := fmt.Sprint("well", i)
			if i%1000 == 0 { // one in each burst
				name = fmt.Sprint("dead", i)
			}
			attempts[i] = r.mustBegin(name)
		}
		dead.Store(true)
		for range 15 {
			time.Sleep(7 * time.Second)
			for i := 1; i < many; i += 1009 {
				if i%1000 != 0 {
					r.expect(fmt.Sprint("well", i), idem.VerdictInProgress)
				}
			}
			if t.Failed() {
				break
			}
		}
		dead.Store(false)
		for _, a := range attempts {
			a.Finish(idem.NothingSent, nil)
		}
		if n := r.counts.released.Load(); n < many {
			t.Errorf("%d released", n)
		}
	})
}

// Close keeps to its context, also when the store does not, and says how many
// endings were dropped.
func TestCloseKeepsToItsContext(t *testing.T) {
	t.Parallel()
	for _, deaf := range []bool{false, true} {
		var hangs atomic.Bool
		release := make(chan struct{})
		before := func(ctx context.Context, _ idem.Event, _ idem.Key) error {
			if !hangs.Load() {
				return nil
			}
			done := ctx.Done()
			if deaf {
				done = nil
			}
			select {
			case <-done:
			case <-release:
			}
			return idem.ErrUnavailable
		}
		synctest.Test(t, func(t *testing.T) {
			release = make(chan struct{})
			r := &rig{T: t, store: storetest.NewMemory(), counts: &counts{}, policy: idem.DefaultPolicy()}
			r.engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, r.store, &hooked{r.store, before}), Trace: r.counts.trace()})
			defer close(release)
			var attempts []*idem.Attempt
			for i := range 3 {
				attempts = append(attempts, r.mustBegin(fmt.Sprint(i)))
			}
			r.store.Sever()
			for _, a := range attempts {
				a.Finish(idem.Answered, ok())
			}
			if _, _, err := r.begin("refused"); !errors.Is(err, idem.ErrUnavailable) {
				t.Fatal(err)
			}
			hangs.Store(true)
			begun := time.Now()
			if n := closeWithin(r.engine, 5*time.Second); n != 3 || r.counts.dropped.Load() != 3 {
				t.Errorf("%d dropped, %d reported, want 3", n, r.counts.dropped.Load())
			}
			if d := time.Since(begun); d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
			if n := closeWithin(r.engine, 5*time.Second); n != 0 {
				t.Errorf("the second close dropped %d", n)
			}
		})
	}
}

// What the store takes while the engine is closed is not dropped, and nobody
// waits longer than for that.
func TestCloseOffersOnceMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, store: storetest.NewMemory(), counts: &counts{}, policy: idem.DefaultPolicy()}
		r.engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, r.store, r.store), Trace: r.counts.trace()})
		a := r.mustBegin("k")
		mend := r.store.Sever()
		a.Finish(idem.Answered, ok())
		if _, _, err := r.begin("refused"); !errors.Is(err, idem.ErrUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		mend()
		begun := time.Now()
		if n := closeWithin(r.engine, time.Minute); n != 0 || r.counts.stored.Load() != 1 {
			t.Errorf("%d dropped, %d stored", n, r.counts.stored.Load())
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("it took %v", d)
		}
	})
}

// Who reads the log learns how a deferred ending ended. Where the lease was lost meanwhile,
// nothing was given up: another attempt's record stands.
func TestDeferredEndingsAreReported(t *testing.T) {
	t.Parallel()
	for _, away := range []time.Duration{time.Second, 65 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var ends []idem.Ending
			c, store, policy := &counts{}, storetest.NewMemory(), idem.DefaultPolicy()
			trace := c.trace()
			trace.Recorded = func(_ idem.Key, end idem.Ending, _ any) { ends = append(ends, end) }
			e := idem.NewEngine(idem.Config{Store: store, Trace: trace})
			defer closeWithin(e, time.Second)
			k, err := idem.ParseKey("k")
			if err != nil {
				t.Fatal(err)
			}
			_, a, err := e.Begin(t.Context(), idem.Request{Key: k, Policy: &policy})
			if err != nil {
				t.Fatal(err)
			}
			mend := store.Sever()
			if end := a.Finish(idem.Answered, ok()); end != idem.Deferred {
				t.Fatalf("finish: %v", end)
			}
			time.Sleep(away)
			mend()
			want := idem.Stored
			if away > policy.TTL { // and somebody else is quicker than the next try
				if _, err := store.Acquire(t.Context(), idem.Claim{Key: k, Owner: idem.NewOwner(), TTL: time.Hour}); err != nil {
					t.Fatal(err)
				}
				want = idem.Lost
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if !slices.Equal(ends, []idem.Ending{want}) || c.dropped.Load() != 0 {
				t.Errorf("after %v: ended %v, %d dropped; want %v and none", away, ends, c.dropped.Load(), want)
			}
		})
	}
}

// A store that was closed takes nothing any more: whatever the ending, that it is
// dropped is reported.
func TestEndingsOfAClosedStoreAreReported(t *testing.T) {
	t.Parallel()
	for _, sent := range []idem.Sent{idem.Answered, idem.NothingSent, idem.MayHaveExecuted} {
		bubble(t, func(r *rig) {
			r.policy.OnAmbiguous = idem.AmbiguousHold
			atOnce, later := r.mustBegin("at once"), r.mustBegin("later")
			mend := r.store.Sever()
			if end := later.Finish(sent, ok()); end != idem.Deferred {
				t.Fatalf("finish: %v", end)
			}
			mend()
			if err := r.store.Close(); err != nil {
				t.Fatal(err)
			}
			if end := atOnce.Finish(sent, ok()); end != idem.Lost || r.counts.dropped.Load() != 1 {
				t.Errorf("finish: %v, %d dropped", end, r.counts.dropped.Load())
			}
			time.Sleep(5 * time.Second)
			if n := r.counts.dropped.Load(); n != 2 {
				t.Errorf("%d dropped, want both", n)
			}
		})
	}
}

// A response that is kept for a time of its own leaves the renewals of its lease
// alone, and what is remembered after it.
func TestRetainDuringRenewals(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		r.policy.TTL, r.policy.Heartbeat = 3*time.Second, time.Second
		r.policy.Retention, r.policy.Remember = time.Hour, 2*time.Hour
		a := r.mustBegin("k")
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 100 {
				time.Sleep(time.Second)
				a.Retain(time.Minute)
			}
		})
		wg.Wait()
		a.Finish(idem.Answered, ok())
		time.Sleep(59 * time.Second)
		r.expect("k", idem.VerdictCompleted)
		time.Sleep(2 * time.Second)
		r.expect("k", idem.VerdictExpired)
		time.Sleep(2*time.Hour - 5*time.Second)
		r.expect("k", idem.VerdictExpired)
		time.Sleep(10 * time.Second)
		r.expect("k", idem.VerdictAcquired)
	})
}
