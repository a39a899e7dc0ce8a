package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// earlierRun reads the results of an earlier run.
func earlierRun(file string) (*results, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("earlier results: %w", err)
	}
	var r results
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("earlier results in %s: %w", file, err)
	}
	return &r, nil
}

// takeRest takes what this run did not measure from an earlier one, and has the page say which
// parts these are. Ratios are never of two runs: a workload, the latencies, and the figures are
// taken whole.
func (r *results) takeRest(earlier *results) {
	var taken []string
	for _, name := range slices.Sorted(maps.Keys(earlier.Samples)) {
		if r.Samples[name] == nil {
			r.Samples[name], r.Checks[name] = earlier.Samples[name], earlier.Checks[name]
			taken = append(taken, name)
		}
	}
	for name := range earlier.Missing {
		r.Missing[name] = true
	}
	if len(r.Stores) == 0 {
		r.Stores = earlier.Stores
	}
	if len(r.Profiles) == 0 && len(earlier.Profiles) > 0 {
		r.Profiles = earlier.Profiles
		taken = append(taken, "profiles")
	}
	if len(r.Latencies) == 0 && len(earlier.Latencies) > 0 {
		r.Latencies, r.RedisRTT, r.Fsync = earlier.Latencies, earlier.RedisRTT, earlier.Fsync
		taken = append(taken, "latency")
	}
	for part, its := range map[string]func(figure string) bool{
		"figures": func(figure string) bool { return !ofSoak(figure) }, "soak": ofSoak,
	} {
		if slices.ContainsFunc(r.Figures, func(f [2]string) bool { return its(f[0]) }) {
			continue
		}
		for _, f := range earlier.Figures {
			if its(f[0]) {
				r.Figures = append(r.Figures, f)
			}
		}
		for name, value := range earlier.Numbers {
			if its(name) {
				r.Numbers[name] = value
			}
		}
		taken = append(taken, part)
	}
	slices.Sort(taken)
	r.Rest = fmt.Sprintf("Not of this run, but of that of %s, commit %s (%s): %s.",
		earlier.When.Format("2006-01-02 15:04"), orUnknown(earlier.Commit), earlier.Machine, strings.Join(taken, ", "))
}

// ofSoak says whether a figure, or a number, is of the soak.
func ofSoak(name string) bool { return strings.Contains(name, "soak") || name == soakParts }
