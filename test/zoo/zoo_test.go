package main

import (
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func faults(t *testing.T) []*fault {
	t.Helper()
	all, err := readFaults("faults")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 30 {
		t.Fatalf("only %d faults", len(all))
	}
	return all
}

// What a fault replaces is there, once, and what it names exists.
func TestFaultsApply(t *testing.T) {
	t.Parallel()
	for _, f := range faults(t) {
		texts := map[string][]byte{}
		if err := f.apply(root, texts); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
		for _, c := range f.changes {
			if c.was == c.is {
				t.Errorf("%s changes nothing", f.name)
			}
		}
		for _, one := range f.finders {
			s := suiteOf(one)
			if _, err := os.Stat(filepath.Join(root, s.dir)); err != nil || s.dir == "" {
				t.Errorf("%s: %s names no tests: %v", f.name, one, err)
			}
		}
	}
}

// Faults are code that can be built. As many as go together are built at once.
func TestFaultsBuild(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a build of much of the product")
	}
	for left := faults(t); len(left) > 0; {
		texts := map[string][]byte{}
		var names []string
		left = slices.DeleteFunc(left, func(f *fault) bool {
			with := maps.Clone(texts)
			if f.apply(root, with) != nil { // another one stands in its place: the next time
				return false
			}
			texts, names = with, append(names, f.name)
			return true
		})
		dir := t.TempDir()
		file, err := overlay(root, dir, texts)
		if err != nil {
			t.Fatal(err)
		}
		packages := map[string]bool{}
		for name := range texts {
			packages["./"+path.Dir(name)] = true
		}
		args := append([]string{"build", "-buildvcs=false", "-overlay", file}, slices.Sorted(maps.Keys(packages))...)
		build := exec.CommandContext(t.Context(), "go", args...)
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(names, ", "), err, out)
		}
		if len(names) == 0 {
			t.Fatal("faults that do not apply")
		}
	}
}

// The page has a row for each fault, and for nothing else.
func TestTableIsOfTheseFaults(t *testing.T) {
	t.Parallel()
	rows, err := readTable(filepath.Join(root, "docs/zoo.md"))
	if err != nil {
		t.Fatal(err)
	}
	delete(rows, "fault")
	delete(rows, "---")
	for _, f := range faults(t) {
		if w := rows[f.name]; w.what != f.what || w.mended != f.mended {
			t.Errorf("docs/zoo.md does not have %s as its file has it: run go run ./test/zoo -only %s", f.name, f.name)
		}
		delete(rows, f.name)
	}
	for name := range rows {
		t.Errorf("docs/zoo.md has %s, and test/zoo/faults has not", name)
	}
}

// The commits that mended a fault, or for which a row was measured, are in the history of
// this one: who reads the page can look at them.
func TestCommitsExist(t *testing.T) {
	t.Parallel()
	history, why := historyIn(t.Context(), root)
	if history == "" {
		t.Skip(why)
	}
	named := map[string]string{}
	for _, f := range faults(t) {
		if f.mended != byHand {
			named[f.mended] = "test/zoo/faults/" + f.name + ".fault"
		}
	}
	rows, err := readTable(filepath.Join(root, "docs/zoo.md"))
	if err != nil {
		t.Fatal(err)
	}
	delete(rows, "fault")
	delete(rows, "---")
	for _, w := range rows {
		if w.commit != "" && w.commit != lost {
			named[w.commit] = "the row of " + w.name + " in docs/zoo.md"
		}
	}
	for commit, by := range named {
		if n := strings.Count(history, "\n"+commit); n != 1 {
			t.Errorf("%s names commit %s, of which the history has %d", by, commit, n)
		}
	}
}

// Without a whole history nothing is said of commits, and a row of a commit that is lost says so.
func TestLostCommits(t *testing.T) {
	t.Parallel()
	if all, why := historyIn(t.Context(), t.TempDir()); all != "" || why == "" {
		t.Errorf("where there is no history: %q, %q", all, why)
	}
	rows := map[string]row{"there": {commit: "abc"}, "changed": {commit: "abc+"}, "gone": {commit: "ab0"}, "new": {}}
	forgetLost(rows, "")
	if rows["gone"].commit != "ab0" {
		t.Error("a commit is taken for lost where nobody knows")
	}
	forgetLost(rows, "\nabcdef\n012345\n")
	for name, want := range map[string]string{"there": "abc", "changed": "abc+", "gone": lost, "new": ""} {
		if got := rows[name].commit; got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	f, err := parseFault("# a remark\nwhat: It does: this.\nmended: abc\nfinders: clients idem:TestA|TestB\n\n<<< a/b.go\n\tx\n\n\ty\n===\n>>>\n<<< c.lua\nend\n===\n-- end\nend\n>>>\n")
	if err != nil {
		t.Fatal(err)
	}
	want := &fault{
		what: "It does: this.", mended: "abc", finders: []finder{{"clients", ""}, {"idem", "TestA|TestB"}},
		changes: []change{{"a/b.go", "\tx\n\n\ty", ""}, {"c.lua", "end", "-- end\nend"}},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("%+v, want %+v", f, want)
	}
	for _, bad := range []string{
		"", "what: x\nmended: y\nfinders: z\n", "what: x\nmended: y\n<<< a\nb\n===\nc\n>>>\n", "what: x\nmended: y\nfinders: z\n<<< a\nb\n>>>\n",
		"what: x\nmended: y\nfinders: z\nother: w\n<<< a\nb\n===\nc\n>>>\n",
	} {
		if _, err := parseFault(bad); err == nil {
			t.Errorf("taken: %q", bad)
		}
	}
}

// A text that is not there, or twice, is no place for a fault.
func TestAmbiguousTextsAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "a a", "b"} {
		f := &fault{changes: []change{{"x", "a", "b"}}}
		if err := f.apply("", map[string][]byte{"x": []byte(text)}); err == nil {
			t.Errorf("taken: %q", text)
		}
	}
}

func TestTableIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "zoo.md")
	if rows, err := readTable(file); err != nil || len(rows) > 0 {
		t.Fatal(rows, err)
	}
	both := []finder{{"clients", ""}, {"idem", ""}}
	all := []*fault{{name: "a", what: "b", mended: "c", finders: both}, {name: "d", what: "e", mended: "f", finders: both[1:]}}
	rows := map[string]row{
		"a": {name: "a", what: "b", mended: "c", generator: finding{"g", "3 s"}, unit: finding{"none: u", ""}, on: "2026-01-02 03:04", commit: "x"},
		"d": {name: "d", what: "e", mended: "f", generator: finding{by: nobody}},
	}
	if err := writeTable(file, all, rows); err != nil {
		t.Fatal(err)
	}
	got, err := readTable(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := rowsOf(all, got); !reflect.DeepEqual(got, rows) {
		t.Errorf("%+v, want %+v", got, rows)
	}
}

// What test binaries print is understood.
func TestFailed(t *testing.T) {
	t.Parallel()
	for want, out := range map[string]string{
		"TestA/b/c":                    "=== RUN\n--- FAIL: TestA (0.1s)\n    --- FAIL: TestA/b (0.1s)\n        --- FAIL: TestA/b/c (0.1s)\n            x_test.go:3: no\nFAIL\n",
		"TestB (hangs)":                "panic: test timed out after 10s\n\trunning tests:\n\t\tTestB (10s)\n",
		"the tests' process (it ends)": "panic: nil\n",
	} {
		if got := failed([]byte(out)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := reason([]byte("    x_test.go:1: SEED=5\n    x_test.go:2: figure: 3\n    x_test.go:3: no\n")); got != "no" {
		t.Error(got)
	}
}

// The oldest measurement is repeated first, and what was measured at this commit is not.
func TestWanted(t *testing.T) {
	t.Parallel()
	all := []*fault{{name: "new"}, {name: "done"}, {name: "never"}, {name: "old"}}
	rows := map[string]row{
		"new":  {on: "2026-02", commit: "a"},
		"done": {on: "2026-01", commit: "b", generator: finding{by: "x"}, unit: finding{by: "none"}},
		"old":  {on: "2025-01", commit: "b", generator: finding{by: "x"}},
	}
	names := func(r run) (names []string) {
		for _, f := range r.wanted(all, rows) {
			names = append(names, f.name)
		}
		return names
	}
	if got := names(run{commit: "b"}); !slices.Equal(got, []string{"never", "old", "new"}) {
		t.Error(got)
	}
	if got := names(run{commit: "b", kind: "generators"}); !slices.Equal(got, []string{"never", "new"}) {
		t.Error(got)
	}
	if got := names(run{commit: "b", only: "done,new"}); !slices.Equal(got, []string{"new"}) {
		t.Error(got)
	}
	if got := names(run{commit: "b", only: "done,new", again: true}); !slices.Equal(got, []string{"done", "new"}) {
		t.Error(got)
	}
}
