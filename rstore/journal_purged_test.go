package rstore_test

import (
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
)

// What was made of a key after this process purged it is brought to a primary that still has
// what was purged, whatever number its attempt had: a purged response is not replayed, and
// what stands in its place is not executed once more.
func TestAFailoverBringsWhatFollowedAPurge(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	names := []string{"running", "done", "released", "held", "lapsed", "purged again"}
	next := map[string]idem.Claim{}
	for _, name := range names {
		before := remembered(name, time.Hour)
		for _, s := range []*rstore.Store{f.elsewhere, f.Store} { // as a replica that has got no further
			must(t, s, before)
			if err := s.Release(t.Context(), before.Lease()); err != nil {
				t.Fatal(err)
			}
			done(t, s, before, &idem.Response{Status: 200, Body: []byte("purged")})
		}
		if err := f.Purge(t.Context(), before.Key); err != nil {
			t.Fatal(err)
		}
		for range 20 { // the times of a record may be some milliseconds too soon
			nextMillisecond(t, f.first)
		}
		c := claim(name)
		if name == "lapsed" {
			c.TTL = time.Millisecond
		}
		next[name] = must(t, f.Store, c)
	}
	for _, err := range []error{
		f.Complete(t.Context(), next["done"].Lease(), &idem.Response{Status: 200, Body: []byte("next")}),
		f.Release(t.Context(), next["released"].Lease()), f.Hold(t.Context(), next["held"].Lease()),
		f.Purge(t.Context(), next["purged again"].Key),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.happens(t)
	acquire(t, f.elsewhere, next["running"], idem.VerdictInProgress)
	acquire(t, f.elsewhere, next["held"], idem.VerdictUnknown)
	for _, name := range []string{"released", "lapsed", "purged again"} {
		acquire(t, f.elsewhere, next[name], idem.VerdictAcquired)
	}
	if out := acquire(t, f.elsewhere, next["done"], idem.VerdictCompleted); string(out.Response.Body) != "next" {
		t.Errorf("replays %q", out.Response.Body)
	}
	if n := f.log.count(`"event":"store_conflict"`); n != 0 {
		t.Errorf("%d conflicts are told, want none", n)
	}
}
