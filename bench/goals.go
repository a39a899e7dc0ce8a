package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// goal is a ratio that a workload should reach.
type goal struct {
	workload, contender, against string
	atLeast                      float64
}

func goals() []goal {
	const redis, embedded = "IdemProxy, Redis TCP", "IdemProxy, embedded"
	return []goal{
		{"no key", redis, "nginx, 1 worker", 1},
		{"no key", redis, "bare fasthttp", 1.15},
		{"new keys", redis, "bare fasthttp", 0.75},
		{"new keys", redis, "textbook", 2.5},
		{"new keys", embedded, "bare fasthttp", 0.6},
		{"one hot key", redis, "static answer", 0.95},
		{"one hot key", embedded, "static answer", 0.95},
		{"cold replays", "IdemProxy, Redis, no cache", "static answer", 0.55},
		{"contention", redis, "static answer", 0.6},
		{"contention", embedded, "static answer", 0.6},
	}
}

// againstGoals says which goals this run reached.
func (r *results) againstGoals() string {
	var b strings.Builder
	for _, g := range goals() {
		got, base := r.median(g.workload, g.contender), r.median(g.workload, g.against)
		if got > 0 && base > 0 {
			fmt.Fprintf(&b, "| %s, %s | at least %.2f x %s | %.2f | %s |\n",
				g.workload, g.contender, g.atLeast, g.against, got/base, reached(got/base >= g.atLeast))
		}
	}
	if bare, ours := r.latency("bare fasthttp"), r.latency("IdemProxy, Redis TCP"); bare != nil && ours != nil {
		most := bare.P50 + 2*r.RedisRTT
		fmt.Fprintf(&b, "| p50 of a new key, IdemProxy, Redis TCP | at most bare fasthttp plus two round trips: %v | %v | %s |\n",
			most, ours.P50, reached(ours.P50 <= most))
		ratio := float64(ours.P99) / float64(bare.P99)
		fmt.Fprintf(&b, "| p99 of a new key, IdemProxy, Redis TCP | at most 1.50 x bare fasthttp | %.2f | %s |\n",
			ratio, reached(ratio <= 1.5))
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n## Against the goals\n\n| | goal | this run | |\n| --- | --- | ---: | --- |\n" + b.String()
}

func reached(yes bool) string {
	if yes {
		return "reached"
	}
	return "not reached"
}

func (r *results) latency(name string) *latency {
	for i := range r.Latencies {
		if r.Latencies[i].Name == name {
			return &r.Latencies[i]
		}
	}
	return nil
}

// render prints an earlier run's results anew, from its JSON.
func render(file, dir string) error {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return fmt.Errorf("earlier results: %w", err)
	}
	var r results
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("earlier results in %s: %w", file, err)
	}
	return r.write(dir)
}
