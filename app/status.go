package app

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/upstream"
)

// Status is what the admin page and `idemproxy top` start from. Its numbers are
// those of the metrics, so that they cannot say something else.
type Status struct {
	Version        string             `json:"version"`
	UptimeMS       int64              `json:"uptime_ms"`
	Store          string             `json:"store"` // embedded, postgres or redis
	Requests       map[string]float64 `json:"requests"`
	LeasesInFlight float64            `json:"leases_in_flight"`
	Waiters        float64            `json:"waiters"`
	StoreErrors    float64            `json:"store_errors"`
	LeasesLost     float64            `json:"leases_lost"`
	Backends       []BackendStatus    `json:"backends"`
	// Unsettled are the attempts in doubt that this process asks backends about.
	Unsettled float64 `json:"unsettled"`
	// StoreUp is 0 while the store does not answer. UnknownKeys and UnknownOldestS are what
	// idemproxy_unknown_keys and idemproxy_unknown_oldest_seconds say; not there before they
	// were counted.
	StoreUp        float64  `json:"store_up"`
	UnknownKeys    *float64 `json:"unknown_keys,omitempty"`
	UnknownOldestS *float64 `json:"unknown_oldest_s,omitempty"`
	// UnknownCountedS is how long ago that was, in seconds.
	UnknownCountedS *float64 `json:"unknown_counted_s,omitempty"`
	// Amiss is what is wrong at the moment, the earliest first.
	Amiss []Amiss `json:"amiss"`
	// Seconds are how long it took since the start, by what: store, backend, request.
	Seconds map[string]Times `json:"seconds"`
}

// BackendStatus is how a backend is doing.
type BackendStatus = upstream.Status

// statusOf gathers it.
func (a *App) statusOf(registry prometheus.Gatherer, started time.Time) func() (*Status, error) {
	return func() (*Status, error) {
		families, err := registry.Gather()
		if err != nil {
			return nil, fmt.Errorf("gathering the metrics: %w", err)
		}
		out := &Status{
			Version: Version(), UptimeMS: time.Since(started).Milliseconds(), Store: storeKind(a.settings().Store),
			Requests: map[string]float64{}, Seconds: map[string]Times{}, Backends: a.proxy.Status(),
			Amiss: a.amiss.list(),
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				one := sample{value: m.GetCounter().GetValue() + m.GetGauge().GetValue()}
				one.times.Count = m.GetHistogram().GetSampleCount()
				for _, b := range m.GetHistogram().GetBucket() {
					one.times.UpTo = append(one.times.UpTo, UpTo{b.GetUpperBound(), b.GetCumulativeCount()})
				}
				for _, l := range m.GetLabel() {
					if l.GetName() == "outcome" {
						one.outcome = l.GetValue()
					}
				}
				out.take(strings.TrimPrefix(f.GetName(), "idemproxy_"), &one)
			}
		}
		return out, nil
	}
}

// sample is what a metric says, of whichever kind it is.
type sample struct {
	value   float64
	times   Times
	outcome string // the label's
}

// take takes a metric in.
func (s *Status) take(name string, one *sample) {
	v := one.value
	counted := &v
	if math.IsNaN(v) {
		counted = nil
	}
	switch name {
	case "requests_total":
		s.Requests[one.outcome] += v
	case "leases_in_flight":
		s.LeasesInFlight = v
	case "waiters":
		s.Waiters = v
	case "store_errors_total":
		s.StoreErrors += v
	case "leases_lost_total":
		s.LeasesLost = v
	case "unsettled":
		s.Unsettled = v
	case "store_up":
		s.StoreUp = v
	case "unknown_keys":
		s.UnknownKeys = counted
	case "unknown_oldest_seconds":
		s.UnknownOldestS = counted
	case "unknown_counted_timestamp_seconds":
		if counted != nil {
			ago := max(0, float64(time.Now().UnixMilli())/1000-v)
			s.UnknownCountedS = &ago
		}
	case "store_duration_seconds", "backend_duration_seconds", "request_duration_seconds":
		what := strings.TrimSuffix(name, "_duration_seconds")
		s.Seconds[what] = s.Seconds[what].plus(one.times)
	}
}

func storeKind(url string) string {
	switch {
	case strings.HasPrefix(url, "embedded:"):
		return "embedded"
	case strings.HasPrefix(url, "postgres"):
		return "postgres"
	}
	return "redis"
}

// settingsInForce prints them as `idemproxy config` does.
func (a *App) settingsInForce(which admin.SettingsWanted) (string, error) {
	c := a.settings()
	var b strings.Builder
	printed := c.Print
	if which == admin.ChangedSettings {
		printed = c.PrintChanged
	}
	if err := printed(&b, c.Flags(), c.Origin); err != nil {
		return "", err
	}
	return b.String(), nil
}

// event is a request as it is shown live: what its line in the log says.
func event(r *proxy.Report, seq uint64) admin.Event {
	e := admin.Event{
		Seq: seq, At: time.Now(), Outcome: r.Outcome.String(), Status: r.Status, Method: string(r.Method),
		Path:  string(printable(r.Path)),
		Route: r.Route, Attempt: r.Attempt, Millis: millis(r.Duration), Backend: millis(r.Backend), WaitedMS: millis(r.Waited),
		Store: millis(r.Store), Differs: proxy.Differs(r.Differs), Would: r.Would.String(),
	}
	if r.Keyed || r.Would != proxy.WouldNothing && r.Key != (idem.Key{}) {
		e.Key = r.Key.String()
	}
	if r.Ending != idem.Open {
		e.Ending = r.Ending.String()
	}
	if r.Client.IsValid() {
		e.Client = r.Client.String()
	} else if r.Remote != nil {
		e.Client = r.Remote.String()
	}
	e.Request, e.Settled = string(loggedID(r.RequestID)), r.Settlement.String()
	if r.Err != nil {
		e.Error = r.Err.Error()
	}
	return e
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
