package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// row is what was measured of a fault: a line of the table.
type row struct {
	name, what, mended string
	generator, unit    finding
	on, commit         string
}

// finding is which test found a fault, and after how long.
type finding struct {
	by    string // the test; or why there is none
	after string // empty: it did not find it
}

func (f finding) found() bool { return f.after != "" }

func (w row) String() string {
	return "| " + strings.Join([]string{
		w.name, w.what, w.mended, w.generator.by, w.generator.after, w.unit.by, w.unit.after, w.on, w.commit,
	}, " | ") + " |"
}

const columns = 9

// introduction stands above the table.
const introduction = `# The zoo

This page lists faults that this product has had, or that somebody has tried by hand. ` + "`go run ./test/zoo`" + ` brings each of
them back, one at a time, and measures which tests find it. It writes this page; do not edit it.
[Reliability](reliability.md) describes the tests.

- **Fault**: the name of a file in ` + "`test/zoo/faults`" + `. The file has the exact change.
- **Users see**: what the fault would do.
- **Mended**: the commit that mended it. "By hand" means that it was never in the product.
- **Generator**: the test that found it and knows nothing of this fault. It makes up operations, orders and faults.
  "None" says which generators were asked, and for how long. A fault that has "none" shows what the generators cannot say yet.
  An empty cell has not been measured yet.
- **Test**: the test that was written for the fault, or for what the fault breaks.
- **After**: how long the test ran until it failed, without the time to build it. It depends on chance and on the machine.
- **On**, **commit**: when and for which commit it was measured last. "Lost": that commit is not in the history any more;
  its sources came in with 14a2b9d.

A test counts as having found a fault if it fails with it and, right afterwards, passes without it. A test that is no generator
must fail twice.

| fault | users see | mended | generator | after | test | after | on (UTC) | commit |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
`

// readTable reads the rows of an earlier run. A file that is not there has none.
func readTable(file string) (map[string]row, error) {
	text, err := os.ReadFile(file) //nolint:gosec // who runs it names it
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the table: %w", err)
	}
	rows := map[string]row{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != columns+2 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		c := cells[1:]
		rows[c[0]] = row{
			name: c[0], what: c[1], mended: c[2], generator: finding{c[3], c[4]}, unit: finding{c[5], c[6]}, on: c[7], commit: c[8],
		}
	}
	return rows, nil
}

// rowsOf are those of the faults that there are, with what was measured before.
func rowsOf(all []*fault, before map[string]row) map[string]row {
	rows := map[string]row{}
	for _, f := range all {
		w := before[f.name]
		w.name, w.what, w.mended = f.name, f.what, f.mended
		for generators, to := range map[bool]*finding{true: &w.generator, false: &w.unit} {
			if to.by == "" && !f.has(generators) {
				to.by = nobody
			}
		}
		rows[f.name] = w
	}
	return rows
}

func writeTable(file string, all []*fault, rows map[string]row) error {
	var b strings.Builder
	b.WriteString(introduction)
	for _, f := range all {
		b.WriteString(rows[f.name].String() + "\n")
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil { //nolint:gosec // a document
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}

// commitOf is the commit that is measured, with a sign if there is more than that. What
// this program writes does not count.
func commitOf(ctx context.Context) (string, error) {
	head, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("name the commit: %w", err)
	}
	commit := strings.TrimSpace(string(head))
	changed, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "-uno", "--",
		":!docs/zoo.md", ":!docs/reliability-results.md").Output()
	if err != nil {
		return "", fmt.Errorf("look for changes: %w", err)
	}
	if len(changed) > 0 {
		commit += "+"
	}
	return commit, nil
}

// lost stands for a commit that is not in the history any more.
const lost = "lost"

// forgetLost has rows say so that were measured for such a commit.
func forgetLost(rows map[string]row, history string) {
	for name, w := range rows {
		if w.commit != "" && history != "" && !strings.Contains(history, "\n"+strings.TrimSuffix(w.commit, "+")) {
			w.commit = lost
			rows[name] = w
		}
	}
}

// historyIn has each commit that the one of a directory comes of on a line of its own, and
// an empty line before them. It is empty, with why, where not all of them are there.
func historyIn(ctx context.Context, dir string) (all, why string) {
	git := func(args ...string) string {
		cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // our own arguments
		cmd.Dir = dir
		out, err := cmd.Output()
		if err != nil {
			why = fmt.Sprintf("git %s: %v: these sources have no history", args[0], err)
		}
		return string(out)
	}
	if strings.TrimSpace(git("rev-parse", "--is-shallow-repository")) == "true" {
		return "", "a shallow clone, which has the last commits only"
	}
	if all = "\n" + git("rev-list", "HEAD"); why != "" {
		return "", why
	}
	return all, ""
}

// nobody is who finds a fault for which no test of a kind is named.
const nobody = "none"

// seconds are those of a time, as the table has them.
func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", max(1, d.Seconds())) }
