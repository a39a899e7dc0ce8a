package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// options are the flags.
type options struct {
	scenario string
	rate     int
	duration time.Duration
	target   string
	counter  string
	store    string
	out      string
	baseline string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitOK        = 0
	exitViolation = 1 // the run says that the proxy broke a promise
	exitUsage     = 2 // the run could not be made
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	var ok bool
	if err == nil {
		ok, err = o.run(ctx, stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "loadtest:", err)
		return exitUsage
	}
	if !ok {
		return exitViolation
	}
	return exitOK
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.scenario, "scenario", "mixed", "which attack; an unknown one lists them")
	f.IntVar(&o.rate, "rate", 0, "requests a second (0: the scenario's own)")
	f.DurationVar(&o.duration, "duration", 0, "how long (0: the scenario's own)")
	f.StringVar(&o.target, "target", "", "a running proxy, http://host:port (empty: one is started here)")
	f.StringVar(&o.counter, "counter", "", "the demo backend behind -target, http://host:port, to count executions")
	f.StringVar(&o.store, "store", "",
		"store of the proxy that is started: redis (one is started too), or a Redis URL (empty: embedded)")
	f.StringVar(&o.out, "out", "", "directory for the results as JSON and HTML (empty: none)")
	f.StringVar(&o.baseline, "baseline", "", "results of an earlier run (JSON, from -out) to compare with")
	if err := f.Parse(args); err != nil {
		return o, err //nolint:wrapcheck // flag words it for people
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("what is %q? every option starts with a dash", f.Arg(0))
	case o.rate < 0 || o.duration < 0:
		return o, errors.New("-rate and -duration cannot be negative")
	case o.target != "" && o.counter == "":
		return o, errors.New("-target needs -counter: figures without a count of executions are no result")
	}
	return o, nil
}

func (o options) run(ctx context.Context, stdout io.Writer) (ok bool, err error) {
	s, err := find(o.scenario)
	if err != nil {
		return false, err
	}
	if o.rate > 0 {
		s.rate = o.rate
	}
	if o.duration > 0 {
		s.duration = o.duration
	}
	st := &stage{target: strings.TrimSuffix(o.target, "/"), count: remoteCount(o.counter), close: func() error { return nil }}
	if o.target == "" {
		if st, err = localStage(o.store, s); err != nil {
			return false, err
		}
	} else if s.chaos {
		return false, errors.New("chaos needs wires of its own: leave -target out")
	}
	defer func() { err = errors.Join(err, st.close()) }()
	if err := reachable(ctx, st.target); err != nil {
		return false, err
	}
	return s.attack(ctx, st, o, stdout)
}

func reachable(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target+"/", nil)
	if err != nil {
		return fmt.Errorf("-target: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the target cannot be reached: %w", err)
	}
	_ = resp.Body.Close()
	return nil
}

// attack runs the scenario and reports whether every promise was kept.
func (s scenario) attack(ctx context.Context, st *stage, o options, stdout io.Writer) (bool, error) {
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 8, 1<<20) //nolint:gosec // not a secret
	a := &attack{
		target: st.target, prefix: fmt.Sprintf("lt-%x-", time.Now().UnixNano()),
		keys: &keySet{keys: map[string]struct{}{}},
		// The targeter is called by one goroutine a time.
		zipf: func() int64 { return int64(zipf.Uint64()) + 1 }, //nolint:gosec // below 2^20
	}
	if s.prepare != nil {
		if err := s.prepare(a); err != nil {
			return false, err
		}
	}
	_, _ = fmt.Fprintf(stdout, "%s: %s\n%d requests a second for %v at %s\n", s.name, s.about, s.rate, s.duration, st.target)
	r := newReport(s.allowed)
	if err := s.fire(ctx, st, a, r, stdout); err != nil {
		return false, err
	}
	r.close()
	v, err := a.keys.check(st.count, s.most)
	if err != nil {
		return false, err
	}
	r.print(stdout)
	_, _ = fmt.Fprintf(stdout, "%d keys, %d executions, %d keys executed more often than %d times\n",
		v.Keys, v.Executions, len(v.Violations), s.most)
	for _, violation := range v.Violations {
		_, _ = fmt.Fprintln(stdout, "VIOLATION", violation)
	}
	if o.out != "" {
		if err := r.write(o.out, s.name, v); err != nil {
			return false, err
		}
	}
	if o.baseline != "" {
		if err := r.compare(o.baseline, stdout); err != nil {
			return false, err
		}
	}
	return len(v.Violations) == 0 && len(r.wrong) == 0 && r.all.Requests > 0, nil
}

// fire sends the requests, amid trouble if the scenario wants it.
func (s scenario) fire(ctx context.Context, st *stage, a *attack, r *report, stdout io.Writer) error {
	attacker := vegeta.NewAttacker(vegeta.Workers(64), vegeta.MaxWorkers(4096), vegeta.Timeout(30*time.Second),
		vegeta.KeepAlive(true), vegeta.MaxConnections(4096), vegeta.Connections(4096))
	targeter := serial(func(t *vegeta.Target) error {
		s.next(a, t)
		return nil
	})
	var pacer vegeta.Pacer = vegeta.Rate{Freq: s.rate, Per: time.Second}
	if s.pacer != nil {
		pacer = s.pacer(s.rate, s.duration)
	}
	over, end := context.WithCancel(ctx)
	troubles := make(chan int, 1)
	if s.chaos {
		go func() { troubles <- st.trouble(over) }()
	}
	err := collect(ctx, attacker, attacker.Attack(targeter, pacer, s.duration, s.name), r, stdout)
	end()
	if s.chaos {
		_, _ = fmt.Fprintf(stdout, "%d faults\n", <-troubles)
	}
	return err
}

// serial lets one worker at a time make its request.
func serial(f vegeta.Targeter) vegeta.Targeter {
	turn := make(chan struct{}, 1)
	return func(t *vegeta.Target) error {
		turn <- struct{}{}
		defer func() { <-turn }()
		return f(t)
	}
}

// collect takes the results in, tells how it goes, and stops early when ctx
// ends: what is there is reported all the same.
func collect(ctx context.Context, a *vegeta.Attacker, results <-chan *vegeta.Result, r *report, stdout io.Writer) error {
	progress := time.NewTicker(2 * time.Second)
	defer progress.Stop()
	interrupted := ctx.Done()
	for {
		select {
		case result, more := <-results:
			if !more {
				return nil
			}
			if err := r.add(result); err != nil {
				return err
			}
		case <-progress.C:
			_, _ = fmt.Fprintf(stdout, "  %d answered\n", r.all.Requests)
		case <-interrupted:
			a.Stop()
			interrupted = nil
			_, _ = fmt.Fprintln(stdout, "interrupted: the report is of what was sent until now")
		}
	}
}
