package rstore_test

import (
	"errors"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
)

// A renewal that is refused says that an attempt has ended, not how. What this process is told
// of it later, and what it knows from before, a failover keeps.
func TestAFailoverKeepsWhatIsKnownBesidesALostLease(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	other := open(t, rstore.Config{URL: f.first.URL()})
	lost := func(c idem.Claim) {
		t.Helper()
		if err := f.Renew(t.Context(), []idem.Lease{c.Lease()})[0]; !errors.Is(err, idem.ErrLeaseLost) {
			t.Fatalf("renewing %s: %v, want %v", c.Key.Value(), err, idem.ErrLeaseLost)
		}
	}

	// Its response came to the server, but the answer did not come back: the other process
	// stands for that.
	ended := must(t, f.Store, claim("ended"))
	response := &idem.Response{Status: 200, Body: []byte("so")}
	if err := other.Complete(t.Context(), ended.Lease(), response); err != nil {
		t.Fatal(err)
	}
	lost(ended)
	if err := f.Complete(t.Context(), ended.Lease(), response); err != nil {
		t.Fatal(err)
	}

	// It was released, and a renewal was on its way.
	released := claim("released")
	must(t, f.elsewhere, released) // as a replica that has got no further
	must(t, f.Store, released)
	if err := f.Release(t.Context(), released.Lease()); err != nil {
		t.Fatal(err)
	}
	lost(released)

	// It was held, likewise.
	held := must(t, f.Store, claim("held"))
	if err := f.Hold(t.Context(), held.Lease()); err != nil {
		t.Fatal(err)
	}
	lost(held)

	// Others had it, and had it again. What was before, an operator purged.
	completed(t, f.elsewhere, "purged") // as a replica that has got no further
	// The times of a record may be some milliseconds too soon.
	for range 20 {
		nextMillisecond(t, f.first)
	}
	purged := completed(t, f.Store, "purged")
	if err := f.Purge(t.Context(), purged.Key); err != nil {
		t.Fatal(err)
	}
	purged.Owner = idem.NewOwner()
	must(t, f.Store, purged)
	if err := other.Take(t.Context(), purged.Key, purged.Owner); err != nil {
		t.Fatal(err)
	}
	lost(purged)

	f.happens(t)
	if out := acquire(t, f.elsewhere, ended, idem.VerdictCompleted); string(out.Response.Body) != "so" {
		t.Errorf("replays %q", out.Response.Body)
	}
	acquire(t, f.elsewhere, released, idem.VerdictAcquired)
	acquire(t, f.elsewhere, held, idem.VerdictUnknown)
	acquire(t, f.elsewhere, purged, idem.VerdictAcquired)
}
