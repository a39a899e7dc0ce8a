package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// suite is the tests of one package, built with the switches of another or of the same.
type suite struct {
	dir    string
	binary string
	tests  []*tested
}

// tested is what a test did when nothing was broken.
type tested struct {
	Name  string
	Text  string // a hash of its source, to know it again
	Took  time.Duration
	Sites []int // which places it came by
	Fails bool  // it failed: it finds nothing
}

// every stands for all tests of a package.
const every = "^(Test|Fuzz|Example)"

// newSuite builds the tests of dir, and runs each alone of those that are chosen and that
// known does not have.
func newSuite(
	ctx context.Context, s *schema, dir, tmp, chosen string, known map[string]*tested, workers int,
) (*suite, error) {
	u := &suite{dir: dir, binary: filepath.Join(tmp, strings.ReplaceAll(filepath.Clean(dir), "/", "_")+".test")}
	build := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", s.overlay, //nolint:gosec // ours
		"-o", u.binary, "./"+dir)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the tests of %s: %w: %s", dir, err, out)
	}
	out, err := u.command(ctx, "-test.list", chosen).Output()
	if err != nil {
		return nil, fmt.Errorf("list the tests of %s: %w", dir, err)
	}
	texts, err := textsOf(dir)
	if err != nil {
		return nil, err
	}
	names := make(chan string)
	var wait sync.WaitGroup
	var lock sync.Mutex
	for range workers {
		wait.Go(func() {
			for name := range names {
				t := u.reach(ctx, name, tmp)
				t.Text = texts[name]
				if ctx.Err() == nil {
					lock.Lock()
					u.tests = append(u.tests, t)
					known[name] = t
					lock.Unlock()
				}
			}
		})
	}
	for _, name := range strings.Fields(string(out)) {
		if ctx.Err() != nil {
			break
		}
		lock.Lock()
		t := known[name]
		if t != nil && t.Text == texts[name] {
			u.tests = append(u.tests, t)
		} else {
			t = nil
		}
		lock.Unlock()
		if t == nil {
			names <- name
		}
	}
	close(names)
	wait.Wait()
	slices.SortFunc(u.tests, func(a, b *tested) int { return int(a.Took - b.Took) })
	return u, ctx.Err() //nolint:wrapcheck // whether it was stopped
}

// command runs the tests where the go command would.
func (u *suite) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, u.binary, args...) //nolint:gosec // built above
	cmd.Dir = u.dir
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// reach runs one test and notes by which places it came.
func (u *suite) reach(ctx context.Context, name, tmp string) *tested {
	trace := filepath.Join(tmp, name+".trace")
	defer os.Remove(trace) //nolint:errcheck // of no consequence
	t := &tested{Name: name}
	for range 2 { // one that fails for want of time gets another chance
		cmd := u.command(ctx, "-test.short", "-test.timeout=3m", "-test.run", "^"+name+"$")
		cmd.Env = append(os.Environ(), "MUTANT_TRACE="+trace)
		begun := time.Now()
		_, err := cmd.CombinedOutput()
		t.Took, t.Fails = time.Since(begun), err != nil
		if !t.Fails || ctx.Err() != nil {
			break
		}
	}
	text, _ := os.ReadFile(trace) //nolint:gosec // ours; a test that comes by nothing writes none
	for _, line := range strings.Fields(string(text)) {
		if n, err := strconv.Atoi(line); err == nil && !slices.Contains(t.Sites, n) {
			t.Sites = append(t.Sites, n)
		}
	}
	return t
}

// finder is which test found a mutant, or "": those that came by its place, the quickest first.
func (u *suite) finder(ctx context.Context, id int) (name string, reached int, err error) {
	var names []string
	var sum time.Duration
	for i, t := range u.tests {
		if !t.Fails && slices.Contains(t.Sites, id) {
			names, sum, reached = append(names, t.Name), sum+t.Took, reached+1
		}
		if sum < 3*time.Second && i+1 < len(u.tests) || len(names) == 0 {
			continue
		}
		if name, err = u.fails(ctx, id, names, sum); name != "" || err != nil {
			return name, reached, err
		}
		names, sum = nil, 0
	}
	return "", reached, nil
}

// fails is the first of the tests that fails with the mutant, or does not end, twice; "" if none does.
func (u *suite) fails(ctx context.Context, id int, names []string, sum time.Duration) (string, error) {
	limit := 30*time.Second + 5*sum
	again, late := names, ""
	for range 2 {
		out, err := u.broken(ctx, id, again, limit)
		if ctx.Err() != nil {
			return "", errors.New("stopped")
		}
		if err == nil {
			return "", nil
		}
		late = ""
		m := failed().FindSubmatch(out)
		if strings.Contains(string(out), "panic: test timed out after") {
			m, late = running().FindSubmatch(out), "time: "
		}
		if m != nil && slices.Contains(again, string(m[1])) {
			again = []string{string(m[1])}
		}
	}
	if len(again) == 1 {
		return late + again[0], nil
	}
	for _, name := range again { // the process ended, and did not say by which of them
		if _, err := u.broken(ctx, id, []string{name}, limit); err != nil && ctx.Err() == nil {
			return name, nil
		}
	}
	return strings.Join(again, " or "), ctx.Err()
}

// broken runs tests with a mutant.
func (u *suite) broken(ctx context.Context, id int, names []string, limit time.Duration) ([]byte, error) {
	cmd := u.command(ctx, "-test.short", "-test.failfast", "-test.timeout="+limit.String(),
		"-test.run", "^("+strings.Join(names, "|")+")$")
	cmd.Env = append(os.Environ(), "MUTANT="+strconv.Itoa(id))
	return cmd.CombinedOutput() //nolint:wrapcheck // whether they failed
}

func failed() *regexp.Regexp { return regexp.MustCompile(`(?m)^--- FAIL: (\w+)`) }

// running finds a test that had not ended when the time was over.
func running() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^panic: test timed out after .*\n\s*running tests:\n\s*(\w+)`)
}

// textsOf hashes the source of each test of a directory.
func textsOf(dir string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, fmt.Errorf("look for the tests of %s: %w", dir, err)
	}
	texts := map[string]string{}
	for _, name := range files {
		text, err := os.ReadFile(name) //nolint:gosec // of this repository
		if err != nil {
			return nil, fmt.Errorf("read a test: %w", err)
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse a test: %w", err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				texts[f.Name.Name] = hash(text[fset.Position(f.Pos()).Offset:fset.Position(f.End()).Offset])
			}
		}
	}
	return texts, nil
}

// aidsOf hashes what the tests of a directory use beside the package that is broken and what
// that imports itself: suites of cases, servers. With others, they come by other places.
func aidsOf(module, broken, tests string) (string, error) {
	byProduct, err := importsOf(module, broken, func(name string) bool { return !strings.HasSuffix(name, "_test.go") })
	if err != nil {
		return "", err
	}
	aids, err := importsOf(module, tests, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
	if err != nil {
		return "", err
	}
	byProduct[broken], aids[tests] = true, true
	var all []byte
	for _, dir := range slices.Sorted(maps.Keys(aids)) {
		if byProduct[dir] {
			continue
		}
		sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return "", fmt.Errorf("look for the sources of %s: %w", dir, err)
		}
		for _, name := range sources {
			text, err := os.ReadFile(name) //nolint:gosec // of this repository
			if err != nil {
				return "", fmt.Errorf("read a source: %w", err)
			}
			if !strings.HasSuffix(name, "_test.go") {
				all = append(all, text...)
			}
		}
	}
	return hash(all), nil
}

// importsOf are the packages of the module that those files of a directory import that are wanted.
func importsOf(module, dir string, wanted func(name string) bool) (map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("look for the sources of %s: %w", dir, err)
	}
	all := map[string]bool{}
	for _, name := range files {
		if !wanted(name) {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return nil, fmt.Errorf("parse a source: %w", err)
		}
		for _, one := range file.Imports {
			if from, ours := strings.CutPrefix(strings.Trim(one.Path.Value, `"`), module+"/"); ours {
				all[from] = true
			}
		}
	}
	return all, nil
}
