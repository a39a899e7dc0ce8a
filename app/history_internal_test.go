package app

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/admin"
)

// A sample is what came since the one before: rates by the time that has really passed,
// percentiles of that time alone, and what stands at its end.
func TestSample(t *testing.T) {
	t.Parallel()
	unknown := 3.0
	times := func(fast, slow uint64) map[string]Times {
		return map[string]Times{"store": {Count: fast + slow, UpTo: []UpTo{{0.001, fast}, {1, fast + slow}}}}
	}
	before := &Status{
		Requests: map[string]float64{"executed": 100, "mismatch": 7, "passed": 0}, StoreErrors: 1, Seconds: times(1000, 0), StoreUp: 1,
	}
	after := &Status{
		Requests:    map[string]float64{"executed": 150, "mismatch": 7, "passed": 5, "backend-cut": 10},
		StoreErrors: 21, Seconds: times(1000, 10), LeasesInFlight: 4, Waiters: 2, UnknownKeys: &unknown,
	}
	from := time.UnixMilli(1_000_000)
	got := sampleOf(before, after, from, from.Add(10*time.Second))
	want := admin.Sample{
		At: 1_010_000, OverMS: 10_000, Requests: map[string]float64{"executed": 5, "passed": 0.5, "backend-cut": 1},
		Store: got.Store, StoreErrors: 2, InFlight: 4, Waiters: 2, Unknown: &unknown,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got.Store == nil || got.Store.P50 < 1 || got.Store.P99 < got.Store.P50 || got.Store.P99 > 1000 {
		t.Errorf("the store took %+v: want what came since alone", got.Store)
	}
}

// The first look has nothing to compare with, and a failure is no sample.
func TestSampler(t *testing.T) {
	t.Parallel()
	n, fails := 0.0, false
	s := newSampler(func() (*Status, error) {
		if fails {
			return nil, errors.New("cannot")
		}
		n += 10
		return &Status{Requests: map[string]float64{"executed": n}, StoreUp: 1}, nil
	})
	at := time.UnixMilli(1_000_000)
	kept := func() []admin.Sample { return s.history.Samples(0) }
	s.look(at)
	if got := kept(); len(got) != 0 {
		t.Fatalf("after one look: %+v", got)
	}
	fails = true
	s.look(at.Add(5 * time.Second))
	fails = false
	s.look(at.Add(10 * time.Second))
	if got := kept(); len(got) != 1 || got[0].Requests["executed"] != 1 || !got[0].StoreUp || got[0].OverMS != 10_000 {
		t.Errorf("after a failure in between: %+v", got)
	}
}
