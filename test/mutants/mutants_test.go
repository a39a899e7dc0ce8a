package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const sample = `package sample

import "errors"

var ErrNo = errors.New("no")

type counter struct{ n int }

func (c *counter) add(limit int) error {
	if c.n >= limit && limit > 0 {
		return ErrNo
	}
	c.n++ // counted
	for {
		break
	}
	return nil
}
`

func sampleModule(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "sample"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "sample", "sample.go"), []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

// Each site is broken alone: the file parses, differs in what its site names, and no two are the same.
func TestEachSiteIsBrokenAlone(t *testing.T) {
	t.Parallel()
	root := sampleModule(t)
	sites, err := sitesOf(root, "sample")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"negated: c.n >= limit && limit > 0":      "if !(c.n >= limit && limit > 0) {",
		"&& became ||: c.n >= limit && limit > 0": "c.n >= limit || limit > 0",
		">= became >: c.n >= limit":               "c.n > limit && limit > 0",
		"> became >=: limit > 0":                  "c.n >= limit && limit >= 0",
		"one more: 0":                             "limit > 1",
		"error forgotten: return ErrNo":           "return nil\n\t}",
		"left out: c.n++":                         "}\n\n\tfor {",
		"left out: break":                         "for {\n\n\t}",
	}
	if len(sites) != len(want) {
		t.Errorf("%d sites, want %d: %v", len(sites), len(want), sites)
	}
	seen := map[string]bool{}
	for _, s := range sites {
		text, err := broken(root, s)
		if err != nil {
			t.Fatal(err)
		}
		name := s.kind + ": " + s.was
		if _, err := parser.ParseFile(token.NewFileSet(), "", text, 0); err != nil {
			t.Errorf("%s does not parse: %v", name, err)
		}
		if want[name] == "" || !strings.Contains(string(text), want[name]) {
			t.Errorf("%s: want %q in:\n%s", name, want[name], text)
		}
		if seen[string(text)] {
			t.Errorf("%s is the same as another", name)
		}
		seen[string(text)] = true
	}
}

// The lists of equivalent mutants, and of those that survive, have a reason in each line, and name
// what exists; none is in both.
func TestEquivalentsAreReal(t *testing.T) {
	t.Parallel()
	reasons, err := equivalents("equivalent.txt")
	if err != nil {
		t.Fatal(err)
	}
	survivors, err := equivalents("survivors.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(reasons) == 0 || len(survivors) == 0 {
		t.Errorf("%d equivalent mutants and %d survivors are listed", len(reasons), len(survivors))
	}
	for mutant, reason := range survivors {
		if reasons[mutant] != "" {
			t.Errorf("in both lists: %s", mutant)
		}
		reasons[mutant] = reason
	}
	all := map[string]bool{}
	for _, dir := range packages() {
		sites, err := sitesOf("../..", dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sites {
			all[key(s)], all[s.name()] = true, true
		}
	}
	for mutant, reason := range reasons {
		if !all[mutant] {
			t.Errorf("no such mutant: %s", mutant)
		}
		if len(reason) < 20 {
			t.Errorf("%s: no reason: %q", mutant, reason)
		}
	}
	bad := filepath.Join(t.TempDir(), "bad.txt")
	if err := os.WriteFile(bad, []byte("a.go: negated: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := equivalents(bad); err == nil {
		t.Error("a line without a reason was taken")
	}
}

// What a release is not built of is not broken: points where a test has the proxy fail, and
// files of another build.
func TestWhatIsForTestsIsNotBroken(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	const pointed = `package sample

func add(n int) (int, error) {
	failpoint.Reach("here")
	if err := failpoint.Fail("there"); err != nil {
		n += 7
		return 0, err
	}
	if err := check(n); err != nil {
		return n, err
	}
	return n, nil
}
`
	for name, text := range map[string]string{
		"a.go": pointed, "on.go": "//go:build failpoints\n\n" + pointed, "a_plan9.go": pointed, "a_test.go": pointed,
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sites, err := sitesOf(root, ".")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range sites {
		got = append(got, s.String())
	}
	want := []string{"a.go:9: negated: err != nil", "a.go:9: != became ==: err != nil", "a.go:10: error forgotten: return n, err"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What only tests use is a part of what they came by. What the product imports, too, is not.
func TestOtherAidsAreNoticed(t *testing.T) { //nolint:paralleltest // it looks at where it is started
	t.Chdir(t.TempDir())
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	aids := func() string {
		t.Helper()
		sum, err := aidsOf("example.test/x", "store", "store")
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	write("store/store.go", "package store\n\nimport _ \"example.test/x/idem\"\n")
	write("store/store_test.go", "package store\n\nimport (\n\t_ \"example.test/x/idem\"\n\t_ \"example.test/x/idem/storetest\"\n\t_ \"example.test/x/store\"\n)\n")
	write("idem/idem.go", "package idem\n")
	write("idem/storetest/cases.go", "package storetest\n")
	before := aids()
	for _, change := range []struct {
		file, text string
		noticed    bool
	}{
		{"idem/idem.go", "package idem\n\nvar a int\n", false},
		{"store/store.go", "package store\n\nimport _ \"example.test/x/idem\"\n\nvar a int\n", false},
		{"idem/storetest/cases_test.go", "package storetest\n", false},
		{"idem/storetest/cases.go", "package storetest\n\nvar a int\n", true},
	} {
		write(change.file, change.text)
		now := aids()
		if (now != before) != change.noticed {
			t.Errorf("a change of %s: noticed %v, want %v", change.file, now != before, change.noticed)
		}
		before = now
	}
	before, err := aidsOf("example.test/x", "idem", "idem/storetest")
	if err != nil {
		t.Fatal(err)
	}
	write("idem/storetest/cases.go", "package storetest\n\nvar b int\n")
	if now, err := aidsOf("example.test/x", "idem", "idem/storetest"); err != nil || now == before {
		t.Errorf("the cases of idem's own contract have changed: %v", err)
	}
}
