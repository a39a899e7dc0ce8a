package model_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

// automatonFile is what package tracetest checks traces by.
const automatonFile = "../../idem/tracetest/automaton.txt"

// automaton collects what the runs of the model say of its steps.
type automaton struct {
	mu    sync.Mutex
	lines map[string]bool // guarded by mu
	runs  int             // guarded by mu
}

// compareAfter compares a with what is kept, or writes it there with UPDATE=1, once the
// test is over, if all its runs were made, and found nothing.
func (a *automaton) compareAfter(t *testing.T, runs int) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() && a.runs == runs {
			a.compare(t)
		}
	})
}

func (a *automaton) compare(t *testing.T) {
	t.Helper()
	text := "# What a key, and who asks for it, does in the Promela model. Written by `UPDATE=1 go test ./test/model`.\n" +
		strings.Join(slices.Sorted(maps.Keys(a.lines)), "\n") + "\n"
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(automatonFile, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
		return
	}
	kept := tracetest.Model()
	for line := range a.lines {
		if !kept.Has(line) {
			t.Errorf("the model now has: %s. See that traces may have it, and run with UPDATE=1", line)
		}
	}
	for _, line := range kept.Lines() {
		if !a.lines[line] {
			t.Errorf("the model has no longer: %s. See that no trace may have it, and run with UPDATE=1", line)
		}
	}
}

// add notes what one run of the model said.
func (a *automaton) add(t *testing.T, said []string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs++
	for _, line := range said {
		a.lines[read(t, line)] = true
	}
}

// read makes a line of the model's, which is of numbers, one of package tracetest's.
func read(t *testing.T, line string) string {
	t.Helper()
	var n [6]int
	kind, numbers, _ := strings.Cut(line, " ")
	switch kind {
	case "row":
		scan(t, numbers, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5])
		row, ok := tracetest.Row(idem.State(n[0]), idem.Event(n[1]), idem.Who(n[2]), idem.Same(n[3]))
		if !ok || row.To != idem.State(n[4]) || row.Verdict != idem.Verdict(n[5]) {
			t.Errorf("the model has %s, which the table has not", line)
		}
		return tracetest.Step(row)
	case "move":
		name, states, _ := strings.Cut(numbers, " ")
		scan(t, states, &n[0], &n[1])
		return tracetest.Move(name, idem.State(n[0]), idem.State(n[1]))
	default:
		scan(t, numbers, &n[0], &n[1], &n[2])
		before, told := "begin", "nothing"
		if n[0] != none {
			before = idem.Event(n[0]).String()
		}
		if n[1] != none {
			told = idem.Verdict(n[1]).String()
		}
		return tracetest.Next(before, told, idem.Event(n[2]).String())
	}
}

// none is what the model says for no call and no answer.
const none = 255

func scan(t *testing.T, text string, into ...any) {
	t.Helper()
	if n, err := fmt.Sscan(text, into...); n != len(into) || err != nil {
		t.Fatalf("the model said %q: %v", text, err)
	}
}

// Each row of the table is a step of the model, or is listed with the reason why not.
func TestTableIsInTheModel(t *testing.T) {
	t.Parallel()
	model, beyond := tracetest.Model(), tracetest.Beyond()
	for _, row := range idem.Transitions() {
		line := tracetest.Step(row)
		switch listed := beyond[line] != ""; {
		case model.Has(line) && listed:
			t.Errorf("the model has %q, which is listed as one that it has not", line)
		case !model.Has(line) && !listed:
			t.Errorf("the model never does %q, and no reason is given", line)
		}
		delete(beyond, line)
	}
	for line := range beyond {
		t.Errorf("the table has not %q, which is listed as one of its rows", line)
	}
}
