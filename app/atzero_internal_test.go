package app

import (
	"regexp"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/metrics"
)

// Every metric has its series from the start: one that begins to exist with its first event
// has no increase then, and no alert sees that event. Those of responses that go on behind
// their request and of what is only observed are by the routes that have such.
func TestSeriesExistFromTheStart(t *testing.T) {
	t.Parallel()
	m := metrics.New()
	newObserver(m, zerolog.Nop())
	later := []string{
		"idemproxy_async_ended_total", "idemproxy_streams_ended_total", "idemproxy_would_hold_total", "idemproxy_would_total",
		"idemproxy_backend_down", "idemproxy_build_info", // which the app sets when it knows its backends and its version
	}
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for _, c := range m.Collectors() {
		descs, series := make(chan *prometheus.Desc, 1), make(chan prometheus.Metric, 1000)
		c.Describe(descs)
		c.Collect(series)
		n := name.FindStringSubmatch((<-descs).String())[1]
		if len(series) == 0 && !slices.Contains(later, n) {
			t.Errorf("%s has no series before its first event", n)
		}
	}
}
