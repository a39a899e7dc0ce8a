package metrics_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/idemproxy/idemproxy/internal/golden"
	"github.com/idemproxy/idemproxy/metrics"
)

func TestRegistersOnce(t *testing.T) {
	t.Parallel()
	m, r := metrics.New(), prometheus.NewRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	if err := m.Register(r); err == nil {
		t.Error("registered twice")
	}
}

// TestMetricsDocument keeps docs/reference/metrics.md in step.
func TestMetricsDocument(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# Metrics\n\nPrinted from package `metrics` by `make docs`; do not edit. Served by the admin listener at `/metrics`, beside those\n" +
		"of the Go runtime and the process. No label grows with traffic.\n\n| metric | labels | meaning |\n| --- | --- | --- |\n")
	desc := regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]+)".*variableLabels: {([^}]*)}`)
	for _, c := range metrics.New().Collectors() {
		ch := make(chan *prometheus.Desc, 1)
		c.Describe(ch)
		match := desc.FindStringSubmatch((<-ch).String())
		if match == nil {
			t.Fatal("a description that this test cannot read")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", match[1], match[3], match[2])
	}
	golden.Check(t, "../docs/reference/metrics.md", b.String())
}
