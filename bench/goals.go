package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// goal is a bound for something that was measured.
type goal struct {
	what, limit string
	// value is what is bounded, and bound what by; 0 for either: it was not measured.
	value, bound func(*results) float64
	most         bool // at most bound; otherwise at least
	unit         string
	// rest says, of a goal that was not reached, where the rest goes, from other figures
	// of the same run; nil: nothing.
	rest func(*results) string
}

// Names of results.Numbers.
const (
	binarySize  = "static binary"
	idleMemory  = "RSS with 10,000 idle connections"
	soakMemory  = "largest RSS of the soak"
	soakCaches  = "caches that the soak was configured with"
	redisMemory = "Redis memory a key"
	redisBytes  = "bytes of a key's names and values in Redis"
	redisPlain  = "Redis memory a key, the same by plain SET"
)

// Names of results.Figures that say what a memory is made of.
const soakParts = "of which, about then"

// idleParts names what a contender's memory with idle connections is made of.
func idleParts(contender string) string { return idleOf(contender) + ", of which" }

// idleOf names a contender's memory with idle connections.
func idleOf(contender string) string { return contender + ": " + idleMemory }

func constant(v float64) func(*results) float64 { return func(*results) float64 { return v } }

func number(name string, times, plus float64) func(*results) float64 {
	return func(r *results) float64 {
		if r.Numbers[name] == 0 {
			return 0
		}
		return times*r.Numbers[name] + plus
	}
}

// rate is a goal for a contender's rate as a share of another one's.
func rate(workload, contender string, atLeast float64, against string) goal {
	return goal{
		what: workload + ", " + contender, limit: fmt.Sprintf("at least %.2f x %s", atLeast, against),
		value: quotient(
			func(r *results) float64 { return r.median(workload, contender) },
			func(r *results) float64 { return r.median(workload, against) }),
		bound: constant(atLeast),
		rest:  func(r *results) string { return r.rest(workload, contender, against, atLeast) },
	}
}

// rest is where the rest of a rate goes: what the contender's floor reaches, and the CPU
// time of a request beside that of what it is compared with. Empty: nothing of it was
// measured.
func (r *results) rest(workload, contender, against string, atLeast float64) string {
	var all []string
	floor := map[string]string{onRedisTCP: floorRedis, onDisk: floorDisk}[contender]
	if of, reached := r.median(workload, against), r.median(workload, floor); floor != against && of > 0 && reached > 0 {
		says := "its floor reaches %.2f"
		if reached/of < atLeast {
			says += ", less than the goal"
		}
		all = append(all, fmt.Sprintf(says, reached/of))
	}
	for _, name := range slices.Compact([]string{contender, floor, against}) {
		own := 1e6 * r.middle(workload, name, func(s sample) float64 { return s.CPU })
		if own == 0 {
			continue
		}
		text := fmt.Sprintf("%s %.1f", name, own)
		if redis := 1e6 * r.middle(workload, name, func(s sample) float64 { return s.Redis }); redis >= 0.05 {
			text += fmt.Sprintf(" + %.1f of Redis's", redis)
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// took is a goal for the time that one client's request takes.
func took(workload, contender string, atMost float64, against string) goal {
	g := rate(workload, against, atMost, contender)
	g.rest = func(r *results) string { return r.times(workload, contender, floorRedis, against) }
	g.what, g.limit, g.most = workload+", "+contender, fmt.Sprintf("at most %.2f x the time of %s", atMost, against), true
	return g
}

// times are the microseconds that one client's request takes.
func (r *results) times(workload string, names ...string) string {
	var all []string
	for _, name := range names {
		if rate := r.median(workload, name); rate > 0 {
			all = append(all, fmt.Sprintf("%s %.0f µs", name, 1e6/rate))
		}
	}
	return strings.Join(all, "; ")
}

// costs is a goal for Redis's CPU time a key.
func costs(contender string, atMost float64, against string) goal {
	redis := func(name string) func(*results) float64 {
		return func(r *results) float64 { return r.middle(newKeys, name, func(s sample) float64 { return s.Redis }) }
	}
	return goal{
		what: "Redis's CPU time for a new key, " + contender, limit: fmt.Sprintf("at most %.1f x %s", atMost, against),
		value: quotient(redis(contender), redis(against)), bound: constant(atMost), most: true,
		rest: func(r *results) string {
			return fmt.Sprintf("%s %.1f; %s %.1f", contender, 1e6*redis(contender)(r), against, 1e6*redis(against)(r))
		},
	}
}

func quotient(a, b func(*results) float64) func(*results) float64 {
	return func(r *results) float64 {
		if b(r) == 0 {
			return 0
		}
		return a(r) / b(r)
	}
}

// percentile is a goal for a latency of new keys, in milliseconds. most says what of the
// bare proxy's latencies and of the machine it is to be at most.
func percentile(name, contender, limit string, p func(*latency) time.Duration, most func(*results, *latency) time.Duration) goal {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return goal{
		what: name + " of a new key, " + contender, limit: "at most " + limit, most: true, unit: " ms",
		value: func(r *results) float64 {
			if l := r.latency(contender); l != nil {
				return ms(p(l))
			}
			return 0
		},
		bound: func(r *results) float64 {
			if l := r.latency(bare); l != nil {
				return ms(most(r, l))
			}
			return 0
		},
		rest: func(r *results) string {
			if l := r.latency(contender); l != nil {
				return l.busy()
			}
			return ""
		},
	}
}

// said is a figure's text; empty: there is none.
func said(name string) func(*results) string {
	return func(r *results) string {
		for _, f := range r.Figures {
			if f[0] == name {
				return f[1]
			}
		}
		return ""
	}
}

func goals() []goal {
	const static, sixteen, many = "static answer", "new keys, 16 KiB", "new keys, 256 KiB"
	all := []goal{
		costs(onRedisTCP, 1.8, floorRedis), costs(onRedisTCP, 0.7, beforeOnRedis),
		rate(newKeys, onRedisTCP, 0.6, bare), rate(newKeys, onRedisTCP, 0.9, floorRedis), rate(newKeys, onRedisTCP, 2.5, "textbook"),
		rate(newKeys, onDisk, 0.52, bare), rate(newKeys, onDisk, 0.85, floorDisk),
		rate(sixteen, onRedisTCP, 0.6, bare), rate(sixteen, onDisk, 0.6, bare),
		rate(many, onRedisTCP, 0.5, bare), rate(many, onDisk, 0.5, bare),
		took(oneClient, onRedisTCP, 0.7, "textbook"),
		rate("one hot key", onRedisTCP, 0.95, static), rate("one hot key", onDisk, 0.95, static),
		rate("no key", onRedisTCP, 0.97, bare), rate("no key", onRedisTCP, 0.97, "nginx, 1 worker"),
		rate("cold replays", coldRedis, 0.55, static),
		rate("contention", onRedisTCP, 0.6, static), rate("contention", onDisk, 0.6, static),
	}
	all = append(all, latencyGoals()...)
	for _, c := range []string{onRedisTCP, onDisk} {
		all = append(all, goal{
			what: idleMemory + ", " + c, limit: "at most that of " + bare, most: true, unit: " MiB",
			value: number(idleOf(c), 1, 0), bound: number(idleOf(bare), 1, 0), rest: said(idleParts(c)),
		})
	}
	return append(all,
		goal{
			what: binarySize, limit: "at most 30 MiB", most: true, unit: " MiB",
			value: number(binarySize, 1, 0), bound: constant(30),
		},
		goal{
			what: soakMemory + ", " + onDisk, limit: "at most its caches and 150 MiB", most: true, unit: " MiB",
			value: number(soakMemory, 1, 0), bound: number(soakCaches, 1, 150), rest: said(soakParts),
		},
		goal{
			what: redisMemory, limit: "at most 1.15 x " + redisBytes, most: true, unit: " B",
			value: number(redisMemory, 1, 0), bound: number(redisBytes, 1.15, 0),
			rest: func(r *results) string {
				if r.Numbers[redisPlain] == 0 {
					return "" // an earlier run did not measure it
				}
				return fmt.Sprintf("the same names and values by plain SET PX: %.0f B", r.Numbers[redisPlain])
			},
		})
}

func latencyGoals() []goal {
	p50 := func(l *latency) time.Duration { return l.P50 }
	p999 := func(l *latency) time.Duration { return l.P999 }
	return []goal{
		percentile("p50", onRedisTCP, "that of bare and 150 µs", p50,
			func(_ *results, l *latency) time.Duration { return l.P50 + 150*time.Microsecond }),
		percentile("p99.9", onRedisTCP, "2 x that of bare", p999,
			func(_ *results, l *latency) time.Duration { return 2 * l.P999 }),
		percentile("p50", onDisk, "that of bare and two fdatasyncs", p50,
			func(r *results, l *latency) time.Duration { return l.P50 + 2*r.Fsync }),
		percentile("p99.9", onDisk, "10 ms", p999,
			func(*results, *latency) time.Duration { return 10 * time.Millisecond }),
	}
}

// isReached says whether a goal was reached, if it was measured.
func (g *goal) isReached(r *results) (yes, measured bool) {
	got, bound := g.value(r), g.bound(r)
	return got >= bound != g.most || got == bound, got > 0 && bound > 0
}

// againstGoals says which goals this run reached; nothing if it measured none of them.
func (r *results) againstGoals() string {
	var b strings.Builder
	some := false
	for _, g := range goals() {
		if yes, measured := g.isReached(r); measured {
			some = true
			limit := g.limit
			if g.unit != "" {
				limit += fmt.Sprintf(": %.4g%s", g.bound(r), g.unit)
			}
			fmt.Fprintf(&b, "| %s | %s | %.3g%s | %s | %s |\n", g.what, limit, g.value(r), g.unit, reached(yes), g.whereRest(r, yes))
		} else {
			fmt.Fprintf(&b, "| %s | %s | | not measured | |\n", g.what, g.limit)
		}
	}
	if !some {
		return ""
	}
	return "\n## Against the goals\n\n" +
		"Where the rest goes, in figures of this run: for rates, microseconds of CPU time a request, of each process and of Redis; " +
		"for latencies, how many cores each process kept busy; for memory, its parts.\n\n" +
		"| | goal | this run | | where the rest goes |\n| --- | --- | ---: | --- | --- |\n" + b.String()
}

func (g *goal) whereRest(r *results, reached bool) string {
	if reached || g.rest == nil {
		return ""
	}
	return g.rest(r)
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
	r, err := earlierRun(file)
	if err != nil {
		return err
	}
	return r.write(dir)
}
