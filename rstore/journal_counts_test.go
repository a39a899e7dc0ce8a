package rstore_test

import (
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
)

// The count of a key's attempts goes on after a failover, also of a key that is free: it was
// released, or its lease lapsed. A backend refuses a number that it has seen.
func TestAFailoverKeepsTheCountOfAttempts(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	three := func(name string, ahead int) idem.Claim {
		c := claim(name)
		for n := range 3 {
			c.Owner = idem.NewOwner()
			if n == 2 && name == "lapsed" {
				c.TTL = time.Millisecond
			}
			for _, s := range []*rstore.Store{f.Store, f.elsewhere}[:1+min(1, max(0, ahead-n))] {
				must(t, s, c)
				if n == 2 && name == "lapsed" {
					continue
				}
				if err := s.Release(t.Context(), c.Lease()); err != nil {
					t.Fatal(err)
				}
			}
		}
		return c
	}
	lacks, behind, lapsed := three("released", 0), three("behind", 1), three("lapsed", 0)
	superseded := claim("superseded") // the replica has got no further than the first attempt
	must(t, f.elsewhere, superseded)
	must(t, f.Store, superseded)
	if err := f.Release(t.Context(), superseded.Lease()); err != nil {
		t.Fatal(err)
	}
	nextMillisecond(t, f.first)
	for range 2 {
		superseded.Owner = idem.NewOwner()
		must(t, f.Store, superseded)
		if err := f.Release(t.Context(), superseded.Lease()); err != nil {
			t.Fatal(err)
		}
	}
	f.happens(t)
	for _, c := range []idem.Claim{lacks, behind, lapsed, superseded} {
		if out := acquire(t, f.elsewhere, c, idem.VerdictAcquired); out.Attempt != 4 {
			t.Errorf("%s: attempt %d, want 4", c.Key.Value(), out.Attempt)
		}
	}
	if n := f.log.count(`"event":"store_conflict"`); n != 0 {
		t.Errorf("%d conflicts are told, want none", n)
	}
}
