package rstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
)

// A key whose lease lapsed is held, and its owner may still say what happened. Its renewals are
// refused, but a failover that loses it loses nothing of that.
func TestAFailoverKeepsWhatBecameHeld(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	held, ended := claim("held"), claim("ended after all")
	for _, c := range []*idem.Claim{&held, &ended} {
		c.HoldOnLapse, c.TTL = true, 30*time.Millisecond
		must(t, f.Store, *c)
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			r, err := f.Get(t.Context(), c.Key)
			if err == nil && r.State == idem.Unknown {
				break
			}
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%v, %v: the lease does not lapse", r.State, err)
			}
		}
		if err := f.Renew(t.Context(), []idem.Lease{c.Lease()})[0]; !errors.Is(err, idem.ErrLeaseLost) {
			t.Fatalf("renewal: %v", err)
		}
	}
	if err := f.Complete(t.Context(), ended.Lease(), &idem.Response{Status: 200, Body: []byte("so")}); err != nil {
		t.Fatal(err)
	}
	f.happens(t)
	acquire(t, f.elsewhere, held, idem.VerdictUnknown)
	if out := acquire(t, f.elsewhere, ended, idem.VerdictCompleted); string(out.Response.Body) != "so" {
		t.Errorf("replays %q", out.Response.Body)
	}
}
