package main

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestGoalsCanBeMeasured: what a goal is about is a workload, and a contender that runs
// in it.
func TestGoalsCanBeMeasured(t *testing.T) {
	t.Parallel()
	// Results in which every contender did the same.
	r := newResults(options{})
	for _, w := range workloads() {
		if !w.has(w.baseline) {
			t.Errorf("%s is compared with %s, which does not run", w.name, w.baseline)
		}
		for _, name := range w.run {
			if find(name) == nil {
				t.Errorf("%s: there is no contender %s", w.name, name)
			}
			r.add(w, name, &sample{PerSecond: 100, Redis: 1e-5, CPU: 1e-5})
		}
	}
	for _, c := range contenders() {
		r.Latencies = append(r.Latencies, latency{Name: c.name, P50: time.Millisecond, P999: 9 * time.Millisecond})
		r.Numbers[idleOf(c.name)] = 100
	}
	for _, name := range []string{binarySize, soakMemory, soakCaches, redisMemory, redisBytes} {
		r.Numbers[name] = 200
	}
	for _, g := range goals() {
		if _, measured := g.isReached(r); !measured {
			t.Errorf("%s, %s: cannot be measured", g.what, g.limit)
		}
	}
}

// TestMissedGoalsSayWhereTheRestGoes: each but that of the binary's size, from figures that
// are of its contender.
func TestMissedGoalsSayWhereTheRestGoes(t *testing.T) {
	t.Parallel()
	r := newResults(options{})
	for _, w := range workloads() {
		for _, name := range w.run {
			r.add(w, name, &sample{PerSecond: 100, Redis: 1e-5, CPU: 1e-5})
		}
	}
	for _, c := range contenders() {
		r.Latencies = append(r.Latencies, latency{Name: c.name, Rate: 4000, Cores: []share{{"the load", 0.5}, {c.name, 0.75}}})
		r.figure(idleParts(c.name), "of "+c.name)
	}
	r.figure(soakParts, "the soak's")
	r.Numbers[redisPlain] = 123
	seen := 0
	for _, g := range goals() {
		got := ""
		if g.rest != nil {
			got = g.rest(r)
		}
		if got == "" && g.what != binarySize {
			t.Errorf("%s, %s: nothing is said of the rest", g.what, g.limit)
		}
		for what, want := range map[string]string{
			"p50 of a new key, " + onDisk: fmt.Sprintf("at 4000/s, 1.25 of %d cores are busy: the load 0.50, %s 0.75", runtime.NumCPU(), onDisk),
			idleMemory + ", " + onDisk:    "of " + onDisk,
			redisMemory:                   "the same names and values by plain SET PX: 123 B",
			oneClient + ", " + onRedisTCP: onRedisTCP + " 10000 µs; " + floorRedis + " 10000 µs; textbook 10000 µs",
		} {
			if g.what != what {
				continue
			}
			seen++
			if got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
	}
	if seen != 4 {
		t.Errorf("%d goals had a text to compare, want 4", seen)
	}
}

// TestGoals: which side of its bound a value is on.
func TestGoals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value, bound  float64
		most          bool
		yes, measured bool
	}{
		{1, 0.5, false, true, true},
		{0.5, 0.5, false, true, true},
		{0.4, 0.5, false, false, true},
		{1, 0.5, true, false, true},
		{0.5, 0.5, true, true, true},
		{0.4, 0.5, true, true, true},
		{0, 0.5, true, true, false},
		{1, 0, false, true, false},
	} {
		g := goal{value: constant(c.value), bound: constant(c.bound), most: c.most}
		if yes, measured := g.isReached(newResults(options{})); yes != c.yes || measured != c.measured {
			t.Errorf("%+v: reached %t, measured %t", c, yes, measured)
		}
	}
}

// TestGoalsOfTimes: a time that is half of another one's is a rate that is twice.
func TestGoalsOfTimes(t *testing.T) {
	t.Parallel()
	r := newResults(options{})
	w := findWorkload(oneClient)
	r.add(w, onRedisTCP, &sample{PerSecond: 200})
	r.add(w, "textbook", &sample{PerSecond: 100})
	g := took(oneClient, onRedisTCP, 0.7, "textbook")
	if yes, measured := g.isReached(r); g.value(r) != 0.5 || !yes || !measured {
		t.Errorf("%v times as long; reached %t, measured %t", g.value(r), yes, measured)
	}
	if i := slices.IndexFunc(goals(), func(g goal) bool { return g.most && strings.HasPrefix(g.what, oneClient) }); i < 0 {
		t.Error("no goal is of one client's time")
	}
	for line := range strings.Lines(r.againstGoals()) {
		if strings.Contains(line, oneClient) && !strings.Contains(line, "| 0.5 | reached |") {
			t.Errorf("the table says %s", line)
		}
	}
}

// TestWhereTheRestGoes: a goal that was not reached says what its floor reaches, and what a
// request takes, of the figures that the run has.
func TestWhereTheRestGoes(t *testing.T) {
	t.Parallel()
	r := newResults(options{})
	w := findWorkload(newKeys)
	r.add(w, onRedisTCP, &sample{PerSecond: 35, CPU: 40e-6, Redis: 20e-6})
	r.add(w, bare, &sample{PerSecond: 100, CPU: 10e-6})
	g := rate(newKeys, onRedisTCP, 0.6, bare)
	if got, want := g.rest(r), "IdemProxy, Redis TCP 40.0 + 20.0 of Redis's; bare fasthttp 10.0"; got != want {
		t.Errorf("without a floor: %s", got)
	}
	r.add(w, floorRedis, &sample{PerSecond: 49, CPU: 25e-6, Redis: 7e-6})
	if got, want := g.rest(r), "its floor reaches 0.49, less than the goal; IdemProxy, Redis TCP 40.0 + 20.0 of Redis's; "+
		"floor: bare + two SETs 25.0 + 7.0 of Redis's; bare fasthttp 10.0"; got != want {
		t.Errorf("with a floor below the goal: %s", got)
	}
	g = rate(newKeys, onRedisTCP, 0.45, bare)
	if got := g.rest(r); strings.Contains(got, "does not allow") || !strings.HasPrefix(got, "its floor reaches 0.49; ") {
		t.Errorf("with a floor above the goal: %s", got)
	}
	g = rate(newKeys, onRedisTCP, 0.9, floorRedis)
	if got := g.rest(r); strings.Contains(got, "its floor") || strings.Count(got, floorRedis) != 1 {
		t.Errorf("against the floor itself: %s", got)
	}
	for line := range strings.Lines(r.againstGoals()) {
		if strings.HasPrefix(line, "|") && strings.Count(line, "|") != 6 {
			t.Errorf("not five columns: %s", line)
		}
	}
}

// TestScripts: bench starts where its scripts are, and nowhere else.
func TestScripts(t *testing.T) {
	t.Parallel()
	if err := scriptsIn(".."); err != nil {
		t.Error(err)
	}
	if err := scriptsIn(t.TempDir()); !errors.Is(err, errElsewhere) {
		t.Errorf("elsewhere: %v", err)
	}
}
