package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// measure brings a fault back and asks the tests. before is its row so far.
func (r *run) measure(ctx context.Context, f *fault, before row) (w row, err error) {
	dir, err := os.MkdirTemp(r.work, f.name+"-")
	if err != nil {
		return w, fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir)                      //nolint:errcheck // of no consequence
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // a database of another user has its files there
		return w, fmt.Errorf("open the directory: %w", err)
	}
	texts := map[string][]byte{}
	if err := f.apply(".", texts); err != nil {
		return w, err
	}
	b := &bench{run: r, fault: f, dir: dir}
	if b.overlay, err = overlay(".", dir, texts); err != nil {
		return w, err
	}
	w = before
	w.commit = r.commit
	for generators, to := range map[bool]*finding{true: &w.generator, false: &w.unit} {
		if !r.asks(generators) {
			continue
		}
		if *to, err = b.ask(ctx, generators); err != nil {
			return w, err
		}
	}
	if f.unseen != "" && !w.generator.found() && !w.unit.found() {
		w.unit.by = "none: " + f.unseen
	}
	w.on = time.Now().UTC().Format("2006-01-02 15:04")
	return w, nil
}

// bench is where one fault is measured.
type bench struct {
	*run
	fault   *fault
	dir     string
	overlay string
}

// ask asks the generators, or the other tests, until one finds the fault.
func (b *bench) ask(ctx context.Context, generators bool) (finding, error) {
	var asked, untrusted []string
	for _, one := range b.fault.finders {
		s := suiteOf(one)
		if s.generator != generators {
			continue
		}
		found, err := b.find(ctx, one, s)
		if err != nil || found.found() {
			return found, err
		}
		asked = append(asked, one.name)
		if found.by != "" {
			untrusted = append(untrusted, found.by)
		}
	}
	switch {
	case len(asked) == 0:
		return finding{by: nobody}, nil
	case len(untrusted) > 0:
		return finding{by: "none: " + strings.Join(untrusted, ", ") + " failed without the fault, too"}, nil
	case generators:
		return finding{by: fmt.Sprintf("none: %s, %s each", strings.Join(asked, ", "), b.budget)}, nil
	}
	return finding{by: "none: " + strings.Join(asked, ", ")}, nil
}

// unitTime bounds the tests of a package.
const unitTime = 4 * time.Minute

// find asks one suite. A finding without a time is a test that fails without the fault, too.
func (b *bench) find(ctx context.Context, one finder, s suite) (finding, error) {
	limit := unitTime
	if s.generator {
		limit = b.budget
	}
	tests, proxy, err := b.build(ctx, s, b.overlay, b.dir)
	if err != nil {
		return finding{}, err
	}
	p := play{suite: s, tests: tests, proxy: proxy, tmp: b.dir}
	spent, by, out, err := p.untilItFails(ctx, limit)
	if by == "" || err != nil {
		return finding{}, err
	}
	b.keep(one, "", out)
	if !s.generator { // a test that fails now and then has found nothing
		again := p
		again.pattern = topOf(by, again.pattern)
		if _, twice, err := again.once(ctx, limit); twice == "" || err != nil {
			return finding{}, err
		}
	}
	_, _ = fmt.Fprintf(b.out, "%s: %s fails with it after %s: %s\n", b.fault.name, by, seconds(spent), reason(out))
	if p.tests, p.proxy, err = b.build(ctx, s, "", b.work); err != nil {
		return finding{}, err
	}
	switch {
	case one.name == "fuzz":
		p.pattern = "^" + p.pattern + "$" // the seeds alone: what was found is none
	case !s.generator:
		p.pattern = topOf(by, p.pattern)
	}
	out, fails, err := p.once(ctx, 3*limit)
	if err != nil {
		return finding{}, err
	}
	name := by
	if s.generator {
		name = one.name + ": " + by
	}
	if fails != "" {
		b.keep(one, "-without", out)
		return finding{by: name}, nil
	}
	return finding{by: name, after: seconds(spent)}, nil
}

// topOf selects the test that a subtest is of; where tests end their process, nobody knows
// which one did it, and it is the same ones again.
func topOf(name, pattern string) string {
	if !strings.HasPrefix(name, "Test") {
		return pattern
	}
	name, _, _ = strings.Cut(strings.TrimSuffix(name, " (hangs)"), "/")
	return "^" + name + "$"
}

// keep writes what a test said that failed, to be read if somebody wants to.
func (b *bench) keep(by finder, as string, out []byte) {
	_ = os.WriteFile(filepath.Join(b.work, b.fault.name+"-"+strings.ReplaceAll(by.name, "/", "_")+as+".log"), out, 0o600)
}

// build builds the tests of a suite and, if they start it, the proxy.
func (b *bench) build(ctx context.Context, s suite, overlay, dir string) (tests, proxy string, err error) {
	tests = filepath.Join(dir, strings.ReplaceAll(s.dir, "/", "_")+".test")
	args := []string{"test", "-c", "-vet=off"}
	with := overlay
	if s.processes {
		proxy, with = filepath.Join(dir, "proxy"), ""
		tags := "storelog"
		if s.stops {
			tags += ",failpoints"
		}
		tests = filepath.Join(b.work, strings.ReplaceAll(s.dir, "/", "_")+".test")
		if err := goBuild(ctx, overlay, proxy, []string{"build", "-tags", tags}, "./cmd/proxy"); err != nil {
			return "", "", err
		}
	}
	return tests, proxy, goBuild(ctx, with, tests, args, "./"+s.dir)
}

func goBuild(ctx context.Context, overlay, to string, args []string, dir string) error {
	args = append(args, "-buildvcs=false", "-ldflags=-w", "-o", to)
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	out, err := exec.CommandContext(ctx, "go", append(args, dir)...).CombinedOutput() //nolint:gosec // ours
	if err != nil {
		return fmt.Errorf("build %s: %w: %s", dir, err, out)
	}
	return nil
}

// play is a suite that was built.
type play struct {
	suite
	tests, proxy string
	tmp          string // where tests put what they need
}

// untilItFails plays again and again, each time with another seed, until something fails
// or the time is over. Tests that are no generator play once.
func (p *play) untilItFails(ctx context.Context, limit time.Duration) (spent time.Duration, by string, out []byte, err error) {
	begun := time.Now()
	for {
		out, by, err = p.once(ctx, limit-time.Since(begun))
		spent = time.Since(begun)
		if by != "" || err != nil || !p.generator || spent >= limit {
			return spent, by, out, err
		}
	}
}

// once plays once. by is the test that failed, if one did before the time was over.
func (p *play) once(ctx context.Context, limit time.Duration) (out []byte, by string, err error) {
	tests, err := filepath.Abs(p.tests)
	if err != nil {
		return nil, "", fmt.Errorf("name the tests: %w", err)
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(timed, tests, p.args(limit)...) //nolint:gosec // built above
	cmd.Dir = p.dir
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "TMPDIR="+p.tmp)
	if p.proxy != "" {
		proxy, err := filepath.Abs(p.proxy)
		if err != nil {
			return nil, "", fmt.Errorf("name the proxy: %w", err)
		}
		cmd.Env = append(cmd.Env, p.variable()+"="+proxy)
	}
	out, err = cmd.CombinedOutput()
	if m := keptInput().FindSubmatch(out); m != nil { // a fuzz target's, which would be a seed from now on
		_ = os.Remove(filepath.Join(p.dir, string(m[1])))
	}
	switch {
	case err == nil:
		return out, "", nil
	case ctx.Err() != nil:
		return out, "", ctx.Err() //nolint:wrapcheck // whether it was stopped
	case timed.Err() != nil && (p.generator || !bytes.Contains(out, []byte("--- FAIL"))):
		return out, "", nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return out, "", fmt.Errorf("run %s: %w", p.tests, err)
	}
	return out, failed(out), nil
}

// variable tells the tests which proxy to start.
func (p *play) variable() string {
	if p.stops {
		return "FAILPOINTS_BINARY"
	}
	return "PROXY_BINARY"
}

// args are those of the test binary.
func (p *play) args(limit time.Duration) []string {
	if strings.HasPrefix(p.pattern, "Fuzz") {
		return []string{
			"-test.run=^$", "-test.fuzz=^" + p.pattern + "$", "-test.fuzztime=" + limit.String(), "-test.fuzzminimizetime=20x",
			"-test.fuzzcachedir=" + filepath.Join(p.tmp, "fuzz"),
		}
	}
	args := []string{"-test.failfast", "-test.timeout=" + (limit + time.Minute).String(), "-test.run=" + p.pattern}
	if !p.generator {
		args = append(args, "-test.short", "-test.timeout="+(limit-10*time.Second).String())
	}
	return args
}

// What test binaries print.
func failedTest() *regexp.Regexp { return regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`) }
func hungTest() *regexp.Regexp   { return regexp.MustCompile(`(?m)^\s+(Test\w\S*) \(`) }
func keptInput() *regexp.Regexp  { return regexp.MustCompile(`Failing input written to (testdata/\S+)`) }
func saidWhy() *regexp.Regexp    { return regexp.MustCompile(`(?m)^\s+\w+_test\.go:\d+: (.*)$`) }

// failed is the test that failed: the innermost one that is named.
func failed(out []byte) (name string) {
	for _, m := range failedTest().FindAllSubmatch(out, -1) {
		if len(m[1]) > len(name) && (name == "" || strings.HasPrefix(string(m[1]), name)) {
			name = string(m[1])
		}
	}
	switch {
	case name != "":
		return name
	case bytes.Contains(out, []byte("panic: test timed out")):
		if m := hungTest().FindSubmatch(out); m != nil {
			return string(m[1]) + " (hangs)"
		}
	}
	return "the tests' process (it ends)"
}

// reason is what a test said first.
func reason(out []byte) string {
	for _, m := range saidWhy().FindAllSubmatch(out, -1) {
		if text := string(m[1]); !strings.HasPrefix(text, "figure: ") && !strings.HasPrefix(text, "SEED=") &&
			!strings.HasPrefix(text, "log of the proxy") {
			return text[:min(len(text), 300)]
		}
	}
	return ""
}
