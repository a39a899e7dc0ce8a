package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// errTwice fails the run, whatever the figures.
var errTwice = errors.New("a key executed twice")

type options struct {
	rounds   int
	duration time.Duration
	out, bin string
	only     *regexp.Regexp
	soak     time.Duration
	quick    bool
}

func run(ctx context.Context) error {
	var o options
	var only string
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of every contender and workload")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "of one measurement, whole seconds")
	flag.StringVar(&o.out, "out", "bench/results", "directory for results.json, results.md and results.html")
	flag.StringVar(&o.bin, "bin", "bin", "directory of the built programs (make bench builds them)")
	flag.StringVar(&only, "only", "", "regular expression of workloads")
	flag.DurationVar(&o.soak, "soak", 10*time.Minute, "of the soak with large bodies")
	flag.BoolVar(&o.quick, "quick", false, "one round of 1 s, a soak of 15 s, no profiles: to see that it runs, not for figures")
	rendered := flag.String("render", "", "print these earlier results (results.json) anew, and measure nothing")
	rest := flag.String("rest", "", "take what this run does not measure (see -only) from these earlier results; the page says so")
	flag.Parse()
	if *rendered != "" {
		return render(*rendered, o.out)
	}
	var earlier *results
	if *rest != "" {
		var err error
		if earlier, err = earlierRun(*rest); err != nil {
			return err
		}
	}
	if o.quick {
		o.rounds, o.duration, o.soak = 1, time.Second, 15*time.Second
	}
	var err error
	if o.only, err = regexp.Compile(only); err != nil || o.rounds < 1 || o.duration < time.Second {
		return errors.Join(errors.New("-rounds wants 1 or more, -duration 1s or more, -only a regular expression"), err)
	}
	if err := scriptsIn("."); err != nil {
		return err
	}
	s, err := newStage(ctx, o.bin)
	if err != nil {
		return err
	}
	defer s.close()
	r := newResults(o)
	if _, err := exec.LookPath("wrk"); err != nil {
		fmt.Println("wrk is not installed: latencies and figures only")
		r.Missing["wrk"] = true
	}
	err = r.measure(ctx, s, o)
	if ctx.Err() != nil {
		err = errors.Join(errors.New("interrupted: the results are of what was measured until then"), err)
	}
	if earlier != nil {
		r.takeRest(earlier)
	}
	return errors.Join(err, r.write(o.out))
}

func newStage(ctx context.Context, bin string) (*stage, error) {
	dir, err := os.MkdirTemp("", "idemproxy-bench")
	if err != nil {
		return nil, fmt.Errorf("a directory: %w", err)
	}
	s := &stage{bin: bin, dir: dir, socket: filepath.Join(dir, "redis.sock")}
	redis, err1 := freePort()
	backend, err2 := freePort()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	s.redis, s.backend = local(redis), local(backend)
	if _, err := s.run(ctx, "redis-server", "--port", fmt.Sprint(redis), "--bind", "127.0.0.1",
		"--unixsocket", s.socket, "--save", "", "--appendonly", "no", "--dir", dir,
		"--loglevel", "warning", "--logfile", filepath.Join(dir, "redis.log")); err != nil {
		return nil, err
	}
	if s.behind, err = s.run(ctx, filepath.Join(bin, "backend"), "-listen", s.backend); err != nil {
		return nil, err
	}
	return s, answers(ctx, "the backend", "http://"+s.backend+"/")
}

func (s *stage) close() {
	for _, c := range s.children {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	for _, end := range slices.Backward(s.closing) {
		end()
	}
	_ = os.RemoveAll(s.dir)
}

// isOurs says of a contender that it is IdemProxy, of this build or of the one before.
func isOurs(name string) bool {
	return strings.HasPrefix(name, "IdemProxy") || strings.HasPrefix(name, "before: ")
}

// ask asks the backend.
func (s *stage) ask(ctx context.Context, path string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.backend+path, nil)
	if err != nil {
		return fmt.Errorf("counting executions: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("counting executions: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("counting executions: %w", err)
	}
	return nil
}

// measure runs every workload: its contenders are started, then measured in
// rounds, then ended.
func (r *results) measure(ctx context.Context, s *stage, o options) error {
	for _, w := range workloads() {
		if !o.only.MatchString(w.name) {
			continue
		}
		if r.Missing["wrk"] {
			for _, name := range w.run {
				r.add(w, name, nil)
			}
			continue
		}
		fmt.Printf("%s (%s)\n", w.name, w.about)
		if err := r.workload(ctx, s, w, o); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	if !r.Missing["wrk"] {
		if err := r.compareStores(ctx, s, o); err != nil {
			return fmt.Errorf("stores: %w", err)
		}
	}
	if o.only.MatchString("latency") {
		if err := r.latencies(ctx, s, o); err != nil {
			return fmt.Errorf("latency: %w", err)
		}
	}
	if o.only.MatchString("profiles") && !r.Missing["wrk"] && !o.quick {
		if err := r.profiles(ctx, s, o); err != nil {
			return err
		}
	}
	if o.only.MatchString("figures") {
		if err := r.figures(ctx, s, o); err != nil {
			return err
		}
	}
	if o.only.MatchString("soak") {
		if err := r.soak(ctx, s, o.soak); err != nil {
			return fmt.Errorf("soak: %w", err)
		}
	}
	return nil
}

func (r *results) workload(ctx context.Context, s *stage, w workload, o options) error {
	var running []*contender
	defer func() {
		for _, c := range running {
			c.stop()
		}
	}()
	for _, c := range contenders() {
		if w.has(c.name) {
			if err := c.start(ctx, s); err != nil {
				return err
			}
			running = append(running, c)
		}
	}
	var total struct{ Keys, Most int }
	if err := s.ask(ctx, "/total?reset=1", &total); err != nil {
		return err
	}
	stamp := time.Now().UnixNano()
	for round := range o.rounds {
		for _, c := range running {
			if c.missing {
				r.add(w, c.name, nil)
				continue
			}
			// Keys of a replaying run last for all rounds; new ones are new.
			id := fmt.Sprintf("%x-%s", stamp, c.addr)
			if w.script == "unique" {
				id = fmt.Sprintf("%s-%d", id, round)
			}
			got, err := s.measure(ctx, w, c, id, o.duration)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Printf("  round %d  %-28s %9.0f/s\n", round+1, c.name, got.PerSecond)
			r.add(w, c.name, &got)
		}
	}
	return r.count(ctx, s, w, running, stamp)
}

// measure is one round of one contender.
func (s *stage) measure(ctx context.Context, w workload, c *contender, id string, d time.Duration) (sample, error) {
	m := s.meter(c)
	before, err := m.read()
	if err != nil {
		return sample{}, err
	}
	got, err := w.wrk(ctx, c.addr, id, d)
	if err != nil {
		return got, err
	}
	after, err := m.read()
	got.per(before, after)
	return got, err
}

// count fails the run if one of our keys executed twice. New keys are all
// counted, whoever the contender was; of repeated keys, those that went through
// IdemProxy, since the rivals promise less.
func (r *results) count(ctx context.Context, s *stage, w workload, running []*contender, stamp int64) error {
	var total struct{ Keys, Most int }
	if err := s.ask(ctx, "/total", &total); err != nil {
		return err
	}
	checked, most := total.Keys, total.Most
	if w.script == "keys" {
		checked, most = 0, 0
		for _, c := range running {
			if !isOurs(c.name) || c.missing {
				continue
			}
			for i := range w.keys {
				var count struct{ Started int }
				if err := s.ask(ctx, fmt.Sprintf("/executions?key=%x-%s-%d", stamp, c.addr, i), &count); err != nil {
					return err
				}
				checked, most = checked+count.Started, max(most, count.Started)
			}
		}
	}
	r.Checks[w.name] = check{Keys: checked, Most: most}
	switch {
	case most > 1:
		return fmt.Errorf("%w: one did %d times", errTwice, most)
	case checked == 0 && w.script != "none":
		return errors.New("no execution was counted: the check is worth nothing")
	}
	return nil
}
