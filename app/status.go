package app

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/upstream"
)

// Status is what the admin page and `idemproxy top` start from. Its numbers are
// those of the metrics, so that they cannot say something else.
type Status struct {
	Version        string             `json:"version"`
	UptimeMS       int64              `json:"uptime_ms"`
	Store          string             `json:"store"` // embedded or redis
	Requests       map[string]float64 `json:"requests"`
	LeasesInFlight float64            `json:"leases_in_flight"`
	Waiters        float64            `json:"waiters"`
	StoreErrors    float64            `json:"store_errors"`
	LeasesLost     float64            `json:"leases_lost"`
	Backends       []upstream.Status  `json:"backends"`
}

// statusOf gathers it.
func (a *App) statusOf(registry prometheus.Gatherer, started time.Time) func() (any, error) {
	return func() (any, error) {
		families, err := registry.Gather()
		if err != nil {
			return nil, fmt.Errorf("gathering the metrics: %w", err)
		}
		out := Status{
			Version: Version(), UptimeMS: time.Since(started).Milliseconds(), Store: storeKind(a.settings().Store),
			Requests: map[string]float64{}, Backends: a.proxy.Status(),
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				v := m.GetCounter().GetValue() + m.GetGauge().GetValue()
				switch strings.TrimPrefix(f.GetName(), "idemproxy_") {
				case "requests_total":
					for _, l := range m.GetLabel() {
						if l.GetName() == "outcome" {
							out.Requests[l.GetValue()] += v
						}
					}
				case "leases_in_flight":
					out.LeasesInFlight = v
				case "waiters":
					out.Waiters = v
				case "store_errors_total":
					out.StoreErrors += v
				case "leases_lost_total":
					out.LeasesLost = v
				}
			}
		}
		return out, nil
	}
}

func storeKind(url string) string {
	if strings.HasPrefix(url, "embedded:") {
		return "embedded"
	}
	return "redis"
}

// settingsInForce prints them as `idemproxy config` does.
func (a *App) settingsInForce() (string, error) {
	c := a.settings()
	var b strings.Builder
	if err := c.Print(&b, c.Flags(), c.Origin); err != nil {
		return "", err
	}
	return b.String(), nil
}

// event is a request as it is shown live: what its line in the log says.
func event(r *proxy.Report) admin.Event {
	e := admin.Event{
		At: time.Now(), Outcome: r.Outcome.String(), Status: r.Status, Method: string(r.Method), Path: string(printable(r.Path)),
		Route: r.Route, Attempt: r.Attempt, Millis: millis(r.Duration), Backend: millis(r.Backend), WaitedMS: millis(r.Waited),
	}
	if r.Keyed {
		e.Key = r.Key.String()
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
