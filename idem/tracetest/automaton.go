package tracetest

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"

	"github.com/idemproxy/idemproxy/idem"
)

// model is what test/model read out of the Promela model: `UPDATE=1 go test ./test/model`
// writes it anew.
//
//go:embed automaton.txt
var model string

// Automaton is what a key, and who asks for it, may do.
type Automaton struct {
	steps map[string]bool
}

// Model is the automaton of the Promela model.
func Model() *Automaton { return parsed() }

// parsed is read once; nothing writes to it.
var parsed = sync.OnceValue(func() *Automaton { return parse(model) }) //nolint:gochecknoglobals // constant data, computed

// parse reads lines that [Step], [Move] and [Next] write.
func parse(text string) *Automaton {
	a := &Automaton{steps: map[string]bool{}}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			a.steps[line] = true
		}
	}
	return a
}

// Has says whether the automaton has what [Step], [Move] or [Next] wrote.
func (a *Automaton) Has(line string) bool { return a.steps[line] }

// Lines are all that it has.
func (a *Automaton) Lines() (lines []string) {
	for line := range a.steps {
		lines = append(lines, line)
	}
	return lines
}

// Step is a row of the transition table.
func Step(t idem.Transition) string {
	who := [...]string{idem.Anyone: "anyone", idem.Holder: "holder", idem.Stranger: "stranger"}[t.Who]
	same := [...]string{
		idem.AnyPayload: "any", idem.SamePayload: "same", idem.OtherPayload: "other", idem.OtherRecipe: "other-recipe",
	}[t.Same]
	return fmt.Sprintf("store: %v, %v by %s of %s -> %v, %v", t.From, t.Event, who, same, t.To, t.Verdict)
}

// Row is the row of the table that answers: the first that fits.
func Row(from idem.State, event idem.Event, who idem.Who, same idem.Same) (idem.Transition, bool) {
	for _, t := range idem.Transitions() {
		its := (t.Who == idem.Anyone || t.Who == who) && (t.Same == idem.AnyPayload || t.Same == same)
		if its && t.From == from && t.Event == event {
			return t, true
		}
	}
	return idem.Transition{}, false
}

// Move is what becomes of a key although nobody asks for anything by a table's event.
func Move(name string, from, to idem.State) string {
	return fmt.Sprintf("move: %s, %v -> %v", name, from, to)
}

// The names of moves.
const (
	Lapses  = "lapses"  // a lease
	Expires = "expires" // the retention of a response is over
	Ends    = "ends"    // nothing is known of the key any more
	Purged  = "purged"  // by an operator, or with all that the store lost
)

// Next is what an attempt asks for after something else was answered so; before is
// "begin" if it has not asked yet, and told is "nothing" if it has had no answer.
func Next(before, told, asks string) string {
	return fmt.Sprintf("caller: %s, %s -> %s", before, told, asks)
}

// Beyond are the rows of the table that the model never comes to, each with the reason.
func Beyond() map[string]string {
	lapsedHold, _ := Row(idem.Lapsed, idem.EventHold, idem.Holder, idem.SamePayload)
	return map[string]string{
		Step(lapsedHold): "who holds what may have executed has a lapsed lease hold the key, too: it is never lapsed",
	}
}
