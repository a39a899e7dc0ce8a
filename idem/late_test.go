package idem_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

// never is a delivery that does not happen, and the store knows that; lost is one
// of which the store does not.
const (
	never = -1
	lost  = 24 * time.Hour
)

// lateStore answers the first acquires of key "k" with an error, and is delivered
// each of them after a time of its own, unless that is later than the claim says.
type lateStore struct {
	*storetest.Memory
	t        *testing.T
	arrivals []time.Duration
	asked    atomic.Int64
	releases atomic.Int64
}

func (s *lateStore) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	n := int(s.asked.Add(1)) - 1
	if c.Within != 5*time.Second {
		s.t.Errorf("a claim within %v", c.Within)
	}
	if n >= len(s.arrivals) {
		return s.Memory.Acquire(ctx, c)
	}
	d := s.arrivals[n]
	if d == never {
		return idem.Outcome{}, fmt.Errorf("%w: %w", idem.ErrUnavailable, idem.ErrRefused)
	}
	if d == 0 {
		_, _ = s.Memory.Acquire(ctx, c)
	} else if c.Key = c.Key.Clone(); d <= c.Within {
		go func() {
			time.Sleep(d)
			_, _ = s.Memory.Acquire(context.Background(), c)
		}()
	}
	return idem.Outcome{}, idem.ErrUnavailable
}

func (s *lateStore) Release(ctx context.Context, l idem.Lease) error {
	s.releases.Add(1)
	return s.Memory.Release(ctx, l)
}

// An acquire whose answer did not arrive may be granted late, by then to nobody:
// it is given back, and the key does not become unknown, since nothing was sent.
func TestLateAcquireIsGivenBack(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name     string
		arrivals []time.Duration // the engine asks again at once
		granted  bool            // then, and the attempt is given back
		releases int64           // at most
	}{
		{"both at once", []time.Duration{0, 0}, false, 2},
		{"one after the first release", []time.Duration{4 * time.Second, lost}, false, 2},
		{"each after a release", []time.Duration{4900 * time.Millisecond, 50 * time.Millisecond}, false, 2},
		{"neither", []time.Duration{lost, lost}, false, 2},
		{"one, the other refused", []time.Duration{3 * time.Second, never}, false, 2},
		{"one refused, the other found at once", []time.Duration{never, 0}, false, 1},
		{"after the release of what was granted", []time.Duration{3 * time.Second}, true, 2},
		{"before it was granted", []time.Duration{0}, true, 1},
		{"both refused", []time.Duration{never, never}, false, 0},
		{"one refused", []time.Duration{never}, true, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &lateStore{Memory: storetest.NewMemory(), t: t, arrivals: c.arrivals}
				r := &rig{T: t, store: store.Memory, counts: &counts{}, policy: idem.DefaultPolicy()}
				r.policy.OnAmbiguous = idem.AmbiguousHold
				r.engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, store.Memory, store), Trace: r.counts.trace()})
				defer closeWithin(r.engine, time.Second)
				_, a, err := r.begin("k")
				switch {
				case c.granted != (err == nil) || c.granted != (a != nil) || err != nil && !errors.Is(err, idem.ErrUnavailable):
					t.Fatalf("begin: %v, %v", a, err)
				case c.granted:
					time.Sleep(time.Millisecond)
					a.Finish(idem.NothingSent, nil)
				}
				time.Sleep(10 * time.Minute)
				if n := store.releases.Load(); n > c.releases {
					t.Errorf("%d releases", n)
				}
				if n := r.counts.lost.Load() + r.counts.dropped.Load(); n != 0 {
					t.Errorf("%d lost or dropped of what never was", n)
				}
				r.expect("k", idem.VerdictAcquired)
			})
		})
	}
}

// Nor does it hold the key when somebody else had it while it was on its way.
func TestLateAcquireAfterSomebodyElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &lateStore{Memory: storetest.NewMemory(), t: t, arrivals: []time.Duration{3 * time.Second}}
		r := &rig{T: t, store: store.Memory, counts: &counts{}, policy: idem.DefaultPolicy()}
		r.policy.OnAmbiguous = idem.AmbiguousHold
		another := r.another()
		r.engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, store.Memory, store), Trace: r.counts.trace()})
		defer closeWithin(r.engine, time.Second)
		key, _ := idem.ParseKey("k")
		_, theirs, err := another.Begin(t.Context(), idem.Request{Key: key, Policy: &r.policy})
		if err != nil {
			t.Fatal(err)
		}
		if out, _, err := r.begin("k"); err != nil || out.Kind != idem.VerdictInProgress {
			t.Fatalf("begin: %v, %v", out.Kind, err)
		}
		theirs.Finish(idem.NothingSent, nil)
		time.Sleep(10 * time.Minute)
		r.expect("k", idem.VerdictAcquired)
	})
}

// A release that the store cannot take is repeated for as long as that lasts, also
// past the moment at which nothing can arrive any more.
func TestGivenBackAfterAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &lateStore{Memory: storetest.NewMemory(), t: t, arrivals: []time.Duration{4 * time.Second, lost}}
		r := &rig{T: t, store: store.Memory, counts: &counts{}, policy: idem.DefaultPolicy()}
		r.policy.OnAmbiguous = idem.AmbiguousHold
		r.engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(t, store.Memory, store), Trace: r.counts.trace()})
		defer closeWithin(r.engine, time.Second)
		if _, _, err := r.begin("k"); !errors.Is(err, idem.ErrUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // it has arrived, after the first release
		mend := r.store.Sever()
		time.Sleep(2 * time.Minute)
		mend()
		if n := store.releases.Load(); n > 130 {
			t.Errorf("%d releases in 2 min", n)
		}
		time.Sleep(5 * time.Second)
		r.expect("k", idem.VerdictAcquired)
	})
}
