package rstore_test

import (
	"errors"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
)

// What an operator made of an attempt is not its owner's after a failover either: a late
// ending of it is lost, and so is known not to be what is replayed. That is so whether the
// next primary lacks the record or has an earlier one.
func TestAFailoverKeepsThatAnOperatorResolved(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	keys := map[string]idem.Claim{}
	for _, name := range []string{"lacks", "has", "free"} {
		c := claim(name)
		keys[name] = c
		for _, s := range []*rstore.Store{f.Store, f.elsewhere} {
			if s == f.elsewhere && name == "lacks" {
				continue
			}
			must(t, s, c)
			if err := s.Hold(t.Context(), c.Lease()); err != nil {
				t.Fatal(err)
			}
		}
		operators := &idem.Response{Status: 200, Body: []byte("operator's")}
		if name == "free" {
			operators = nil
		}
		if err := f.Resolve(t.Context(), c.Key, c.Owner, operators); err != nil {
			t.Fatal(err)
		}
	}
	// Such an ending before the failover does not have the operator's word forgotten.
	free := keys["free"].Lease()
	if err := f.Complete(t.Context(), free, &idem.Response{Status: 201}); !errors.Is(err, idem.ErrLeaseLost) {
		t.Errorf("before the failover, completing what is resolved: %v", err)
	}
	f.happens(t)
	for name, c := range keys {
		late := c.Lease()
		for what, err := range map[string]error{
			"complete": f.elsewhere.Complete(t.Context(), late, &idem.Response{Status: 201, Body: []byte("late")}),
			"release":  f.elsewhere.Release(t.Context(), late),
			"hold":     f.elsewhere.Hold(t.Context(), late),
		} {
			if !errors.Is(err, idem.ErrLeaseLost) {
				t.Errorf("%s: a late %s of what was resolved: %v, want %v", name, what, err, idem.ErrLeaseLost)
			}
		}
		if name == "free" {
			acquire(t, f.elsewhere, c, idem.VerdictAcquired)
			continue
		}
		if out := acquire(t, f.elsewhere, c, idem.VerdictCompleted); string(out.Response.Body) != "operator's" {
			t.Errorf("%s replays %q", name, out.Response.Body)
		}
	}
	if n := f.log.count(`"event":"store_conflict"`); n != 0 {
		t.Errorf("%d conflicts are told, want none", n)
	}
}

// An operator who takes a key too late, as it is held by then, is refused. That says nothing of
// whose it is: it is held after a failover, too.
func TestAFailoverKeepsWhatCouldNotBeTaken(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	c := must(t, f.Store, claim("k"))
	if err := f.Hold(t.Context(), c.Lease()); err != nil {
		t.Fatal(err)
	}
	if err := f.Take(t.Context(), c.Key, c.Owner); !errors.Is(err, idem.ErrLeaseLost) {
		t.Errorf("taking what is held: %v", err)
	}
	f.happens(t)
	acquire(t, f.elsewhere, c, idem.VerdictUnknown)
}
