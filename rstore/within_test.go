package rstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// A claim whose sender gave up is not granted when it gets through after all.
func TestP1ALateClaimIsNotGranted(t *testing.T) {
	t.Parallel()
	cluster, nodes := redistest.Cluster(t, 3)
	single := redistest.Start(t)
	all := append([]*redistest.Server{single}, nodes...)
	for name, url := range map[string]string{"one server": single.URL(), "a Cluster": cluster} {
		for _, known := range []bool{true, false} {
			const timeout = 300 * time.Millisecond
			s := open(t, rstore.Config{URL: url, Timeout: timeout, Namespace: "late"})
			c := claim(name)
			c.HoldOnLapse, c.Within = true, timeout
			if known { // the server's clock
				if out, err := s.Acquire(t.Context(), c); err != nil || out.Kind != idem.VerdictAcquired {
					t.Fatalf("%s: a claim in time: %v, %v", name, out.Kind, err)
				}
				if err := s.Release(t.Context(), c.Lease()); err != nil {
					t.Fatal(err)
				}
			}
			c.Owner = idem.NewOwner()
			var resume []func()
			for _, server := range all {
				resume = append(resume, server.Stall())
			}
			if _, err := s.Acquire(t.Context(), c); !errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused) {
				t.Errorf("%s: the claim: %v, want it in doubt", name, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			if err := s.Release(ctx, c.Lease()); !errors.Is(err, idem.ErrUnavailable) {
				t.Errorf("%s: its release: %v", name, err)
			}
			<-ctx.Done() // Within has passed
			cancel()
			for _, f := range resume {
				f()
			}
			later := open(t, rstore.Config{URL: url, Namespace: "late"}) // after all that was under way
			if r, err := later.Get(t.Context(), c.Key); !errors.Is(err, idem.ErrNotFound) {
				t.Errorf("%s, clock known: %v: the key is %v, %v: the late claim was granted", name, known, r.State, err)
			}
			acquire(t, later, c, idem.VerdictAcquired)
			if err := later.Purge(t.Context(), c.Key); err != nil {
				t.Error(err)
			}
		}
	}
}

// A claim that is held up, not its answer: its sender's deadline decides, not its
// patience.
func TestP1AClaimIsGrantedInTime(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	c := claim("k")
	c.Within = time.Minute
	for range 2 { // its own deadline, then one by what it learned
		resume := pause(server)
		answer := make(chan error, 1)
		go func() {
			_, err := s.Acquire(t.Context(), c)
			answer <- err
		}()
		arrived(t, server)
		resume()
		if err := <-answer; err != nil {
			t.Errorf("a claim in time: %v", err)
		}
		if err := s.Release(t.Context(), c.Lease()); err != nil {
			t.Fatal(err)
		}
	}
	c.Within = time.Millisecond
	resume := pause(server)
	answer := make(chan error, 1)
	go func() {
		_, err := s.Acquire(t.Context(), c)
		answer <- err
	}()
	arrived(t, server)
	<-time.After(2 * c.Within)
	resume()
	if err := <-answer; !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) {
		t.Errorf("a late claim: %v, want it refused for certain", err)
	}
}

// Another server has another clock: a claim that is late by what was known is
// sent once more, by the clock that answered.
func TestClaimsSurviveAnotherClock(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	c := claim("k")
	c.Within = time.Minute
	acquireWithin := func() {
		t.Helper()
		c.Owner = idem.NewOwner()
		if out, err := s.Acquire(t.Context(), c); err != nil || out.Kind != idem.VerdictAcquired {
			t.Fatalf("%v, %v", out.Kind, err)
		}
		if err := s.Release(t.Context(), c.Lease()); err != nil {
			t.Fatal(err)
		}
	}
	acquireWithin()
	before := s.ClockAhead()
	for _, ahead := range []time.Duration{-time.Hour, time.Hour} { // as if it were the clock of the server before
		s.ShiftClock(ahead)
		acquireWithin()
		server.Do("CONFIG", "RESETSTAT")
		acquireWithin()
		if n := server.Calls()["evalsha"]; n != 2 {
			t.Errorf("clock %v ahead: %d calls for a claim and its release, want 2: nothing was learned", ahead, n)
		}
		if s.ClockAhead() > before+time.Minute || s.ClockAhead() < before-time.Minute {
			t.Errorf("clock %v ahead: it is taken to be %v ahead, was %v", ahead, s.ClockAhead(), before)
		}
	}
}
