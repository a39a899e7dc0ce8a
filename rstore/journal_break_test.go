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
	if err := f.elsewhere.Resolve(t.Context(), free.Key, idem.Owner{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.elsewhere.Resolve(t.Context(), ended.Key, idem.Owner{}, &idem.Response{Status: 200}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*rstore.Store{f.Store, f.elsewhere} {
		if err := s.Resolve(t.Context(), own.Key, idem.Owner{}, &idem.Response{Status: 200}); err != nil {
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

// What an operator says through this process of somebody else's attempt is not
// made a state of the one that this process knows: it knows a purge from before,
// and would have the key forgotten; or an attempt with another payload; or one that is
// held, where the operator names another.
func TestAnOperatorsWordOnAnothersAttemptIsNotJournaled(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	other := open(t, rstore.Config{URL: f.first.URL()})
	purged, released := completed(t, f.Store, "purged"), must(t, f.Store, claim("released"))
	if err := f.Purge(t.Context(), purged.Key); err != nil {
		t.Fatal(err)
	}
	if err := f.Release(t.Context(), released.Lease()); err != nil {
		t.Fatal(err)
	}
	theirs, reused := claim("purged"), claim("released")
	reused.Fingerprint[0]++
	for _, c := range []idem.Claim{theirs, reused} {
		must(t, other, c)
		if err := other.Hold(t.Context(), c.Lease()); err != nil {
			t.Fatal(err)
		}
	}
	must(t, f.elsewhere, theirs) // as a replica that has got no further than the hold
	if err := f.elsewhere.Hold(t.Context(), theirs.Lease()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []idem.Claim{theirs, reused} {
		if err := f.Resolve(t.Context(), c.Key, idem.Owner{}, &idem.Response{Status: 200, Body: []byte("theirs")}); err != nil {
			t.Fatal(err)
		}
	}
	ours := must(t, f.Store, claim("ours"))
	next := ours
	next.Owner = idem.NewOwner()
	for _, err := range []error{
		f.Hold(t.Context(), ours.Lease()), other.Resolve(t.Context(), ours.Key, ours.Owner, nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(t, other, next)
	for _, err := range []error{
		other.Hold(t.Context(), next.Lease()), f.Resolve(t.Context(), next.Key, next.Owner, &idem.Response{Status: 200, Body: []byte("next")}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.happens(t)
	acquire(t, f.elsewhere, ours, idem.VerdictUnknown)
	acquire(t, f.elsewhere, theirs, idem.VerdictUnknown)
	acquire(t, f.elsewhere, released, idem.VerdictAcquired) // not the response to another payload
}

// What differs of a request with a used key is told after a failover as it was before; of
// a key that was taken without what explains it, nothing is made up.
func TestAFailoverKeepsWhatExplainsAMismatch(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	explained, bare := claim("explained"), claim("bare")
	explained.Hints = idem.Hints{1, 2, 3, 4}
	explained.Owner = explained.Hints.NewOwner()
	must(t, f.Store, explained)
	must(t, f.Store, bare)
	f.happens(t)
	for c, want := range map[*idem.Claim]idem.Part{
		&explained: explained.Hints.Differ(idem.Hints{1, 2, 3, 5}), &bare: idem.PartPayload,
	} {
		other := *c
		other.Fingerprint[0]++
		other.Hints = idem.Hints{1, 2, 3, 5}
		other.Owner = other.Hints.NewOwner()
		if out, err := f.elsewhere.Acquire(t.Context(), other); err != nil || out.Kind != idem.VerdictMismatch || out.Part != want {
			t.Errorf("%s: %v, %v differs, %v; want %v", c.Key.Value(), out.Kind, out.Part, err, want)
		}
	}
}
