package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The list of a campaign names its mutants by their texts: it finds them again where lines have
// moved and others of the same text were added, and only them.
func TestACampaignIsFoundAgain(t *testing.T) { //nolint:paralleltest // it looks at where it is started
	root := sampleModule(t)
	t.Chdir(root)
	before, err := sitesOf(".", "sample")
	if err != nil {
		t.Fatal(err)
	}
	r := &run{seed: 7, recorded: filepath.Join(root, "campaign.txt"), dir: t.TempDir()}
	if r.state, err = openState(r.dir); err != nil {
		t.Fatal(err)
	}
	endings := map[string][]string{ // what became of each: at first, and last
		"c.n >= limit && limit > 0": {found}, "limit > 0": {survived}, "return ErrNo": {notReached, timedOut},
		"c.n++": {survived}, "0": {noMutant},
	}
	var want []string
	for _, s := range before {
		for _, ending := range endings[s.was] {
			if err := r.state.add(result{Mutant: s.name(), Ending: ending, Commit: "of then"}); err != nil {
				t.Fatal(err)
			}
		}
		if len(endings[s.was]) > 0 && s.was != "0" {
			want = append(want, s.name())
		}
	}
	r.reasons = map[string]string{"sample/sample.go: left out: c.n++": "nobody counts"}
	if r.state, err = openState(r.dir); err != nil { // as the next slice finds it
		t.Fatal(err)
	}
	if err := r.record(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(r.recorded)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"# 5 mutants of the sources of commit of then, seed 7\n",
		"found\t-\tsample/sample.go: negated: c.n >= limit && limit > 0 @ add: if c.n >= limit && limit > 0 {\n",
		"survived\t-\tsample/sample.go: > became >=: limit > 0 @ add: if c.n >= limit && limit > 0 {\n",
		"found later\t-\tsample/sample.go: error forgotten: return ErrNo @ add: return ErrNo\n",
		"equivalent\t-\tsample/sample.go: left out: c.n++ @ add: c.n++\n",
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("no line %q in:\n%s", line, text)
		}
	}

	moved := strings.Replace(sample, "func (c", "func other(limit int) bool {\n\treturn limit > 0\n}\n\nfunc (c", 1)
	if err := os.WriteFile(filepath.Join("sample", "sample.go"), []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := sitesOf(".", "sample")
	if err != nil {
		t.Fatal(err)
	}
	r.out, r.same = &bytes.Buffer{}, r.recorded
	again, err := r.wanted(after)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range again {
		got = append(got, s.name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("of the list are there:\n%q\nwant\n%q", got, want)
	}
}

// A mutant that survived at first, and is found by a test that was written then, counts in both columns.
func TestWhatWasFoundAtFirstIsCounted(t *testing.T) {
	t.Parallel()
	var w row
	for _, m := range []struct {
		first, last string
		same        bool
	}{
		{found, found, false},
		{timedOut, timedOut, false},
		{survived, found, false},
		{notReached, notReached, false},
		{survived, survived, true},
	} {
		w.add(m.first, m.last, m.same)
	}
	if want := (row{tried: 5, before: 2, found: 2, timed: 1, same: 1, left: 1}); w != want || w.share() != 75 {
		t.Errorf("%+v, %.1f of a hundred, want %+v, 75.0", w, w.share(), want)
	}
}
