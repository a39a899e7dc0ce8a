package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// profiled is what a path's profile says.
type profiled struct {
	Name   string `json:"name"`
	File   string `json:"file"` // the flame graph, beside the page
	Shares shares `json:"shares"`
}

// shares is a profile's CPU time by what it was spent on, of all 1.
type shares map[string]float64

// part is something that CPU time is spent on. A stack is of the first one that takes it.
type part struct {
	name  string
	takes func(stack) bool
}

// stack is functions' names, from callee to caller.
type stack []string

func stackOf(sample *profile.Sample) (s stack) {
	for _, location := range sample.Location {
		for _, line := range location.Line {
			s = append(s, line.Function.Name)
		}
	}
	return s
}

// own is the stack up to its first function of a module, which is neither Go's runtime nor
// its library. That is whose the time is, and what is before it says what for.
func (s stack) own() (below stack, of string) {
	i := slices.IndexFunc(s, func(name string) bool {
		host, _, isPath := strings.Cut(name, "/")
		return isPath && strings.Contains(host, ".")
	})
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i]
}

func names(one string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(one, part) })
}

// doing takes what Go does in functions whose names have one of these in them.
func doing(parts ...string) func(stack) bool {
	return func(s stack) bool {
		below, _ := s.own()
		return slices.ContainsFunc(below, func(one string) bool { return names(one, parts) })
	}
}

// calling takes system calls by functions whose names have one of these in them.
func calling(parts ...string) func(stack) bool {
	return func(s stack) bool {
		return strings.HasSuffix(s[0], "Syscall6") && slices.ContainsFunc(s, func(one string) bool { return names(one, parts) })
	}
}

// of takes what is done for functions whose names begin with one of these.
func of(prefixes ...string) func(stack) bool {
	return func(s stack) bool {
		_, whose := s.own()
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(whose, prefix) })
	}
}

// parts are what a profile's time is divided into.
func parts() []part {
	const ours = "github.com/idemproxy/idemproxy/"
	return []part{
		{"system calls: write", calling("syscall.write")},
		{"system calls: read, and look at the backend's connection", calling("syscall.read", "syscall.recvfrom")},
		{"system calls: sync of the log", calling("sync.", "Fdatasync", "Fsync")},
		{"Go: waking and parking threads", doing("runtime.futex", "EpollWait", "runtime.usleep", "runtime.netpollBreak")},
		{"system calls: others", calling("")},
		{"Go: memory and its collection", doing("runtime.mallocgc", "runtime.gcBgMarkWorker", "runtime.bgsweep", "runtime.growslice")},
		{"Go: choosing the next goroutine", doing("runtime.schedule", "runtime.mcall", "runtime.goready", "runtime.gopark",
			"runtime.newproc")},
		{"Go: the clock, timers", doing("time.Now", "time.now", "time.Since", "time.AfterFunc", "time.(*Timer)")},
		{"Go: connections", doing("net.(", "internal/poll.", "syscall.")},
		{"ours: the request", of(ours+"proxy", ours+"caller", ours+"operation", ours+"message")},
		{"ours: its key", of(ours+"idem", "github.com/maypok86/otter")},
		{"ours: the way to the backend", of(ours + "upstream")},
		{"ours: the store", of(ours+"rstore", ours+"estore", ours+"pstore", ours+"seal")},
		{"ours: metrics, recent requests, log", of(ours, "github.com/prometheus", "github.com/rs/zerolog")},
		{"fasthttp", of("github.com/valyala/")},
		{"rueidis", of("github.com/redis/rueidis")},
		{"the storage engine", of("github.com/cockroachdb/", "golang.org/x/sys", "github.com/klauspost",
			"github.com/golang/snappy", "github.com/cespare")},
		{"the rest", func(stack) bool { return true }},
	}
}

// sharesOf divides a profile.
func sharesOf(p *profile.Profile) shares {
	all, total := shares{}, 0.0
	last := len(p.SampleType) - 1 // nanoseconds of CPU time
	known := parts()
	for _, sample := range p.Sample {
		s := stackOf(sample)
		if len(s) == 0 {
			continue
		}
		i := slices.IndexFunc(known, func(one part) bool { return one.takes(s) })
		all[known[i].name] += float64(sample.Value[last])
		total += float64(sample.Value[last])
	}
	for name := range all {
		all[name] /= total
	}
	return all
}

// sharesTable says for each profile where its time goes, in per cent.
func (r *results) sharesTable() string {
	if len(r.Profiles) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n## Where the CPU time goes\n\n" +
		"Per cent of the CPU time of our process, from the profiles of the flame graphs. " +
		"A time is in the first line that fits.\n\n|")
	for _, p := range r.Profiles {
		fmt.Fprintf(&b, " | %s", p.Name)
	}
	b.WriteString(" |\n| ---" + strings.Repeat(" | ---:", len(r.Profiles)) + " |\n")
	for _, one := range parts() {
		fmt.Fprintf(&b, "| %s", one.name)
		for _, p := range r.Profiles {
			fmt.Fprintf(&b, " | %s", orNothing(100*p.Shares[one.name]))
		}
		b.WriteString(" |\n")
	}
	return b.String()
}
