package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// packages are those that may be broken: what decides whether something is executed.
func packages() []string {
	return []string{"app", "caller", "estore", "idem", "operation", "proxy", "pstore", "receipt", "rstore", "seal", "token"}
}

// suites are the packages whose tests are asked about a package: its own and those of the
// contract that it defines.
func suites(dir string) []string {
	if dir == "idem" {
		return []string{"idem", "idem/storetest"}
	}
	return []string{dir}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := run{out: os.Stdout}
	flag.IntVar(&r.n, "n", 300, "how many mutants, over all runs with the same -state")
	flag.Uint64Var(&r.seed, "seed", 1, "which of them: the same number chooses the same ones of the same sources")
	flag.StringVar(&r.only, "only", "", "break these packages or files alone: idem,proxy/keyed.go")
	flag.StringVar(&r.tests, "tests", every, "ask the tests alone whose names match; what they let survive, others may find")
	flag.StringVar(&r.at, "at", "", "break the places of FILE:LINE alone, all of them, and try them again")
	flag.BoolVar(&r.list, "list", false, "say what would be broken, and break nothing")
	flag.BoolVar(&r.again, "again", false, "try the survivors of earlier runs again, and nothing new")
	flag.BoolVar(&r.table, "table", false, "print the table of the state, and try nothing")
	flag.DurationVar(&r.slice, "for", 0, "stop after this time; the next run goes on where this one stopped")
	flag.IntVar(&r.workers, "workers", 2, "how many runs of tests go on at a time")
	flag.StringVar(&r.dir, "state", path.Join(os.TempDir(), "idemproxy-mutants"),
		"the directory that keeps what became of each mutant")
	flag.StringVar(&r.same, "same", "", "break the mutants that this list of an earlier campaign names, in place of a sample")
	flag.StringVar(&r.recorded, "record", "", "write what became of all mutants of the state into this file")
	flag.StringVar(&r.equivalent, "equivalent", "test/mutants/equivalent.txt",
		"mutants that change nothing a user could see, with reasons")
	flag.Parse()
	if err := r.do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run is one slice of a campaign.
type run struct {
	out                io.Writer
	n, workers         int
	seed               uint64
	only, at, tests    string
	list, again, table bool
	slice              time.Duration
	dir, equivalent    string
	same, recorded     string
	commit             string

	lock    sync.Mutex // of state and out
	state   *state
	reasons map[string]string
}

func (r *run) do(ctx context.Context) (err error) {
	if r.slice > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.slice)
		defer cancel()
	}
	if r.state, err = openState(r.dir); err != nil {
		return err
	}
	if r.reasons, err = equivalents(r.equivalent); err != nil {
		return err
	}
	all, err := allSites()
	if err != nil {
		return err
	}
	sites, err := r.wanted(all)
	if err != nil {
		return err
	}
	if r.list {
		for _, s := range sites {
			_, _ = fmt.Fprintln(r.out, s)
		}
		return nil
	}
	r.commit = commitOf(ctx)
	for _, dir := range packages() {
		of := slices.DeleteFunc(slices.Clone(sites), func(s site) bool { return path.Dir(s.file) != dir })
		if len(of) == 0 || r.table || ctx.Err() != nil {
			continue
		}
		if err := r.breakPackage(ctx, dir, of); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if r.recorded != "" {
		if err := r.record(); err != nil {
			return err
		}
	}
	return r.score(sites)
}

// allSites are those of all packages.
func allSites() (all []site, err error) {
	for _, dir := range packages() {
		sites, err := sitesOf(".", dir)
		if err != nil {
			return nil, err
		}
		all = append(all, sites...)
	}
	return all, nil
}

// wanted are the sites of all that make up the campaign: those of an earlier one, or the first
// of the chosen packages and files, as the seed has shuffled them.
func (r *run) wanted(all []site) ([]site, error) {
	all = slices.Clone(all)
	if r.at != "" {
		return slices.DeleteFunc(all, func(s site) bool { return fmt.Sprintf("%s:%d", s.file, s.line) != r.at }), nil
	}
	if r.same != "" {
		names, err := mutantsOf(r.same)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(all, func(s site) bool { return !names[s.name()] })
		_, _ = fmt.Fprintf(r.out, "%d of the %d mutants of %s are still there\n", len(all), len(names), r.same)
		return r.chosen(all), nil
	}
	random := rand.New(rand.NewPCG(r.seed, 0)) //nolint:gosec // chance that can be repeated is wanted
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	all = r.chosen(all)
	return all[:min(r.n, len(all))], nil
}

// chosen are the sites of the chosen packages and files.
func (r *run) chosen(all []site) []site {
	if r.only == "" {
		return all
	}
	chosen := strings.Split(r.only, ",")
	return slices.DeleteFunc(all, func(s site) bool {
		return !slices.Contains(chosen, s.file) && !slices.Contains(chosen, path.Dir(s.file))
	})
}

// breakPackage tries the sites of one package that are not done.
func (r *run) breakPackage(ctx context.Context, dir string, sites []site) error {
	sites = slices.DeleteFunc(sites, func(s site) bool {
		before, done := r.state.results[s.name()]
		return r.at == "" && (done && before.Ending != survived && before.Ending != notReached || done != r.again)
	})
	if len(sites) == 0 {
		return nil
	}
	tmp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // of no consequence
	s, err := newSchema(ctx, dir, tmp)
	if err != nil {
		return err
	}
	var asked []*suite
	for _, tests := range suites(dir) {
		name := dir + "_by_" + tests
		aids, err := aidsOf(s.module, dir, tests)
		if err != nil {
			return err
		}
		known := r.state.known(name, s.sources+aids)
		u, err := newSuite(ctx, s, tests, tmp, r.tests, known.Tests, r.workers)
		if kept := r.state.keep(name, known); kept != nil || err != nil {
			return errors.Join(err, kept)
		}
		for _, t := range u.tests {
			if t.Fails {
				_, _ = fmt.Fprintf(r.out, "warning: %s of %s fails though nothing is broken, and is not asked\n", t.Name, tests)
			}
		}
		asked = append(asked, u)
	}
	return r.tryAll(ctx, s, asked, sites)
}

// tryAll breaks the sites, some at a time.
func (r *run) tryAll(ctx context.Context, s *schema, asked []*suite, sites []site) error {
	waiting := make(chan site, len(sites))
	for _, one := range sites {
		waiting <- one
	}
	close(waiting)
	errs := make([]error, r.workers)
	var wait sync.WaitGroup
	for i := range r.workers {
		wait.Go(func() {
			for one := range waiting {
				if errs[i] = r.try(ctx, s, asked, one); errs[i] != nil {
					return
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// The endings of a mutant.
const (
	found      = "found"
	timedOut   = "timed out"
	survived   = "survived"
	notReached = "not reached" // no test comes by: it survives
	equivalent = "equivalent"  // it survives, and may
	noMutant   = "no mutant"   // it does not compile, or stands in a file that this system does not build
)

// try breaks one site and asks the tests.
func (r *run) try(ctx context.Context, s *schema, asked []*suite, one site) error {
	id := slices.IndexFunc(s.sites, func(x site) bool { return x.file == one.file && x.nth == one.nth })
	res := result{Mutant: one.name(), Line: one.line, Ending: noMutant, Commit: r.commit}
	if id >= 0 && !slices.Contains(s.dropped, id) {
		if err := res.ask(ctx, asked, id); err != nil {
			return err
		}
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	_, _ = fmt.Fprintf(r.out, "%-11s %s (%s)\n", res.Ending, one, res.By)
	return r.state.add(res)
}

// ask shows a mutant to the tests.
func (r *result) ask(ctx context.Context, asked []*suite, id int) error {
	r.Ending = notReached
	for _, u := range asked {
		by, reached, err := u.finder(ctx, id)
		if err != nil {
			return err
		}
		r.By = strings.TrimPrefix(by, "time: ")
		switch {
		case by != r.By:
			r.Ending = timedOut
			return nil
		case by != "":
			r.Ending = found
			return nil
		case reached > 0:
			r.Ending = survived
		}
	}
	return nil
}

// reason is why the mutant of a name changes nothing; "" if nobody says so.
func (r *run) reason(name string) string {
	where, _, _ := strings.Cut(name, " @ ")
	return cmp.Or(r.reasons[name], r.reasons[where])
}

// key names a mutant without its line, which moves.
func key(s site) string { return s.file + ": " + s.kind + ": " + s.was }

// equivalents reads lines of "file: kind: source | reason"; # begins a comment. Where a
// file has the same source in several places, "source @ function: line | reason" is about one of
// them, as a campaign's list has it.
func equivalents(file string) (map[string]string, error) {
	f, err := os.Open(file) //nolint:gosec // who runs it names it
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // none is none
	}
	if err != nil {
		return nil, fmt.Errorf("read the equivalent mutants: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	reasons := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndex(line, " | ")
		if i < 0 {
			return nil, fmt.Errorf("%s: a line without a reason: %s", file, line)
		}
		reasons[line[:i]] = line[i+3:]
	}
	return reasons, lines.Err() //nolint:wrapcheck // rare, and it says what it is
}
