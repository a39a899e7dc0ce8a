package rstore_test

import (
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
)

// A grant of a key whose record cannot be superseded says that somebody purged that record, also
// if this process never heard of it: its own purge had no answer, or another process's was it, and
// that one has died. After a failover to a replica that still has the record, what followed stands.
func TestAFailoverBringsWhatFollowedAPurgeThatNobodyHeardOf(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	names := []string{"running", "done", "released", "held", "was unknown", "was counted", "twice"}
	next := map[string]idem.Claim{}
	purge := func(key idem.Key) { // by a process that does not live to see the failover
		t.Helper()
		other := open(t, rstore.Config{URL: f.first.URL()})
		if err := other.Purge(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
	}
	onBoth := func(what func(s *rstore.Store) error) {
		t.Helper()
		for _, s := range []*rstore.Store{f.elsewhere, f.Store} { // as a replica that has got no further
			if err := what(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range names {
		before := remembered(name, time.Hour)
		onBoth(func(s *rstore.Store) error {
			must(t, s, before)
			if err := s.Release(t.Context(), before.Lease()); err != nil {
				return err
			}
			must(t, s, before) // attempt 2
			switch name {
			case "was unknown":
				return s.Hold(t.Context(), before.Lease())
			case "was counted":
				return s.Release(t.Context(), before.Lease())
			}
			return s.Complete(t.Context(), before.Lease(), &idem.Response{Status: 200, Body: []byte("purged")})
		})
		purge(before.Key)
		for range 20 { // the times of a record may be some milliseconds too soon
			nextMillisecond(t, f.first)
		}
		next[name] = must(t, f.Store, claim(name))
	}
	if err := f.Complete(t.Context(), next["twice"].Lease(), &idem.Response{Status: 200, Body: []byte("also purged")}); err != nil {
		t.Fatal(err)
	}
	purge(next["twice"].Key)
	next["twice"] = must(t, f.Store, claim("twice"))
	for _, err := range []error{
		f.Complete(t.Context(), next["done"].Lease(), &idem.Response{Status: 200, Body: []byte("next")}),
		f.Release(t.Context(), next["released"].Lease()), f.Hold(t.Context(), next["held"].Lease()),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.happens(t)
	for _, name := range []string{"running", "was unknown", "was counted", "twice"} {
		acquire(t, f.elsewhere, next[name], idem.VerdictInProgress)
	}
	acquire(t, f.elsewhere, next["held"], idem.VerdictUnknown)
	acquire(t, f.elsewhere, next["released"], idem.VerdictAcquired)
	if out := acquire(t, f.elsewhere, next["done"], idem.VerdictCompleted); string(out.Response.Body) != "next" {
		t.Errorf("replays %q", out.Response.Body)
	}
	if n := f.log.count(`"event":"store_conflict"`); n != 0 {
		t.Errorf("%d conflicts are told, want none", n)
	}
}
