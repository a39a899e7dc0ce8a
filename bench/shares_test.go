package main

import (
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// TestShares: whose a time is, and what for, is told by the functions that it was seen in.
func TestShares(t *testing.T) {
	t.Parallel()
	const (
		call  = "internal/runtime/syscall/linux.Syscall6"
		ours  = "github.com/idemproxy/idemproxy/"
		serve = "github.com/valyala/fasthttp.(*Server).serveConn"
	)
	var p profile.Profile
	for of, names := range map[string][]string{
		"system calls: write":                 {call, "syscall.write", "net.(*conn).Write", ours + "upstream.(*backendConn).Write", serve},
		"system calls: sync of the log":       {call, "golang.org/x/sys/unix.Fdatasync", "github.com/cockroachdb/pebble/v2/vfs.(*linuxFile).SyncData"},
		"Go: waking and parking threads":      {call, "internal/runtime/syscall/linux.EpollWait", "runtime.netpoll", "runtime.schedule"},
		"Go: memory and its collection":       {"runtime.nextFreeFast", "runtime.mallocgc", "runtime.newobject", ours + "idem.(*Engine).Begin", serve},
		"Go: choosing the next goroutine":     {"runtime.runqget", "runtime.findRunnable", "runtime.schedule", "runtime.park_m", "runtime.mcall"},
		"Go: connections":                     {"internal/poll.(*FD).Read", "net.(*conn).Read", ours + "upstream.(*backendConn).Read", serve},
		"ours: the request":                   {"runtime.memmove", ours + "message.(*Head).Read", ours + "proxy.(*Server).handle", serve},
		"ours: the way to the backend":        {ours + "upstream.(*Upstream).Do", ours + "proxy.(*Server).handle", serve},
		"ours: metrics, recent requests, log": {ours + "admin.(*slot).write", ours + "app.(*observer).keep", serve},
		"fasthttp":                            {serve, ours + "proxy.(*Server).Serve"},
		"rueidis":                             {"runtime.mapaccess1", "github.com/redis/rueidis.(*pipe)._backgroundWrite"},
		"the rest":                            {"os/signal.loop"},
	} {
		sample := &profile.Sample{Value: []int64{1, 1000}}
		for _, name := range names {
			sample.Location = append(sample.Location, &profile.Location{Line: []profile.Line{{Function: &profile.Function{Name: name}}}})
		}
		one := profile.Profile{SampleType: make([]*profile.ValueType, 2), Sample: []*profile.Sample{sample}}
		if got := sharesOf(&one); got[of] != 1 {
			t.Errorf("%v: %v, want %s", names, got, of)
		}
		p.Sample = append(p.Sample, sample)
	}
	p.SampleType = make([]*profile.ValueType, 2)
	r := newResults(options{})
	r.Profiles = []profiled{{Name: "no key", Shares: sharesOf(&p)}}
	if table := r.markdown(); !strings.Contains(table, "| system calls: write | 8.3 |\n") || strings.Contains(table, "Against the goals") {
		t.Errorf("a run of profiles alone: %s", table)
	}
}
