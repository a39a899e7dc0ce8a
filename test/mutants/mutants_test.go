package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
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

// A list of equivalent mutants has a reason in each line, and names what exists.
func TestEquivalentsAreReal(t *testing.T) {
	t.Parallel()
	reasons, err := equivalents("equivalent.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, dir := range packages() {
		sites, err := sitesOf("../..", dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sites {
			all[key(s)], all[s.id()] = true, true
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
