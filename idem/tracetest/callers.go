package tracetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/idemproxy/idemproxy/idem"
)

// CheckCallers says whether each attempt of a key's trace asked for what a proxy of the
// model asks for: a renewal only of a lease that was granted, an ending of one kind only,
// nothing more of the store by who was refused. What is said again, in the same words, is
// no new call: in the model, too, a message arrives any number of times.
func CheckCallers(trace []Event) error {
	type caller struct { // a process that settles another one's attempt does not hear what that one asks
		owner   idem.Owner
		process int
	}
	attempts := map[caller][]Event{}
	for _, e := range trace {
		if asks(e.Kind) && e.Owner != (idem.Owner{}) {
			c := caller{e.Owner, e.Process}
			attempts[c] = append(attempts[c], e)
		}
	}
	model := Model()
	for _, calls := range attempts {
		if err := checkCaller(model, calls); err != nil {
			var b strings.Builder
			for _, e := range trace[max(0, len(trace)-2*shown):] {
				fmt.Fprintf(&b, "  %v\n", e)
			}
			return fmt.Errorf("%w and of all, by whomever (%d calls):\n%s", err, len(trace), b.String())
		}
	}
	return nil
}

// asks says whether a proxy asks for it with its own token.
func asks(k Kind) bool { return k <= Kind(idem.EventHold) }

func checkCaller(model *Automaton, calls []Event) error {
	slices.SortStableFunc(calls, func(a, b Event) int { return cmp.Or(cmp.Compare(a.Call, b.Call), cmp.Compare(a.Asked, b.Asked)) })
	var last, acquired, unheard *Event
	offered := map[Kind]bool{} // endings that were not answered: they are offered again, though the attempt was settled meanwhile
	for i, e := range calls {
		again := last != nil && e.Kind == last.Kind && e.Kind != Kind(idem.EventAcquire) || offered[e.Kind]
		before := last
		if e.Kind == Kind(idem.EventRenew) { // from its grant on, and what was sent once arrives at any time
			before = acquired
		}
		line := next(before, &e)
		if e.Kind == Kind(idem.EventRelease) && unheard != nil && last.Kind == Kind(idem.EventAcquire) {
			line = next(unheard, &e) // whatever it is told later, that one may still be granted
		}
		if !again && !model.Has(line) && Settles()[line] == "" {
			var b strings.Builder
			for _, e := range calls[:i+1] {
				fmt.Fprintf(&b, "  %v\n", e)
			}
			return fmt.Errorf("%w: %s\n%s", errCaller, line, b.String())
		}
		if e.Kind != Kind(idem.EventRenew) {
			last = &calls[i]
			offered[e.Kind] = offered[e.Kind] || e.Failed && e.Kind != Kind(idem.EventAcquire)
		}
		if e.Kind == Kind(idem.EventAcquire) {
			acquired = &calls[i]
			if e.Failed {
				unheard = acquired
			}
		}
	}
	return nil
}

var errCaller = errors.New("no proxy of the model asks so")

// next is the line of the model for a call after the last one that was no renewal.
func next(last, e *Event) string {
	before, told := "begin", "nothing"
	if last != nil {
		before = last.Kind.String()
		switch {
		case last.Failed || last.Ret > e.Call || last.Told > e.Asked:
		case last.Verdict == idem.VerdictYours:
			told = idem.VerdictAcquired.String()
		default:
			told = last.Verdict.String()
		}
	}
	return Next(before, told, e.Kind.String())
}

// Settles are calls that a proxy makes for another one's attempt, once the backend has
// said what became of it: the model of receipts has them, not this one.
func Settles() map[string]string {
	settles := map[string]string{}
	for _, asks := range []idem.Event{idem.EventComplete, idem.EventRelease} {
		settles[Next("begin", "nothing", asks.String())] = "the backend has said what became of what another process left unknown"
	}
	for _, told := range []string{"ok", "lost", "nothing"} {
		for _, asks := range []idem.Event{idem.EventComplete, idem.EventRelease} {
			settles[Next(idem.EventHold.String(), told, asks.String())] = "the backend has said what became of what was held"
		}
	}
	return settles
}
