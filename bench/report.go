package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results are everything that was measured.
type results struct {
	When      time.Time                      `json:"when"`
	Machine   string                         `json:"machine"`
	Commit    string                         `json:"commit"`
	Before    string                         `json:"before"` // the earlier build's commit
	Command   string                         `json:"command"`
	Rounds    int                            `json:"rounds"`
	Duration  string                         `json:"duration"`
	Generator string                         `json:"generator"`
	Samples   map[string]map[string][]sample `json:"samples"`
	Missing   map[string]bool                `json:"missing"`
	Checks    map[string]check               `json:"checks"`
	Latencies []latency                      `json:"latencies"`
	Stores    []latency                      `json:"stores,omitempty"` // of the table of stores
	RedisRTT  time.Duration                  `json:"redis_rtt"`
	Fsync     time.Duration                  `json:"fsync"`
	Numbers   map[string]float64             `json:"numbers"` // figures that goals are about, by name
	Figures   [][2]string                    `json:"figures"`
	Profiles  []profiled                     `json:"profiles"`
	Rest      string                         `json:"rest,omitempty"` // what is of an earlier run
}

// check is what the backend counted.
type check struct {
	Keys int `json:"keys"`
	Most int `json:"most"` // executions of one key
}

func newResults(o options) *results {
	return &results{
		When: time.Now().UTC(), Rounds: o.rounds, Duration: o.duration.String(),
		Machine: fmt.Sprintf("%d cores (%s), %s/%s, %s", runtime.NumCPU(), cpuModel(), runtime.GOOS, runtime.GOARCH, runtime.Version()),
		Commit:  os.Getenv("BENCH_COMMIT"), Before: os.Getenv("BENCH_BASELINE"), Command: "make bench " + os.Getenv("BENCH_SAID"),
		Numbers:   map[string]float64{},
		Generator: "wrk -t1 -c64 (closed loop); vegeta (open loop, latencies)",
		Samples:   map[string]map[string][]sample{}, Missing: map[string]bool{}, Checks: map[string]check{},
	}
}

func (r *results) add(w workload, name string, s *sample) {
	if r.Samples[w.name] == nil {
		r.Samples[w.name] = map[string][]sample{}
	}
	if s == nil {
		r.Missing[name] = true
		return
	}
	r.Samples[w.name][name] = append(r.Samples[w.name][name], *s)
}

// median of a contender's rates; 0 if it was not measured.
func (r *results) median(workload, name string) float64 {
	return r.middle(workload, name, func(s sample) float64 { return s.PerSecond })
}

// middle is the median of what a contender's samples say.
func (r *results) middle(workload, name string, of func(sample) float64) float64 {
	all := r.all(workload, name, of)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)/2]
}

func (r *results) rates(workload, name string) []float64 {
	return r.all(workload, name, func(s sample) float64 { return s.PerSecond })
}

func (r *results) all(workload, name string, of func(sample) float64) (values []float64) {
	for _, s := range r.Samples[workload][name] {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values
}

// row is one line of a table.
type row struct {
	name          string
	median, ratio float64
	spread        string
	cpu, redis    float64 // microseconds a request
}

func (r *results) rows(w workload) (rows []row) {
	base := r.median(w.name, w.baseline)
	for _, name := range w.run {
		rates := r.rates(w.name, name)
		if len(rates) == 0 {
			if r.Missing[name] {
				rows = append(rows, row{name: name, spread: "not installed"})
			}
			continue
		}
		rows = append(rows, row{
			name: name, median: r.median(w.name, name), ratio: r.median(w.name, name) / base,
			spread: fmt.Sprintf("%.0f to %.0f", rates[0], rates[len(rates)-1]),
			cpu:    1e6 * r.middle(w.name, name, func(s sample) float64 { return s.CPU }),
			redis:  1e6 * r.middle(w.name, name, func(s sample) float64 { return s.Redis }),
		})
	}
	return rows
}

// orNothing leaves out what was not measured.
func orNothing(v float64) string {
	if v <= 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", v)
}

func orUnknown(s string) string { return cmp.Or(s, "unknown") }

// cpuModel is what the machine says of its processor.
func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func (r *results) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Side by side\n\n%s. %s. Commit %s, by `%s`; before: commit %s. %d rounds of %s. Load: %s. "+
		"All of it on one machine, generator included: read the ratios. CPU is microseconds of a process's time a request.\n",
		r.When.Format("2006-01-02"), r.Machine, orUnknown(r.Commit), strings.TrimSpace(r.Command), orUnknown(r.Before),
		r.Rounds, r.Duration, r.Generator)
	if r.Rest != "" {
		b.WriteString("\n" + r.Rest + "\n")
	}
	b.WriteString(r.againstGoals())
	for _, w := range workloads() {
		if r.Samples[w.name] == nil {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s. Executions of one key, at most: %d.\n\n"+
			"| | requests/s | spread | x %s | CPU | Redis's CPU |\n| --- | ---: | ---: | ---: | ---: | ---: |\n",
			w.name, w.about, r.Checks[w.name].Most, w.baseline)
		for _, row := range r.rows(w) {
			fmt.Fprintf(&b, "| %s | %.0f | %s | %.2f | %s | %s |\n",
				row.name, row.median, row.spread, row.ratio, orNothing(row.cpu), orNothing(row.redis))
		}
	}
	b.WriteString(r.storesTable())
	if len(r.Latencies) > 0 {
		fmt.Fprintf(&b, "\n## Latency of new keys, open loop at %d/s\n\n"+
			"On the idle machine, a PING of Redis takes %v, an fdatasync %v.\n\n"+
			"| | p50 | p99 | p99.9 | answered |\n| --- | ---: | ---: | ---: | ---: |\n", r.Latencies[0].Rate, r.RedisRTT, r.Fsync)
		for _, l := range r.Latencies {
			fmt.Fprintf(&b, "| %s | %v | %v | %v | %.2f%% |\n", l.Name, l.P50.Round(time.Microsecond),
				l.P99.Round(time.Microsecond), l.P999.Round(time.Microsecond), 100*l.Success)
		}
	}
	b.WriteString(r.sharesTable())
	if len(r.Figures) > 0 {
		b.WriteString("\n## Figures\n\n| | |\n| --- | ---: |\n")
		for _, f := range r.Figures {
			fmt.Fprintf(&b, "| %s | %s |\n", f[0], f[1])
		}
	}
	return b.String()
}

// page is the results as bars, without a script or anything from elsewhere.
func (r *results) page() string {
	var b strings.Builder
	b.WriteString(`<!doctype html><html lang="en"><meta charset="utf-8"><title>IdemProxy side by side</title>
<style>body{font:15px/1.4 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
.row{display:grid;grid-template-columns:15rem 1fr 9rem;gap:.6rem;align-items:center;margin:.15rem 0}
.bar{height:1.1rem;background:#8aa;border-radius:2px}.ours .bar{background:#27c}.num{text-align:right}</style>
<h1>IdemProxy side by side</h1>`)
	fmt.Fprintf(&b, "<p>%s. %d rounds of %s. Load: %s.</p>",
		html.EscapeString(r.Machine), r.Rounds, r.Duration, html.EscapeString(r.Generator))
	for _, w := range workloads() {
		if r.Samples[w.name] == nil {
			continue
		}
		fmt.Fprintf(&b, "<h2>%s</h2><p>%s; ratios to %s</p>",
			html.EscapeString(w.name), html.EscapeString(w.about), html.EscapeString(w.baseline))
		most := 0.0
		for _, row := range r.rows(w) {
			most = max(most, row.median)
		}
		for _, row := range r.rows(w) {
			class := "row"
			if isOurs(row.name) {
				class = "row ours"
			}
			fmt.Fprintf(&b, `<div class="%s"><span>%s</span><div class="bar" style="width:%.1f%%"></div>`+
				`<span class="num">%.0f/s, x %.2f</span></div>`,
				class, html.EscapeString(row.name), 100*row.median/max(most, 1), row.median, row.ratio)
		}
	}
	for _, p := range r.Profiles {
		fmt.Fprintf(&b, `<p><a href="%s"><img src="%[1]s" alt="flame graph" style="width:100%%"></a></p>`, html.EscapeString(p.File))
	}
	return b.String() + "</html>\n"
}

// write leaves the results in dir and prints the table.
func (r *results) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("the results: %w", err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("the results: %w", err)
	}
	table := r.markdown()
	for name, content := range map[string]string{"results.json": string(text), "results.md": table, "results.html": r.page()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("the results: %w", err)
		}
	}
	fmt.Print("\n" + table)
	return nil
}
