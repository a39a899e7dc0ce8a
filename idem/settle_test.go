package idem_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// held is an attempt of which nobody knows what became.
func (r *rig) held(name string) *idem.Attempt {
	r.Helper()
	r.policy.OnAmbiguous = idem.AmbiguousSettle
	a := r.mustBegin(name)
	if end := a.Finish(idem.MayHaveExecuted, nil); end != idem.Held {
		r.Fatalf("it ended %v", end)
	}
	return a
}

// What was in doubt is completed or free once the backend has said, and the store's call
// is told as the event that it was.
func TestSettle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		response *idem.Response
		event    idem.Event
		then     idem.Verdict
	}{
		"executed": {ok(), idem.EventComplete, idem.VerdictCompleted},
		"voided":   {nil, idem.EventRelease, idem.VerdictAcquired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(r *rig) {
				var told []idem.Event
				e := idem.NewEngine(idem.Config{Store: r.store, Trace: idem.Trace{StoreCall: func(event idem.Event, _ time.Duration, _ error) {
					told = append(told, event)
				}}})
				defer closeWithin(e, time.Second)
				a := r.held("k")
				r.expect("k", idem.VerdictUnknown)
				if err := e.Settle(context.Background(), a.Key(), a.Owner(), c.response); err != nil {
					t.Fatal(err)
				}
				if len(told) != 1 || told[0] != c.event {
					t.Errorf("told %v, want %v", told, c.event)
				}
				r.expect("k", c.then)
				// It is over: another answer about that attempt changes nothing.
				if err := e.Settle(context.Background(), a.Key(), idem.NewOwner(), ok()); !errors.Is(err, idem.ErrLeaseLost) {
					t.Errorf("another attempt's answer: %v", err)
				}
				r.expect("k", c.then)
			})
		})
	}
}

// mute is a store that tells nobody of changes.
type mute struct{ idem.Store }

// Who waits for a key hears at once that it was settled, from a store that tells nobody, too.
func TestSettleWakesWaiters(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		r.engine = idem.NewEngine(idem.Config{Store: mute{r.store}})
		defer closeWithin(r.engine, time.Second)
		a := r.mustBegin("k")
		got := r.waiting(r.engine, 1, time.Hour)
		begun := time.Now()
		if err := r.engine.Settle(context.Background(), a.Key(), a.Owner(), ok()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if w := <-got; w.err != nil || w.out.Kind != idem.VerdictCompleted || time.Since(begun) > 0 {
			t.Errorf("after %v: %v %v", time.Since(begun), w.out.Kind, w.err)
		}
		a.Finish(idem.NothingSent, nil)
	})
}

// A receipt is kept even if the backend had said of its response that it is not to be.
func TestReceiptsAreKept(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		a := r.mustBegin("answered")
		a.DoNotStore()
		if end := a.Finish(idem.Answered, ok()); end != idem.Released {
			t.Errorf("an answer that is not to be stored ended %v", end)
		}
		a = r.mustBegin("receipted")
		a.DoNotStore()
		if end := a.Finish(idem.Receipted, ok()); end != idem.Stored {
			t.Errorf("a receipt ended %v", end)
		}
		r.expect("receipted", idem.VerdictCompleted)
	})
}
