package rstore_test

import (
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
)

// The next primary takes no writes at first, since its replicas are not there yet
// (min-replicas-to-write): what it refused to be told, it is told once it takes
// writes, and before it takes a key.
func TestAPrimaryThatRefusesWritesIsToldLater(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	running, ended := must(t, f.Store, claim("running")), completed(t, f.Store, "ended")
	f.second.Do("CONFIG", "SET", "min-replicas-to-write", "1")
	f.endpoint.to.Store(f.second)
	f.first.Kill()
	f.log.await(t, "NOREPLICAS")
	f.second.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	awaitReady(t, f.Store)
	acquire(t, f.elsewhere, running, idem.VerdictInProgress)
	acquire(t, f.elsewhere, ended, idem.VerdictCompleted)
}

// An operator said through another proxy what became of a held key, and both are
// on the next primary: the proxy that held it does not hold it again, and what it
// resolved itself is no conflict.
func TestAFailoverKeepsWhatWasResolvedElsewhere(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	free, ended, own := claim("free"), claim("ended"), claim("own")
	for _, c := range []idem.Claim{free, ended, own} {
		for _, s := range []*rstore.Store{f.Store, f.elsewhere} {
			must(t, s, c)
			if err := s.Hold(t.Context(), c.Lease()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.elsewhere.Resolve(t.Context(), free.Key, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.elsewhere.Resolve(t.Context(), ended.Key, &idem.Response{Status: 200}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*rstore.Store{f.Store, f.elsewhere} {
		if err := s.Resolve(t.Context(), own.Key, &idem.Response{Status: 200}); err != nil {
			t.Fatal(err)
		}
	}
	f.happens(t)
	acquire(t, f.elsewhere, free, idem.VerdictAcquired)
	acquire(t, f.elsewhere, ended, idem.VerdictCompleted)
	acquire(t, f.elsewhere, own, idem.VerdictCompleted)
	if n := f.log.count(`"event":"store_conflict"`); n != 0 {
		t.Errorf("%d conflicts are told, want none", n)
	}
}
