package app

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/metrics"
	"github.com/idemproxy/idemproxy/proxy"
)

// A change is one line in the log, and what does not change is none; all of it is counted.
func TestTheSettlersLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	o := &observer{log: zerolog.New(&out), metrics: metrics.New()}
	failed := errors.New("planned")
	endpoint := proxy.EndpointStatus{URL: "http://r", Failures: 3, Err: failed}
	for _, c := range []struct {
		name  string
		do    func()
		lines []string
	}{
		{"a look", func() { o.looked(0, time.Second, nil, false) }, nil},
		{"one that finds", func() { o.looked(2, time.Second, nil, false) }, []string{"info look_done"}},
		{"one that fails", func() { o.looked(1, 2*time.Second, failed, true) }, []string{"warn look_failed"}},
		{"and again", func() { o.looked(0, 3*time.Second, failed, false) }, nil},
		{"one that can again", func() { o.looked(0, time.Second/2, nil, true) }, []string{"info look_done"}},
		{"full", func() { o.settlerFull(true) }, []string{"warn settler_full"}},
		{"turned away", func() { o.left(1, false) }, nil},
		{"room", func() { o.settlerFull(false) }, []string{"info settler_has_room"}},
		{"the end", func() { o.left(3, true) }, []string{"warn unsettled_left"}},
		{"a failure", func() { o.receiptsAsked(&endpoint, failed, true) }, []string{"warn receipts_fail"}},
		{"and again", func() { o.receiptsAsked(&endpoint, failed, false) }, nil},
		{"an answer", func() { o.receiptsAsked(&endpoint, nil, true) }, []string{"info receipts_answer"}},
		{"and again", func() { o.receiptsAsked(&endpoint, nil, false) }, nil},
	} {
		out.Reset()
		c.do()
		var lines []string
		for _, match := range regexp.MustCompile(`"level":"(\w+)","event":"(\w+)"`).FindAllStringSubmatch(out.String(), -1) {
			lines = append(lines, match[1]+" "+match[2])
		}
		if !slices.Equal(lines, c.lines) {
			t.Errorf("%s: %q, want %q", c.name, lines, c.lines)
		}
	}
	values := valuesOf(t, o.metrics)
	for name, want := range map[string]float64{
		"idemproxy_looks_total done": 3, "idemproxy_looks_total failed": 2, "idemproxy_look_duration_seconds": 0.5,
		"idemproxy_unsettled_left_total":          4,
		"idemproxy_receipts_asked_total answered": 2, "idemproxy_receipts_asked_total failed": 2,
	} {
		if got, there := values[name]; !there || got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// valuesOf are the values of counters and gauges, by name and labels.
func valuesOf(t *testing.T, m *metrics.Metrics) map[string]float64 {
	t.Helper()
	registry, values := prometheus.NewRegistry(), map[string]float64{}
	if err := m.Register(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, one := range family.GetMetric() {
			name := family.GetName()
			for _, label := range one.GetLabel() {
				name += " " + label.GetValue()
			}
			values[name] = one.GetCounter().GetValue() + one.GetGauge().GetValue()
		}
	}
	return values
}
