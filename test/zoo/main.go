package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := run{out: os.Stdout}
	flag.StringVar(&r.only, "only", "", "bring back these faults alone: purge-leaves-cache,listed-twice")
	flag.DurationVar(&r.budget, "budget", 2*time.Minute, "for how long each generator looks for a fault")
	flag.DurationVar(&r.slice, "for", 0, "stop after this time; the next run goes on with what was measured longest ago")
	flag.StringVar(&r.kind, "kind", "", "ask the generators alone, or the tests alone: generators, tests")
	flag.BoolVar(&r.again, "again", false, "measure what was measured at this commit once more")
	flag.StringVar(&r.faults, "faults", "test/zoo/faults", "the directory of the faults")
	flag.StringVar(&r.file, "table", "docs/zoo.md", "the table that is read and written")
	flag.StringVar(&r.work, "work", filepath.Join(os.TempDir(), "idemproxy-zoo"),
		"the directory that keeps binaries without a fault, and the output of tests that found one")
	flag.Parse()
	if err := r.do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "zoo:", err)
		os.Exit(1)
	}
}

// run is one slice of a campaign.
type run struct {
	out                      io.Writer
	only, faults, file, work string
	kind                     string
	budget, slice            time.Duration
	again                    bool
	commit                   string
}

func (r *run) do(ctx context.Context) (err error) {
	if r.slice > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.slice)
		defer cancel()
	}
	all, err := readFaults(r.faults)
	if err != nil {
		return err
	}
	before, err := readTable(r.file)
	if err != nil {
		return err
	}
	history, _ := historyIn(ctx, ".")
	forgetLost(before, history)
	if !slices.Contains([]string{"", "generators", "tests"}, r.kind) {
		return fmt.Errorf("-kind %s: want generators or tests", r.kind)
	}
	if r.commit, err = commitOf(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(r.work, 0o755); err != nil { //nolint:gosec // see measure
		return fmt.Errorf("make the working directory: %w", err)
	}
	rows := rowsOf(all, before)
	for _, f := range r.wanted(all, rows) {
		measured, err := r.measure(ctx, f, rows[f.name])
		if ctx.Err() != nil {
			break // what was begun is not measured
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		rows[f.name] = measured
		_, _ = fmt.Fprintln(r.out, measured)
		if err := writeTable(r.file, all, rows); err != nil {
			return err
		}
	}
	return errors.Join(writeTable(r.file, all, rows), r.sum(all, rows))
}

// asks says whether generators, or the other tests, are to be asked.
func (r *run) asks(generators bool) bool {
	return r.kind == "" || (r.kind == "generators") == generators
}

// done says whether all that is to be asked was asked at this commit.
func (r *run) done(w row) bool {
	return w.commit == r.commit && (w.generator.by != "" || !r.asks(true)) && (w.unit.by != "" || !r.asks(false))
}

// wanted are the faults to be measured, those first that were measured longest ago.
func (r *run) wanted(all []*fault, rows map[string]row) (some []*fault) {
	chosen := strings.Split(r.only, ",")
	for _, f := range all {
		if r.only != "" && !slices.Contains(chosen, f.name) || !r.again && r.done(rows[f.name]) {
			continue
		}
		some = append(some, f)
	}
	slices.SortStableFunc(some, func(a, b *fault) int { return strings.Compare(rows[a.name].on, rows[b.name].on) })
	return some
}

// sum says what all rows come to. A fault that nothing finds is an error, unless its file
// says why.
func (r *run) sum(all []*fault, rows map[string]row) error {
	generated, written, unseen, left := 0, 0, 0, 0
	var errs []error
	for _, f := range all {
		switch w := rows[f.name]; {
		case w.generator.found():
			generated++
		case w.unit.found():
			written++
		case w.generator.by == "" || w.unit.by == "":
			left++
		case f.unseen != "":
			unseen++
		default:
			errs = append(errs, fmt.Errorf("no test finds %s", f.name))
		}
	}
	_, _ = fmt.Fprintf(r.out, "figure: %d faults: %d found by a generator, %d by tests of their own alone, "+
		"%d by nothing, %d not measured yet\n", len(all), generated, written, unseen+len(errs), left)
	return errors.Join(errs...)
}
