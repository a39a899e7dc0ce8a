package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// workload is one kind of traffic.
type workload struct {
	name, about string
	script      string // of bench/wrk
	path        string
	keys        int
	baseline    string // contender that the ratios are against
	run         []string
	clients     int // 64 unless set
	// statuses other than 2xx are expected (rejections).
	rejections bool
}

const newKeys, oneClient = "new keys", "new keys, one client"

func workloads() []workload {
	replaying := []string{
		"static answer", "textbook", "fiber + idempotency", onRedisTCP, onPostgres, onDisk,
		beforeOnRedis, beforeOnDisk,
	}
	sized := []string{bare, floorRedis, floorDisk, onRedisTCP, onDisk, beforeOnRedis, beforeOnDisk}
	executing := slices.Insert(slices.Clone(sized), 1, "textbook", "fiber + idempotency", floorScripts, floorPostgres,
		onRedisUnix, onPostgres)
	return append([]workload{
		{
			name: "no key", about: "passed through", script: "none", path: "/", baseline: bare,
			run: []string{
				"backend direct", "static answer", "nginx, 1 worker", "haproxy, 1 thread", bare,
				"httputil.ReverseProxy", onRedisTCP, onDisk, beforeOnRedis,
			},
		},
		{
			name: newKeys, about: "each executed and stored", script: "unique", path: "/",
			baseline: bare, run: executing,
		},
		{
			name: oneClient, about: "one after the other: what a key takes when nobody else is there", script: "unique", path: "/",
			baseline: "textbook", clients: 1,
			run: []string{
				bare, "textbook", floorRedis, floorScripts, floorDisk, floorPostgres, onRedisTCP, onRedisUnix, onPostgres, onDisk,
				beforeOnRedis, beforeOnDisk,
			},
		},
		{
			name: "one hot key", about: "replayed", script: "keys", path: "/", keys: 1,
			baseline: "static answer", run: replaying,
		},
		{
			name: "10,000 warm keys", about: "replayed", script: "keys", path: "/", keys: 10_000,
			baseline: "static answer", run: replaying,
		},
		{
			name: "cold replays", about: "replayed from the store, the local cache holding nothing", script: "keys",
			path: "/", keys: 1000, baseline: "static answer",
			run: []string{"static answer", "textbook", floorGet, coldRedis, coldPostgres},
		},
		{
			name: "contention", about: "64 clients on one key whose first request is still running", script: "keys", path: "/slow?d=1h",
			keys: 1, baseline: "static answer", rejections: true,
			run: []string{"static answer", "textbook", floorGet, onRedisTCP, onPostgres, onDisk},
		},
	}, large(sized)...)
}

// large are workloads with larger answers.
func large(sized []string) []workload {
	replayed := func(static string) []string {
		return []string{static, onRedisTCP, onDisk}
	}
	return []workload{
		{
			name: "new keys, 16 KiB", about: "each executed and stored", script: "unique", path: "/size/16384",
			baseline: bare, run: sized,
		},
		{
			name: "new keys, 256 KiB", about: "each executed and stored", script: "unique", path: "/size/262144",
			baseline: bare, run: sized,
		},
		{
			name: "one hot key, 16 KiB", about: "replayed", script: "keys", path: "/size/16384", keys: 1,
			baseline: "static 16 KiB", run: replayed("static 16 KiB"),
		},
		{
			name: "one hot key, 256 KiB", about: "replayed", script: "keys", path: "/size/262144", keys: 1,
			baseline: "static 256 KiB", run: replayed("static 256 KiB"),
		},
	}
}

// sample is what wrk says of one run.
type sample struct {
	PerSecond float64 `json:"per_second"`
	Other     int     `json:"other"` // answers that are not 2xx or 3xx
	Requests  int     `json:"requests"`
	// CPU is the contender's CPU time a request, Redis that of Redis a key, in seconds;
	// 0 if it was not measured.
	CPU   float64 `json:"cpu,omitempty"`
	Redis float64 `json:"redis,omitempty"`
}

var (
	inAll     = regexp.MustCompile(`(\d+) requests in`)
	perSecond = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	otherThan = regexp.MustCompile(`Non-2xx or 3xx responses: (\d+)`)
	failures  = regexp.MustCompile(`Socket errors: (.*)`)
)

// file is the workload's script, from the root of the repository.
func (w workload) file() string { return "bench/wrk/" + w.script + ".lua" }

// errElsewhere: wrk goes on without a script that it does not find, and sends requests
// without keys.
var errElsewhere = errors.New("bench does not find its scripts: start it in the root of the repository, as make bench does")

// scriptsIn returns an error if a workload's script is not there.
func scriptsIn(root string) error {
	for _, w := range workloads() {
		if _, err := os.Stat(filepath.Join(root, w.file())); err != nil {
			return fmt.Errorf("%w: %w", errElsewhere, err)
		}
	}
	return nil
}

// wrk attacks addr for d.
func (w workload) wrk(ctx context.Context, addr, run string, d time.Duration) (sample, error) {
	seconds := fmt.Sprintf("-d%ds", int(d.Seconds()))
	script := w.file()
	//nolint:gosec // our own list
	cmd := exec.CommandContext(ctx, "wrk", "-t1", fmt.Sprint("-c", cmp.Or(w.clients, 64)), seconds,
		"--timeout", "30s", "-s", script, "http://"+addr+"/")
	cmd.Env = append(os.Environ(), "BENCH_RUN="+run, "BENCH_PATH="+w.path, "BENCH_KEYS="+strconv.Itoa(max(w.keys, 1)))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return sample{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	m := perSecond.FindSubmatch(out)
	if m == nil {
		return sample{}, fmt.Errorf("wrk says nothing of its rate: %s", out)
	}
	var s sample
	if s.PerSecond, err = strconv.ParseFloat(string(m[1]), 64); err != nil {
		return s, fmt.Errorf("wrk: %w", err)
	}
	if m := inAll.FindSubmatch(out); m != nil {
		s.Requests, _ = strconv.Atoi(string(m[1]))
	}
	if m := otherThan.FindSubmatch(out); m != nil {
		s.Other, _ = strconv.Atoi(string(m[1]))
	}
	if m := failures.FindSubmatch(out); m != nil && !w.rejections {
		return s, fmt.Errorf("wrk: socket errors: %s", m[1])
	}
	return s, nil
}

func (w workload) has(name string) bool { return slices.Contains(w.run, name) }
