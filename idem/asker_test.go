package idem_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
)

// asker is a request whose bytes are somebody else's once it is over.
type asker struct {
	name string
	over bool
}

func (a *asker) Asked() any {
	if a.over {
		return "somebody else"
	}
	return a.name
}

// What is told of a key's fate is told of the request that led to it, also long after that
// was answered.
func TestEndingsAreToldOfTheirRequest(t *testing.T) {
	t.Parallel()
	for name, outlives := range map[string]bool{"while it waits": false, "after its request": true} {
		synctest.Test(t, func(t *testing.T) {
			var told []string
			tell := func(what string, asked any) { told = append(told, fmt.Sprint(what, " of ", asked)) }
			store, policy := storetest.NewMemory(), idem.DefaultPolicy()
			policy.OnAmbiguous = idem.AmbiguousHold
			e := idem.NewEngine(idem.Config{Store: store, Trace: idem.Trace{
				Held:     func(_ idem.Key, asked any) { tell("held", asked) },
				Deferred: func(_ idem.Key, _ idem.Event, asked any) { tell("deferred", asked) },
				Recorded: func(_ idem.Key, end idem.Ending, asked any) { tell(end.String(), asked) },
				Dropped:  func(_ idem.Key, _ idem.Event, _ error, asked any) { tell("dropped", asked) },
			}})
			finish := func(key string, away bool) (back func()) {
				k, err := idem.ParseKey(key)
				if err != nil {
					t.Fatal(err)
				}
				who := &asker{name: key}
				_, a, err := e.Begin(context.Background(), idem.Request{Key: k, Policy: &policy, Asker: who})
				if err != nil {
					t.Fatal(err)
				}
				if outlives {
					a.Outlive()
					who.over = true
				}
				back = func() {}
				if away {
					back = store.Sever()
				}
				a.Finish(idem.MayHaveExecuted, nil)
				who.over = true
				return back
			}
			finish("first", false)
			finish("late", true)()
			time.Sleep(time.Second)
			synctest.Wait()
			finish("second", true)
			if n := closeWithin(e, time.Second); n != 1 {
				t.Errorf("%d dropped", n)
			}
			if want := []string{
				"held of first", "deferred of late", "held of late", "held of late", "deferred of second", "dropped of second",
			}; !slices.Equal(told, want) {
				t.Errorf("%s: told %q, want %q", name, told, want)
			}
		})
	}
}

// How long a response is kept is what the attempt says, and else what the policy does; that
// is also what is promised of it.
func TestRetentionIsThatOfTheAttempt(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		r.policy.Retention, r.policy.Remember = time.Hour, 0
		usual, longer := r.mustBegin("usual"), r.mustBegin("longer")
		longer.Retain(3 * time.Hour)
		for a, want := range map[*idem.Attempt]time.Duration{usual: time.Hour, longer: 3 * time.Hour} {
			if d := a.Retention(); d != want {
				r.Errorf("%s is kept for %v, want %v", a.Key().Value(), d, want)
			}
			a.Finish(idem.Answered, ok())
		}
		time.Sleep(time.Hour - time.Millisecond)
		r.expect("usual", idem.VerdictCompleted)
		time.Sleep(time.Minute)
		r.expect("usual", idem.VerdictAcquired)
		r.expect("longer", idem.VerdictCompleted)
		time.Sleep(2*time.Hour - 2*time.Minute)
		r.expect("longer", idem.VerdictCompleted)
		time.Sleep(2 * time.Minute)
		r.expect("longer", idem.VerdictAcquired)
	})
}

// A lease is taken from the owner that was looked at, by a store that can do that; else
// nothing has happened.
func TestAnOperatorIsNeededForATake(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("k")
		without := idem.NewEngine(idem.Config{Store: struct{ idem.Store }{r.store}})
		defer closeWithin(without, time.Second)
		if err := without.ReleaseFrom(context.Background(), a.Key(), a.Owner()); !errors.Is(err, idem.ErrNoOperator) {
			r.Errorf("a store without an operator's side: %v", err)
		}
		r.expect("k", idem.VerdictInProgress)
		if err := r.engine.ReleaseFrom(context.Background(), a.Key(), idem.NewOwner()); !errors.Is(err, idem.ErrLeaseLost) {
			r.Errorf("from another owner: %v", err)
		}
		r.expect("k", idem.VerdictInProgress)
		a.Finish(idem.NothingSent, nil)
	})
}

// deaf is a store that says by itself when records may have changed.
type deaf struct {
	*storetest.Memory

	changed func([16]byte)
}

func (d *deaf) OnChange(f func([16]byte)) { d.changed = f }

// Whoever waits asks when the store says that any record may have changed, whatever the key.
func TestEverybodyAsksWhenAnythingMayHaveChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &deaf{Memory: storetest.NewMemory()}
		e := idem.NewEngine(idem.Config{Store: store})
		defer closeWithin(e, time.Second)
		policy := idem.DefaultPolicy()
		policy.TTL = time.Hour
		names := []string{"a", "b"}
		got := make(chan waited, len(names))
		store.changed([16]byte{}) // nobody waits
		for _, name := range names {
			k, err := idem.ParseKey(name)
			if err != nil {
				t.Fatal(err)
			}
			claim := idem.Claim{Key: k, Owner: idem.NewOwner(), TTL: time.Hour, Retention: time.Hour}
			if _, err := store.Acquire(t.Context(), claim); err != nil {
				t.Fatal(err)
			}
			go func() { got <- wait(e, name, &policy, 30*time.Minute) }()
			synctest.Wait()
			if err := store.Complete(t.Context(), claim.Lease(), ok()); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Fatalf("%d were answered before anybody was told", len(got))
		}
		before := time.Now()
		store.changed([16]byte{})
		for range names {
			if w := <-got; w.err != nil || w.out.Kind != idem.VerdictCompleted {
				t.Errorf("a waiter got %v, %v", w.out.Kind, w.err)
			}
		}
		if d := time.Since(before); d != 0 {
			t.Errorf("they were told %v later", d)
		}
	})
}
