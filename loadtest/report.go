package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
	"github.com/tsenart/vegeta/v12/lib/plot"
)

// report gathers an attack's results by outcome.
type report struct {
	outcomes map[string]*vegeta.Metrics
	all      vegeta.Metrics
	wrong    map[int]int // statuses that the scenario does not allow
	allowed  []int
	plot     *plot.Plot
}

func newReport(allowed []int) *report {
	return &report{
		outcomes: map[string]*vegeta.Metrics{}, wrong: map[int]int{}, allowed: allowed,
		plot: plot.New(plot.Title("IdemProxy under load"), plot.Label(func(r *vegeta.Result) string { return outcomeOf(r) })),
	}
}

// outcomeOf names what the proxy did, from what the client sees.
func outcomeOf(r *vegeta.Result) string {
	switch {
	case r.Headers.Get("Idempotent-Replayed") == "true":
		return "replayed"
	case r.Code == http.StatusConflict:
		return "conflict"
	case r.Code == http.StatusUnprocessableEntity:
		return "mismatch"
	case r.Code >= 200 && r.Code < 400:
		return "executed"
	}
	return "failed"
}

func (r *report) add(result *vegeta.Result) error {
	o := outcomeOf(result)
	if r.outcomes[o] == nil {
		r.outcomes[o] = &vegeta.Metrics{}
	}
	r.outcomes[o].Add(result)
	r.all.Add(result)
	if !slices.Contains(r.allowed, int(result.Code)) {
		r.wrong[int(result.Code)]++
	}
	if err := r.plot.Add(result); err != nil {
		return fmt.Errorf("plotting: %w", err)
	}
	return nil
}

func (r *report) close() {
	for _, m := range r.outcomes {
		m.Close()
	}
	r.all.Close()
}

func (r *report) print(w io.Writer) {
	names := make([]string, 0, len(r.outcomes))
	for name := range r.outcomes {
		names = append(names, name)
	}
	slices.Sort(names)
	const row = "%-10s %9s %9s %9s %9s %9s %9s\n"
	var b strings.Builder
	fmt.Fprintf(&b, row, "outcome", "requests", "mean", "p50", "p95", "p99", "max")
	for _, name := range names {
		l := r.outcomes[name].Latencies
		fmt.Fprintf(&b, row, name, fmt.Sprint(r.outcomes[name].Requests),
			short(l.Mean), short(l.P50), short(l.P95), short(l.P99), short(l.Max))
	}
	fmt.Fprintf(&b, "%d requests, %.0f a second asked for, %.0f answered\n", r.all.Requests, r.all.Rate, r.all.Throughput)
	for status, n := range r.wrong {
		fmt.Fprintf(&b, "%d answers of status %d, which this scenario does not allow\n", n, status)
	}
	_, _ = io.WriteString(w, b.String())
}

func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// write leaves the results as JSON and as vegeta's plot.
func (r *report) write(dir, scenario string, v verdict) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("the results: %w", err)
	}
	text, err := json.MarshalIndent(map[string]any{
		"scenario": scenario, "outcomes": r.outcomes, "all": &r.all, "check": v,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("the results: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, scenario+".json"), text, 0o600); err != nil {
		return fmt.Errorf("the results: %w", err)
	}
	hdr, err := os.Create(filepath.Join(dir, scenario+".hdr.txt")) //nolint:gosec // a scenario's name, from our list
	if err != nil {
		return fmt.Errorf("the results: %w", err)
	}
	defer func() { _ = hdr.Close() }()
	if err := vegeta.NewHDRHistogramPlotReporter(&r.all).Report(hdr); err != nil {
		return fmt.Errorf("the results: %w", err)
	}
	f, err := os.Create(filepath.Join(dir, scenario+".html")) //nolint:gosec // a scenario's name, from our list
	if err != nil {
		return fmt.Errorf("the results: %w", err)
	}
	defer func() { _ = f.Close() }()
	if _, err := r.plot.WriteTo(f); err != nil {
		return fmt.Errorf("the results: %w", err)
	}
	return nil
}

// compare prints how each outcome's latencies differ from an earlier run's.
func (r *report) compare(file string, w io.Writer) error {
	text, err := os.ReadFile(file) //nolint:gosec // the user names it
	if err != nil {
		return fmt.Errorf("-baseline: %w", err)
	}
	var before struct {
		Scenario string
		Outcomes map[string]*vegeta.Metrics
	}
	if err := json.Unmarshal(text, &before); err != nil || len(before.Outcomes) == 0 {
		return fmt.Errorf("-baseline: %s is not a result of -out: %w", file, err)
	}
	_, _ = fmt.Fprintf(w, "against %s:\n", file)
	for name, m := range r.outcomes {
		old := before.Outcomes[name]
		if old == nil {
			_, _ = fmt.Fprintf(w, "  %-10s not there\n", name)
			continue
		}
		_, _ = fmt.Fprintf(w, "  %-10s p50 %+.0f%%, p99 %+.0f%%, %d requests, were %d\n", name,
			change(old.Latencies.P50, m.Latencies.P50), change(old.Latencies.P99, m.Latencies.P99), m.Requests, old.Requests)
	}
	return nil
}

func change(before, now time.Duration) float64 {
	return 100 * (float64(now)/float64(max(before, 1)) - 1)
}
