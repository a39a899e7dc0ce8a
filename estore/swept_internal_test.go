package estore

import (
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// While a lease that was swept is on its way out, what was settled of its key before the lease
// does not stand again: the next attempt would have the number of the one that was swept. A group
// of changes waits for the one before, so this lasts for as long as the disk takes.
func TestWhatIsSweptHidesWhatWasBefore(t *testing.T) {
	t.Parallel()
	s, err := New(Config{Dir: t.TempDir(), SweepEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	key, err := idem.ParseKey("k")
	if err != nil {
		t.Fatal(err)
	}
	claim := func(ttl, retention time.Duration) idem.Claim {
		return idem.Claim{Key: key, Owner: idem.NewOwner(), TTL: ttl, Retention: retention}
	}
	first, second, third := claim(time.Hour, time.Hour), claim(time.Millisecond, time.Millisecond), claim(time.Hour, time.Hour)
	if _, err = s.Acquire(t.Context(), first); err == nil {
		err = s.Release(t.Context(), first.Lease())
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Acquire(t.Context(), second); err != nil || out.Attempt != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	s.writes.unsynced.Add(1) // as if the disk had a group
	for n := 0; n == 0; {    // until the lease and its retention have ended
		if n, err = s.sweepLive(s.clock.sure()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.renew(new(second.Lease())); err == nil {
		t.Error("what was swept is renewed")
	}
	ended := make(chan idem.Outcome)
	go func() {
		out, err := s.Acquire(t.Context(), third)
		if err != nil {
			t.Error(err)
		}
		ended <- out
	}()
	if out, _, again, err := s.ask(t.Context(), &third, s.clock.now()); err != nil || !again && out.Attempt != 1 {
		t.Errorf("%v, attempt %d, %v", out.Kind, out.Attempt, err)
	}
	s.writes.unsynced.Add(-1)
	s.writes.rouse()
	if out := <-ended; out.Attempt != 1 {
		t.Errorf("%v, attempt %d", out.Kind, out.Attempt)
	}
}
