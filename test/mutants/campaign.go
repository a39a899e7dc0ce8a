package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
)

// campaignHead begins a list of what was tried.
const campaignHead = `# What became of each mutant of a campaign; go run ./test/mutants -record writes it, -same tries
# its mutants again. In a line: the ending; the test that found it; the mutant @ the function and the
# line of the source in which it is, without numbers, which move. "found later": it survived at first,
# and a test that was written then finds it. equivalent.txt has the reasons of what is equivalent,
# survivors.txt those of what survived.
`

// later is the ending of a mutant that survived until a test was written.
const later = "found later"

// record writes what became of all mutants of the state, with the sources they were made of.
func (r *run) record() error {
	var out bytes.Buffer
	_, _ = out.WriteString(campaignHead)
	commits := map[string]int{}
	for _, first := range r.state.first {
		if first.Ending != noMutant {
			commits[first.Commit]++
		}
	}
	for _, commit := range slices.Sorted(maps.Keys(commits)) {
		_, _ = fmt.Fprintf(&out, "# %d mutants of the sources of commit %s, seed %d\n", commits[commit], commit, r.seed)
	}
	for _, name := range slices.Sorted(maps.Keys(r.state.results)) {
		res := r.state.results[name]
		ending := res.Ending
		switch lives := !finds(ending); {
		case ending == noMutant:
			continue
		case lives && r.reason(name) != "":
			ending = equivalent
		case !lives && !finds(r.state.first[name].Ending):
			ending = later
		}
		_, _ = fmt.Fprintf(&out, "%s\t%s\t%s\n", ending, cmp.Or(res.By, "-"), name)
	}
	if err := os.WriteFile(r.recorded, out.Bytes(), 0o644); err != nil { //nolint:gosec // a file of the repository
		return fmt.Errorf("write what became of the mutants: %w", err)
	}
	return nil
}

// mutantsOf reads the names of the mutants in a list that record has written.
func mutantsOf(file string) (map[string]bool, error) {
	text, err := os.ReadFile(file) //nolint:gosec // who runs it names it
	if err != nil {
		return nil, fmt.Errorf("read a campaign: %w", err)
	}
	names := map[string]bool{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		fields := strings.SplitN(lines.Text(), "\t", 3)
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s: a line without a mutant: %s", file, lines.Text())
		}
		names[fields[2]] = true
	}
	if len(names) == 0 {
		return nil, errors.New(file + " names no mutant")
	}
	return names, nil
}

// commitOf names the sources that are broken, as far as git knows them.
func commitOf(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--abbrev=12", "--dirty=, changed").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// finds says whether an ending is that of a mutant that a test found.
func finds(ending string) bool { return ending == found || ending == timedOut }

// row is the figures of a package.
type row struct{ tried, before, found, timed, same, left int }

// add counts a mutant that was tried.
func (w *row) add(first, last string, same bool) {
	w.tried++
	if finds(first) {
		w.before++
	}
	switch {
	case last == found:
		w.found++
	case last == timedOut:
		w.timed++
	case same:
		w.same++
	default:
		w.left++
	}
}

// share is how many of a hundred that could be found were found.
func (w *row) share() float64 {
	return 100 * float64(w.found+w.timed) / float64(max(1, w.tried-w.same))
}

// score prints the table of the campaign: an error below 95 of a hundred.
func (r *run) score(sites []site) error {
	rows, all := map[string]*row{}, row{}
	waiting := 0
	for _, s := range sites {
		res, done := r.state.results[s.name()]
		if !done {
			waiting++
			continue
		}
		if res.Ending == noMutant {
			continue
		}
		dir := path.Dir(s.file)
		if rows[dir] == nil {
			rows[dir] = &row{}
		}
		for _, w := range []*row{rows[dir], &all} {
			w.add(r.state.first[s.name()].Ending, res.Ending, r.reason(s.name()) != "")
		}
		if !finds(res.Ending) {
			if reason := r.reason(s.name()); reason != "" {
				_, _ = fmt.Fprintf(r.out, "equivalent: %s: %s\n", s, reason)
			} else {
				_, _ = fmt.Fprintf(r.out, "%s: %s\n", strings.ToUpper(res.Ending), s)
			}
		}
	}
	if all.tried == all.same {
		return errors.New("no mutant was tried")
	}
	_, _ = fmt.Fprintf(r.out, "| package | tried | equivalent | found at first | found | of these, timed out | survived | "+
		"found of a hundred |\n|%s\n", strings.Repeat(" --- |", 8))
	for _, dir := range packages() {
		if w := rows[dir]; w != nil {
			_, _ = fmt.Fprintf(r.out, "| %s | %d | %d | %d | %d | %d | %d | %.1f |\n",
				dir, w.tried, w.same, w.before, w.found+w.timed, w.timed, w.left, w.share())
		}
	}
	_, _ = fmt.Fprintf(r.out, "figure: %d mutants, seed %d: %d found, %d of them at first, %d timed out, %d survived, "+
		"%d equivalent: %.1f %%; %d are not tried yet\n", all.tried, r.seed, all.found+all.timed, all.before, all.timed,
		all.left, all.same, all.share(), waiting)
	if all.share() < 95 {
		return fmt.Errorf("%.1f %% of the mutants were found, 95 are wanted", all.share())
	}
	return nil
}
