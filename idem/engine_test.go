package idem_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

// counts is what a trace saw.
type counts struct {
	stored, released, held, lost, renewed, bursts, deferred, dropped, inFlight atomic.Int64
}

func (c *counts) trace() idem.Trace {
	return idem.Trace{
		LeaseStarted: func() { c.inFlight.Add(1) },
		LeaseEnded:   func() { c.inFlight.Add(-1) },
		Stored:       func(idem.Key, int) { c.stored.Add(1) },
		Released:     func(idem.Key, idem.ReleaseCause) { c.released.Add(1) },
		Held:         func(idem.Key, any) { c.held.Add(1) },
		LeaseLost:    func(idem.Key, uint32, idem.Event) { c.lost.Add(1) },
		Renewed:      func(n int) { c.renewed.Add(int64(n)); c.bursts.Add(1) },
		Deferred:     func(idem.Key, idem.Event, any) { c.deferred.Add(1) },
		Dropped:      func(idem.Key, idem.Event, error, any) { c.dropped.Add(1) },
	}
}

type rig struct {
	*testing.T
	store  *storetest.Memory
	engine *idem.Engine
	counts *counts
	policy idem.Policy
}

// bubble runs f on a fake clock, with an engine over the reference store.
func bubble(t *testing.T, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{T: t, store: storetest.NewMemory(), counts: &counts{}, policy: idem.DefaultPolicy()}
		r.engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, r.store, r.store), Trace: r.counts.trace()})
		defer closeWithin(r.engine, time.Second)
		f(r)
	})
}

func closeWithin(e *idem.Engine, d time.Duration) (dropped int) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return e.Close(ctx)
}

func (r *rig) begin(name string) (idem.Outcome, *idem.Attempt, error) {
	r.Helper()
	key, err := idem.ParseKey(name)
	if err != nil {
		r.Fatal(err)
	}
	return r.engine.Begin(context.Background(), idem.Request{Key: key, Policy: &r.policy})
}

func (r *rig) mustBegin(name string) *idem.Attempt {
	r.Helper()
	out, a, err := r.begin(name)
	if err != nil || a == nil {
		r.Fatalf("begin: %v, %v", out.Kind, err)
	}
	return a
}

func (r *rig) expect(name string, want idem.Verdict) idem.Outcome {
	r.Helper()
	out, a, err := r.begin(name)
	if err != nil || out.Kind != want {
		r.Errorf("begin %s: %v, %v, want %v", name, out.Kind, err, want)
	}
	if a != nil {
		a.Finish(idem.NothingSent, nil)
	}
	return out
}

func ok() *idem.Response { return &idem.Response{Status: 200, Body: []byte("ok")} }

// Scenario B on a fake clock: a 45 s job under a 30 s lease.
func TestP1LongJobKeepsItsLease(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		time.Sleep(35 * time.Second)
		r.expect("k", idem.VerdictInProgress)
		time.Sleep(10 * time.Second)
		if end := a.Finish(idem.Answered, ok()); end != idem.Stored {
			r.Fatalf("finish: %v", end)
		}
		r.expect("k", idem.VerdictCompleted)
		if n := r.counts.renewed.Load(); n < 3 || n > 6 {
			r.Errorf("%d renewals in 45 s at a heartbeat of 10 s", n)
		}
		time.Sleep(time.Hour)
		if before := r.counts.renewed.Load(); before > 6 {
			r.Errorf("the watchdog goes on after the end: %d renewals", before)
		}
	})
}

func TestFinishDecides(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		policy idem.Ambiguity
		sent   idem.Sent
		status int
		end    idem.Ending
		next   idem.Verdict
	}{
		{"answered", idem.AmbiguousRelease, idem.Answered, 200, idem.Stored, idem.VerdictCompleted},
		{"answered 500", idem.AmbiguousRelease, idem.Answered, 500, idem.Stored, idem.VerdictCompleted},
		{"answered 503", idem.AmbiguousHold, idem.Answered, 503, idem.Released, idem.VerdictAcquired},
		{"answered 502", idem.AmbiguousRelease, idem.Answered, 502, idem.Released, idem.VerdictAcquired},
		{"answered 502, hold", idem.AmbiguousHold, idem.Answered, 502, idem.Held, idem.VerdictUnknown},
		{"cut", idem.AmbiguousRelease, idem.MayHaveExecuted, 0, idem.Released, idem.VerdictAcquired},
		{"cut, hold", idem.AmbiguousHold, idem.MayHaveExecuted, 0, idem.Held, idem.VerdictUnknown},
		{"nothing sent", idem.AmbiguousHold, idem.NothingSent, 0, idem.Released, idem.VerdictAcquired},
	}
	bubble(t, func(r *rig) {
		for i, c := range cases {
			r.policy.OnAmbiguous = c.policy
			name := fmt.Sprint("k", i)
			a := r.mustBegin(name)
			var response *idem.Response
			if c.sent == idem.Answered {
				response = &idem.Response{Status: c.status}
			}
			if end := a.Finish(c.sent, response); end != c.end {
				r.Errorf("%s: %v, want %v", c.name, end, c.end)
			}
			r.expect(name, c.next)
		}
		if n := r.counts.inFlight.Load(); n != 0 {
			r.Errorf("%d leases in flight at the end", n)
		}
	})
}

func TestP5StoreDownBeforeForwarding(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		mend := r.store.Sever()
		if _, a, err := r.begin("k"); !errors.Is(err, idem.ErrUnavailable) || a != nil {
			r.Fatalf("begin: %v, %v", a, err)
		}
		mend()
		time.Sleep(time.Minute)
		r.expect("k", idem.VerdictAcquired)
		if r.counts.lost.Load()+r.counts.dropped.Load() != 0 {
			r.Error("a lease that never was is reported as lost")
		}
	})
}

func TestP6StoreDownAtCompletion(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		mend := r.store.Sever()
		body := []byte("ok")
		if end := a.Finish(idem.Answered, &idem.Response{Status: 200, Body: body}); end != idem.Deferred {
			r.Fatalf("finish: %v", end)
		}
		body[0] = '!' // the request is over, its buffer is reused
		time.Sleep(50 * time.Second)
		mend()
		time.Sleep(2 * time.Second)
		out := r.expect("k", idem.VerdictCompleted)
		if out.Response != nil && string(out.Response.Body) != "ok" {
			r.Errorf("stored %q", out.Response.Body)
		}
	})
}

func TestP6CompletionAfterTakeoverIsReportedLost(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		mend := r.store.Sever()
		a.Finish(idem.Answered, ok())
		time.Sleep(65 * time.Second) // the lease lapses, and no renewal is due
		mend()
		successor := r.mustBegin("k")
		time.Sleep(5 * time.Second)
		if r.counts.lost.Load() != 1 || r.counts.dropped.Load() != 0 { // nothing was given up: another attempt's record stands
			r.Errorf("lost %d, dropped %d, want 1 and 0", r.counts.lost.Load(), r.counts.dropped.Load())
		}
		if end := successor.Finish(idem.Answered, ok()); end != idem.Stored {
			r.Errorf("the successor's finish: %v", end)
		}
	})
}

func TestP6PendingIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, c := storetest.NewMemory(), &counts{}
		engine := idem.NewEngine(idem.Config{Store: tracetest.Watch(t, store, store), Trace: c.trace(), PendingBytes: 3000})
		r := &rig{T: t, store: store, engine: engine, counts: c, policy: idem.DefaultPolicy()}
		var attempts []*idem.Attempt
		for i := range 10 {
			attempts = append(attempts, r.mustBegin(fmt.Sprint(i)))
		}
		store.Sever()
		for _, a := range attempts {
			a.Finish(idem.Answered, ok())
		}
		deferred, dropped := c.deferred.Load(), c.dropped.Load()
		if deferred == 0 || dropped == 0 || deferred+dropped != 10 {
			t.Errorf("%d kept, %d dropped of 10", deferred, dropped)
		}
		closeWithin(engine, time.Second)
		if c.dropped.Load() != 10 {
			t.Errorf("%d reported as dropped at the end, want all 10", c.dropped.Load())
		}
	})
}

func TestP1LostLeaseIsReportedOnceAndNeverOverwrites(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		key := a.Key()
		if err := r.store.Purge(context.Background(), key); err != nil {
			r.Fatal(err)
		}
		successor := r.mustBegin("k")
		time.Sleep(25 * time.Second)
		if n := r.counts.lost.Load(); n != 1 {
			r.Errorf("reported %d times, want 1", n)
		}
		if end := a.Finish(idem.Answered, &idem.Response{Status: 200, Body: []byte("stale")}); end != idem.Lost {
			r.Errorf("the stale finish: %v", end)
		}
		successor.Finish(idem.Answered, ok())
		if out := r.expect("k", idem.VerdictCompleted); string(out.Response.Body) != "ok" {
			r.Errorf("stored %q", out.Response.Body)
		}
		if n := r.counts.lost.Load(); n != 1 {
			r.Errorf("reported %d times in the end, want 1", n)
		}
	})
}

func TestP1ConfirmAsksAfterAPause(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		fresh := r.mustBegin("fresh")
		if err := fresh.Confirm(context.Background()); err != nil {
			r.Error(err)
		}
		fresh.Finish(idem.NothingSent, nil)

		// The whole process stands still, its watchdog too: only Confirm is left.
		paused := r.mustBegin("paused")
		mend := r.store.Sever()
		time.Sleep(65 * time.Second)
		mend()
		successor := r.mustBegin("paused")
		if err := paused.Confirm(context.Background()); !errors.Is(err, idem.ErrLeaseLost) {
			r.Errorf("confirm: %v, want %v", err, idem.ErrLeaseLost)
		}
		if end := paused.Finish(idem.NothingSent, nil); end != idem.Lost {
			r.Errorf("finish: %v", end)
		}
		successor.Finish(idem.Answered, ok())
	})
}

func TestWatchdogOutlivesAStoreOutageBelowTheTTL(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		time.Sleep(9 * time.Second)
		mend := r.store.Sever()
		time.Sleep(18 * time.Second)
		mend()
		time.Sleep(30 * time.Second)
		r.expect("k", idem.VerdictInProgress)
		if end := a.Finish(idem.Answered, ok()); end != idem.Stored {
			r.Errorf("finish: %v", end)
		}
	})
}

// 50,000 leases cost bursts of batches, not 50,000 timers.
func TestWatchdogRenewsInBursts(t *testing.T) {
	t.Parallel()
	const leases = 50_000
	bubble(t, func(r *rig) {
		attempts := make([]*idem.Attempt, leases)
		for i := range attempts {
			attempts[i] = r.mustBegin(fmt.Sprint(i))
		}
		time.Sleep(35 * time.Second)
		if n := r.counts.renewed.Load(); n < 3*leases || n > 5*leases {
			r.Errorf("%d renewals of %d leases in 35 s", n, leases)
		}
		if n := r.counts.bursts.Load(); n > 5*(leases/1024+1) {
			r.Errorf("%d calls of the store", n)
		}
		for _, a := range attempts {
			a.Finish(idem.NothingSent, nil)
		}
	})
}

func TestWatchdogServesHeartbeatsOfSeveralPolicies(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		slow := r.mustBegin("slow")
		r.policy.TTL, r.policy.Heartbeat = 3*time.Second, time.Second
		quick := r.mustBegin("quick")
		time.Sleep(45 * time.Second)
		r.expect("slow", idem.VerdictInProgress)
		r.expect("quick", idem.VerdictInProgress)
		slow.Finish(idem.NothingSent, nil)
		quick.Finish(idem.NothingSent, nil)
	})
}

func BenchmarkWatchdogHeartbeat(b *testing.B) {
	for _, n := range []int{10_000, 50_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			idem.MeasureHeartbeat(b, n, storetest.NewMemory())
		})
	}
}

// An outage in which thousands of new requests are refused leaves room for the
// responses of those that were running.
func TestP6RefusedRequestsDoNotPushResponsesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, c := storetest.NewMemory(), &counts{}
		engine := idem.NewEngine(idem.Config{Store: tracetest.Watch(t, store, store), Trace: c.trace(), PendingBytes: 20_000})
		r := &rig{T: t, store: store, engine: engine, counts: c, policy: idem.DefaultPolicy()}
		running := r.mustBegin("running")
		mend := store.Sever()
		for i := range 1000 {
			if _, _, err := r.begin(fmt.Sprint(i)); !errors.Is(err, idem.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if end := running.Finish(idem.Answered, ok()); end != idem.Deferred || c.dropped.Load() != 0 {
			t.Errorf("the response is %v, %d dropped", end, c.dropped.Load())
		}
		mend()
		time.Sleep(5 * time.Second)
		r.expect("running", idem.VerdictCompleted)

		// What comes after the close is reported, not swallowed.
		late := r.mustBegin("late")
		store.Sever()
		closeWithin(engine, time.Second)
		late.Finish(idem.Answered, ok())
		if c.dropped.Load() != 1 {
			t.Errorf("%d dropped, want the one that came too late", c.dropped.Load())
		}
	})
}
