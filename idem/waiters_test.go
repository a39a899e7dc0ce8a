package idem_test

import (
	"context"
	"errors"
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

// waited is what a waiter got.
type waited struct {
	out     idem.Outcome
	attempt *idem.Attempt
	err     error
}

// wait begins as a request does and waits for up to d.
func wait(e *idem.Engine, name string, p *idem.Policy, d time.Duration) (w waited) {
	key, err := idem.ParseKey(name)
	if err != nil {
		return waited{err: err}
	}
	q := idem.Request{Key: key, Policy: p}
	w.out, w.attempt, w.err = e.Begin(context.Background(), q)
	if w.err == nil && w.out.Kind == idem.VerdictInProgress {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		w.out, w.attempt, w.err = e.Wait(ctx, q, w.out)
	}
	return w
}

// waiting starts n waiters and returns once all of them wait.
func (r *rig) waiting(e *idem.Engine, n int, d time.Duration) <-chan waited {
	got := make(chan waited, n)
	for range n {
		go func() { got <- wait(e, "k", &r.policy, d) }()
	}
	synctest.Wait()
	return got
}

// another engine on the same store stands for another process.
func (r *rig) another() *idem.Engine {
	e := idem.NewEngine(idem.Config{Store: r.store})
	r.Cleanup(func() { e.Close(context.Background()) })
	return e
}

func TestWaitersGetTheResponse(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		there := r.another()
		here, elsewhere := r.waiting(r.engine, 50, time.Hour), r.waiting(there, 50, time.Hour)
		time.Sleep(5 * time.Minute) // many renewals
		synctest.Wait()
		if len(here)+len(elsewhere) != 0 {
			t.Fatalf("%d waiters were answered too soon", len(here)+len(elsewhere))
		}
		a.Finish(idem.Answered, ok())
		before := time.Now()
		asked := 0
		for range 50 {
			for _, w := range []waited{<-here, <-elsewhere} {
				if w.err != nil || w.out.Kind != idem.VerdictCompleted || string(w.out.Response.Body) != "ok" {
					t.Fatalf("a waiter got %v, %v", w.out.Kind, w.err)
				}
				if !w.out.Local {
					asked++
				}
			}
		}
		if asked != 2 {
			t.Errorf("%d say that they asked the store, want one of each process", asked)
		}
		if d := time.Since(before); d != 0 {
			t.Errorf("they were told %v later", d)
		}
	})
}

// The first attempt fails: one waiter takes over, the others get its response.
func TestOneWaiterTakesOver(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		there := r.another()
		got := make(chan waited, 200)
		for i := range 200 {
			go func() { got <- wait([]*idem.Engine{r.engine, there}[i%2], "k", &r.policy, time.Hour) }()
		}
		synctest.Wait()
		for round := range 3 { // the first two who take over fail, too
			a.Finish(idem.NothingSent, nil)
			synctest.Wait()
			if len(got) != 1 {
				t.Fatalf("round %d: %d waiters were answered, want one", round, len(got))
			}
			w := <-got
			if w.err != nil || w.attempt == nil || w.attempt.Number() != uint32(round+2) {
				t.Fatalf("round %d: %v, %v, %v", round, w.out.Kind, w.attempt, w.err)
			}
			a = w.attempt
		}
		a.Finish(idem.Answered, ok())
		for range 200 - 3 {
			if w := <-got; w.err != nil || w.out.Kind != idem.VerdictCompleted {
				t.Fatalf("a waiter got %v, %v", w.out.Kind, w.err)
			}
		}
	})
}

// A process dies: nothing is pushed, the lease lapses.
func TestWaitersOfADeadProcess(t *testing.T) {
	t.Parallel()
	for _, policy := range []idem.Ambiguity{idem.AmbiguousRelease, idem.AmbiguousHold} {
		bubble(t, func(r *rig) {
			r.policy.OnAmbiguous = policy
			key, _ := idem.ParseKey("k")
			if _, err := r.store.Acquire(context.Background(), idem.Claim{
				Key: key, Owner: idem.NewOwner(), TTL: r.policy.TTL, Retention: time.Hour,
				HoldOnLapse: policy == idem.AmbiguousHold,
			}); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			leader := r.waiting(r.engine, 1, time.Second) // who leaves what it knows of the lease to those who are more patient
			synctest.Wait()
			got := r.waiting(r.engine, 10, time.Hour)
			<-leader
			w := <-got
			if d := time.Since(begun); d < r.policy.TTL || d > r.policy.TTL+time.Second {
				t.Errorf("%v: answered after %v, the lease is of %v", policy, d, r.policy.TTL)
			}
			if policy == idem.AmbiguousHold {
				for i := range 10 {
					if w.out.Kind != idem.VerdictUnknown {
						t.Errorf("waiter %d of a held key got %v", i, w.out.Kind)
					}
					if i < 9 {
						w = <-got
					}
				}
				return
			}
			if w.attempt == nil {
				t.Fatalf("the waiter got %v, %v", w.out.Kind, w.err)
			}
			w.attempt.Finish(idem.Answered, ok())
			for range 9 {
				if w := <-got; w.out.Kind != idem.VerdictCompleted {
					t.Errorf("a waiter got %v", w.out.Kind)
				}
			}
		})
	}
}

// Who runs out of patience leaves the others as they were, the leader included.
func TestImpatientWaiters(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		leader := r.waiting(r.engine, 1, time.Second)
		followers := r.waiting(r.engine, 20, 2*time.Second)
		patient := r.waiting(r.engine, 20, time.Hour)
		begun := time.Now()
		for range 21 {
			var w waited
			select {
			case w = <-leader:
			case w = <-followers:
			}
			if w.err != nil || w.attempt != nil || w.out.Kind != idem.VerdictInProgress {
				t.Fatalf("an impatient waiter got %v, %v", w.out.Kind, w.err)
			}
		}
		if d := time.Since(begun); d != 2*time.Second {
			t.Errorf("they waited %v", d)
		}
		a.Finish(idem.Answered, ok())
		for range 20 {
			if w := <-patient; w.out.Kind != idem.VerdictCompleted {
				t.Fatalf("a patient waiter got %v, %v", w.out.Kind, w.err)
			}
		}
	})
}

// asked counts acquires.
type asked struct {
	*storetest.Memory
	acquires atomic.Int64
}

func (s *asked) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	s.acquires.Add(1)
	return s.Memory.Acquire(ctx, c)
}

// Ten thousand waiters cost the store as much as one, and one more is refused.
func TestWaitersAreBoundedAndCheap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const many = 10_000
		store := &asked{Memory: storetest.NewMemory()}
		var now atomic.Int64
		e := idem.NewEngine(idem.Config{Store: tracetest.Watch(t, store.Memory, store), Trace: idem.Trace{Waiting: func(d int) { now.Add(int64(d)) }}})
		defer e.Close(context.Background())
		r := &rig{T: t, store: store.Memory, engine: e, counts: &counts{}, policy: idem.DefaultPolicy()}
		a := r.mustBegin("k")
		got := r.waiting(e, many, time.Hour)
		if now.Load() != many {
			t.Errorf("%d wait", now.Load())
		}
		if w := wait(e, "k", &r.policy, time.Hour); w.out.Kind != idem.VerdictInProgress {
			t.Errorf("one too many got %v", w.out.Kind)
		}
		before := store.acquires.Load()
		a.Finish(idem.Answered, ok())
		for range many {
			if w := <-got; w.out.Kind != idem.VerdictCompleted {
				t.Fatalf("a waiter got %v", w.out.Kind)
			}
		}
		if n := store.acquires.Load() - before; n > 2 {
			t.Errorf("the store was asked %d times", n)
		}
		synctest.Wait()
		if now.Load() != 0 {
			t.Errorf("%d still wait", now.Load())
		}
		// All of them can come again.
		if err := store.Purge(context.Background(), a.Key()); err != nil {
			t.Fatal(err)
		}
		a = r.mustBegin("k")
		got = r.waiting(e, many, time.Hour)
		if now.Load() != many {
			t.Errorf("the second time, %d wait", now.Load())
		}
		a.Finish(idem.Answered, ok())
		for range many {
			<-got
		}
	})
}

// Waiters who lose their patience one after the other, long after the first lease would have lapsed, hand on until
// when there is nothing to ask for: the store is not asked by each of them.
func TestThePatientDoNotAskForTheImpatient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &asked{Memory: storetest.NewMemory()}
		e := idem.NewEngine(idem.Config{Store: tracetest.Watch(t, store.Memory, store)})
		defer e.Close(context.Background())
		r := &rig{T: t, store: store.Memory, engine: e, counts: &counts{}, policy: idem.DefaultPolicy()}
		a := r.mustBegin("k") // and it is renewed all the time
		const many = 20
		got := make([]<-chan waited, many)
		for i := range got {
			got[i] = r.waiting(e, 1, r.policy.TTL+5*time.Second+time.Duration(i)*time.Millisecond)
		}
		time.Sleep(r.policy.TTL + 4*time.Second)
		before := store.acquires.Load()
		for i := range got {
			if w := <-got[i]; w.out.Kind != idem.VerdictInProgress {
				t.Errorf("a waiter got %v, %v", w.out.Kind, w.err)
			}
		}
		if n := store.acquires.Load() - before; n > 1 {
			t.Errorf("the store was asked %d times while %d waiters left", n, many)
		}
		a.Finish(idem.NothingSent, nil)
	})
}

// The key ends between the refusal and the wait: that is not missed.
func TestWaitAfterTheEnd(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		out, _, _ := r.begin("k")
		a.Finish(idem.Answered, ok())
		begun := time.Now()
		out, attempt, err := r.engine.Wait(context.Background(), idem.Request{Key: a.Key(), Policy: &r.policy}, out)
		if err != nil || attempt != nil || out.Kind != idem.VerdictCompleted || time.Since(begun) != 0 {
			t.Errorf("got %v, %v after %v", out.Kind, err, time.Since(begun))
		}
	})
}

// A store that tells nobody is enough for the waiters of one process.
func TestWaitersOfOneProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := idem.NewEngine(idem.Config{Store: struct{ idem.Store }{storetest.NewMemory()}})
		defer e.Close(context.Background())
		r := &rig{T: t, engine: e, counts: &counts{}, policy: idem.DefaultPolicy()}
		a := r.mustBegin("k")
		got := r.waiting(e, 3, time.Hour)
		begun := time.Now()
		a.Finish(idem.Answered, ok())
		for range 3 {
			if w := <-got; w.out.Kind != idem.VerdictCompleted {
				t.Errorf("a waiter got %v", w.out.Kind)
			}
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("after %v", d)
		}
	})
}

// A process that learns that its lease is lost tells its waiters, whichever call it learns it by: the
// store need not tell it of changes to a record that it has a lease on.
func TestWaitersOfALostLease(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		learns func(t *testing.T, a *idem.Attempt)
		within time.Duration
		hangs  bool // the watchdog's first renewal does
	}{
		"by its ending": {learns: func(_ *testing.T, a *idem.Attempt) { a.Finish(idem.Answered, ok()) }},
		"by a renewal":  {learns: func(*testing.T, *idem.Attempt) {}, within: idem.DefaultPolicy().Heartbeat},
		"before it forwards": {learns: func(t *testing.T, a *idem.Attempt) {
			time.Sleep(idem.DefaultPolicy().Heartbeat)
			synctest.Wait() // the watchdog asks first, in vain
			if err := a.Confirm(t.Context()); !errors.Is(err, idem.ErrLeaseLost) {
				t.Errorf("confirmed: %v", err)
			}
		}, within: idem.DefaultPolicy().Heartbeat, hangs: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				memory := storetest.NewMemory()
				hung := make(chan struct{})
				of := func() *rig {
					store := &hanging{Store: memory, hung: hung}
					store.renewed.Store(!c.hangs)
					e := idem.NewEngine(idem.Config{Store: store})
					return &rig{T: t, engine: e, counts: &counts{}, policy: idem.DefaultPolicy()}
				}
				r, other := of(), of()
				defer r.engine.Close(context.Background())
				defer other.engine.Close(context.Background())
				defer close(hung) // before the engines are, which wait for it
				a := r.mustBegin("k")
				got := r.waiting(r.engine, 3, time.Hour)
				begun := time.Now()
				if err := memory.Purge(t.Context(), a.Key()); err != nil {
					t.Fatal(err)
				}
				other.mustBegin("k").Finish(idem.Answered, ok())
				c.learns(t, a)
				for range 3 {
					if w := <-got; w.out.Kind != idem.VerdictCompleted {
						t.Errorf("a waiter got %v", w.out.Kind)
					}
				}
				if d := time.Since(begun); d > c.within {
					t.Errorf("after %v, want %v at most", d, c.within)
				}
			})
		})
	}
}

// hanging is a store whose first renewal does not answer before hung is closed.
type hanging struct {
	idem.Store
	hung    chan struct{}
	renewed atomic.Bool
}

func (h *hanging) Renew(ctx context.Context, leases []idem.Lease) []error {
	if !h.renewed.Swap(true) {
		<-h.hung
	}
	return h.Store.Renew(ctx, leases)
}

func TestWaitersWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		got := r.waiting(r.engine, 5, time.Hour)
		mend := r.store.Sever()
		time.Sleep(time.Minute) // the lease lapses, as far as anybody here knows
		for range 5 {
			if w := <-got; !errors.Is(w.err, idem.ErrUnavailable) || w.attempt != nil {
				t.Errorf("a waiter got %v, %v", w.out.Kind, w.err)
			}
		}
		mend()
		a.Finish(idem.NothingSent, nil)
	})
}

func TestStopWaiting(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		got := r.waiting(r.engine, 5, time.Hour)
		begun := time.Now()
		r.engine.StopWaiting()
		r.engine.StopWaiting()
		for range 5 {
			if w := <-got; w.err != nil || w.out.Kind != idem.VerdictInProgress {
				t.Errorf("a waiter got %v, %v", w.out.Kind, w.err)
			}
		}
		if w := wait(r.engine, "k", &r.policy, time.Hour); w.out.Kind != idem.VerdictInProgress {
			t.Errorf("a late one got %v", w.out.Kind)
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("they were sent home after %v", d)
		}
		a.Finish(idem.NothingSent, nil)
	})
}

// Waiters whose patience ends in the moment in which the key does are counted
// out once: nobody is left over, and those who come later are told at once.
func TestPatienceEndsWithTheJob(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		for range 200 {
			a := r.mustBegin("k")
			got := r.waiting(r.engine, 200, time.Second)
			time.Sleep(time.Second) // and so does their patience
			a.Finish(idem.Answered, ok())
			for range 200 {
				if w := <-got; w.err != nil || w.attempt != nil {
					t.Fatalf("a waiter got %v, %v", w.out.Kind, w.err)
				}
			}
			synctest.Wait()
			if n := r.engine.WaitersLeft(); n != 0 {
				t.Fatalf("%d wait, and nobody does", n)
			}
			if err := r.store.Purge(context.Background(), a.Key()); err != nil {
				t.Fatal(err)
			}
		}
		a := r.mustBegin("k")
		got := r.waiting(r.engine, 1, time.Hour)
		begun := time.Now()
		a.Finish(idem.Answered, ok())
		if w := <-got; w.out.Kind != idem.VerdictCompleted || time.Since(begun) != 0 {
			t.Errorf("the next waiter got %v after %v", w.out.Kind, time.Since(begun))
		}
	})
}

// Requests come, wait for a while, and fail or succeed at random: nobody is
// forgotten, and no two run at a time.
func TestWaitersAtRandom(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		engines := []*idem.Engine{r.engine, r.another(), r.another()}
		var running, executed atomic.Int64
		var wg sync.WaitGroup
		for i := range 600 {
			wg.Go(func() {
				time.Sleep(time.Duration(i%7) * time.Second)
				name := fmt.Sprint(i % 3)
				w := wait(engines[i%len(engines)], name, &r.policy, time.Duration(1+i%50)*time.Second)
				if w.attempt == nil {
					return
				}
				if i%3 == 0 && running.Add(1) != 1 {
					t.Error("two attempts at one key")
				}
				time.Sleep(time.Duration(i%5) * 7 * time.Second)
				if i%3 == 0 {
					running.Add(-1)
				}
				if i%11 == 0 {
					executed.Add(1)
					w.attempt.Finish(idem.Answered, ok())
				} else {
					w.attempt.Finish(idem.NothingSent, nil)
				}
			})
		}
		wg.Wait()
		if executed.Load() > 3 {
			t.Errorf("3 keys, %d executions", executed.Load())
		}
	})
}
