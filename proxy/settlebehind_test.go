package proxy_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
)

// pendingRig has one key in doubt, whose operation was executed and whose endpoint is away.
func pendingRig(t *testing.T, change ...func(*proxy.Config)) (r *rig, l *ledger, record idem.Record, unsettled *atomic.Int64) {
	t.Helper()
	l, unsettled = newLedger(), &atomic.Int64{}
	l.away.Store(true)
	var engine *idem.Engine
	all := append([]func(*proxy.Config){
		l.settling(t, 100*time.Millisecond),
		func(c *proxy.Config) { c.Trace.Unsettled = func(delta int) { unsettled.Add(int64(delta)) } },
	}, change...)
	r = newRig(t, lose, append(all, func(c *proxy.Config) { engine = c.Engine })...)
	r.isProblem(r.post("k", "x"), 502, "outcome-pending")
	record, err := engine.Get(t.Context(), mustKey("k"))
	if err != nil {
		t.Fatal(err)
	}
	if n := unsettled.Load(); n != 1 {
		t.Errorf("%d are told to be unsettled", n)
	}
	return r, l, record, unsettled
}

func (r *rig) nothingUnsettled(told *atomic.Int64) {
	r.t.Helper()
	r.until("nothing is left", func() bool { return r.server.Settling().Unsettled == 0 && told.Load() == 0 })
}

// What somebody else has ended meanwhile is not asked about any more, whoever has the key
// now, and however long the endpoint stays away.
func TestOthersSettleInTheBackground(t *testing.T) {
	t.Parallel()
	for name, settle := range map[string]func(r *rig, was idem.Record) error{
		"completed": func(r *rig, was idem.Record) error {
			return r.store.Complete(r.t.Context(), idem.Lease{Key: was.Key, Owner: was.Owner, Retention: time.Minute}, &idem.Response{Status: 201})
		},
		"free": func(r *rig, was idem.Record) error {
			return r.store.Release(r.t.Context(), idem.Lease{Key: was.Key, Owner: was.Owner})
		},
		"another attempt": func(r *rig, was idem.Record) error {
			if err := r.store.Release(r.t.Context(), idem.Lease{Key: was.Key, Owner: was.Owner}); err != nil {
				return err
			}
			_, err := r.store.Acquire(r.t.Context(), idem.Claim{
				Key: was.Key, Owner: idem.NewOwner(), TTL: time.Hour, Retention: time.Minute, HoldOnLapse: true, Recipe: was.Recipe,
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _, record, unsettled := pendingRig(t)
			if err := settle(r, record); err != nil {
				t.Fatal(err)
			}
			r.nothingUnsettled(unsettled)
		})
	}
}

// A route that settles no more leaves what it had in doubt to whoever does.
func TestNoLongerSettled(t *testing.T) {
	t.Parallel()
	var config proxy.Config
	r, _, record, unsettled := pendingRig(t, func(c *proxy.Config) { config = *c })
	config.Receipts, config.Policy.OnAmbiguous = nil, idem.AmbiguousHold
	if err := r.server.Reload(config); err != nil {
		t.Fatal(err)
	}
	r.nothingUnsettled(unsettled)
	if now, err := r.store.Get(t.Context(), record.Key); err != nil || now.State != idem.Unknown {
		t.Errorf("%v %v", now.State, err)
	}
}

// A receipt that is too large to keep is not kept by the settling in the background, either.
func TestLargeReceiptInTheBackground(t *testing.T) {
	t.Parallel()
	r, l, record, unsettled := pendingRig(t, func(c *proxy.Config) { c.MaxResponseBody = 5 })
	l.mu.Lock()
	l.done["|k"] = "more than five"
	l.mu.Unlock()
	l.away.Store(false)
	r.nothingUnsettled(unsettled)
	if now, err := r.store.Get(t.Context(), record.Key); err != nil || now.State != idem.Completed || !now.Response.BodyOmitted {
		t.Errorf("%v %v %+v", now.State, err, now.Response)
	}
}

// forgetful is a store that does not take the first ends of what is in doubt.
type forgetful struct {
	*storetest.Memory

	refuse atomic.Int64
}

func (f *forgetful) Release(ctx context.Context, l idem.Lease) error {
	if f.refuse.Add(-1) >= 0 {
		return fmt.Errorf("%w: so it was planned", idem.ErrUnavailable)
	}
	return f.Memory.Release(ctx, l)
}

// What the store does not take is tried again.
func TestSettlingIsTriedUntilTheStoreTakesIt(t *testing.T) {
	t.Parallel()
	store := &forgetful{Memory: storetest.NewMemory()}
	r, l, record, unsettled := pendingRig(t, func(c *proxy.Config) { c.Engine = idem.NewEngine(idem.Config{Store: store}) })
	store.refuse.Store(2)
	l.away.Store(false)
	r.nothingUnsettled(unsettled)
	if now, err := store.Get(t.Context(), record.Key); err == nil {
		t.Errorf("the record is %v", now.State)
	}
}

// Many attempts are settled, not only as many as are asked about at a time.
func TestManyAreSettled(t *testing.T) {
	t.Parallel()
	l := newLedger()
	r := newRig(t, l.answer, l.settling(t, 10*time.Second), oftenSettling)
	r.post("known", "x")
	known, err := r.store.Get(t.Context(), mustKey("known"))
	if err != nil {
		t.Fatal(err)
	}
	const many = 50
	for i := range many {
		r.leftInDoubt(mustKey(fmt.Sprint("k", i)), known.Recipe)
	}
	r.until("all are voided", func() bool { return l.voids.Load() == many })
}

// The first look waits for the longest lease of all routes.
func TestLongestLease(t *testing.T) {
	t.Parallel()
	r := newRig(t, lose, func(c *proxy.Config) {
		c.Policy.TTL = time.Minute
		longer := c.Rules
		longer.Policy.TTL = time.Hour
		c.Routes = []proxy.Route{{Name: "longer", Match: proxy.Match{Path: "/longer"}, Rules: longer}}
	})
	if d := r.server.LongestLease(); d != time.Hour {
		t.Errorf("it is %v", d)
	}
}
