package app

import (
	"context"
	"time"

	"github.com/idemproxy/idemproxy/admin"
)

// sampler keeps what the process did in the last minutes, for who looks at the page only
// after something has happened. It is made of the metrics, so that it cannot say something
// else.
type sampler struct {
	history *admin.History
	status  func() (*Status, error)

	before *Status   // at the last sample
	at     time.Time // of it
}

func newSampler(status func() (*Status, error)) *sampler {
	return &sampler{history: &admin.History{}, status: status}
}

// run takes samples until ctx ends.
func (s *sampler) run(ctx context.Context) {
	every := time.NewTicker(admin.SampleEvery)
	defer every.Stop()
	for {
		s.look(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// look takes a sample, of what came since the one before. What cannot be gathered leaves a
// gap, which /status says the reason of.
func (s *sampler) look(now time.Time) {
	status, err := s.status()
	if err != nil {
		return
	}
	if s.before != nil && now.After(s.at) {
		s.history.Keep(sampleOf(s.before, status, s.at, now))
	}
	s.before, s.at = status, now
}

// sampleOf is what came between two moments.
func sampleOf(before, after *Status, from, to time.Time) admin.Sample {
	over := to.Sub(from)
	one := admin.Sample{
		At: to.UnixMilli(), OverMS: over.Milliseconds(), Requests: map[string]float64{},
		Store: latency(before, after, "store"), Backend: latency(before, after, "backend"),
		StoreErrors: (after.StoreErrors - before.StoreErrors) / over.Seconds(),
		InFlight:    after.LeasesInFlight, Waiters: after.Waiters, Unknown: after.UnknownKeys, StoreUp: after.StoreUp > 0,
	}
	for outcome, n := range after.Requests {
		if n -= before.Requests[outcome]; n > 0 {
			one.Requests[outcome] = n / over.Seconds()
		}
	}
	return one
}

func latency(before, after *Status, what string) *admin.Latency {
	times := after.Seconds[what].Since(before.Seconds[what])
	p50, ok := times.Quantile(0.5)
	if !ok {
		return nil
	}
	p99, _ := times.Quantile(0.99)
	return &admin.Latency{P50: p50 * 1000, P99: p99 * 1000}
}
