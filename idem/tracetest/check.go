package tracetest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// ErrUndecided says that a trace has too many calls at once to look for an order of them.
var ErrUndecided = errors.New("undecided: too many calls overlap")

// NoPathError is a trace that is no path.
type NoPathError struct {
	Trace []Event // up to the call whose answer was impossible, the last one
	was   []string
}

// shown is how many events before the impossible one are told.
const shown = 40

// Error prints the trace.
func (v *NoPathError) Error() string {
	var b strings.Builder
	b.WriteString("this trace is no path of the transition table and of the model:\n")
	if hidden := len(v.Trace) - shown; hidden > 0 {
		fmt.Fprintf(&b, "  (%d events before)\n", hidden)
	}
	for _, e := range v.Trace[max(0, len(v.Trace)-shown):] {
		fmt.Fprintf(&b, "  %v\n", e)
	}
	fmt.Fprintf(&b, "  The last answer is impossible. Before it the key was %s.", strings.Join(v.was, ", or "))
	return b.String()
}

// InTransit is for how long what was not answered may still take effect: its packets may
// be on their way.
const InTransit = 500 * time.Millisecond

// windows are what is tried for InTransit. What was not answered overlaps with all that
// comes in its window. A trace that is a path if that took effect soon or never, is one.
func windows(late time.Duration) []time.Duration {
	all := []time.Duration{0, 2 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, InTransit}
	if late > InTransit {
		all = append(all, late)
	}
	return all
}

// Slack is by how much milliseconds and two clocks may differ.
const Slack = 3 * time.Millisecond

// most is how many states are looked at for a trace; one that is a path needs far fewer, if
// not many of its calls had no answer.
const most = 200_000

// Check says whether the trace of one key is a path: nil, a [NoPathError] or [ErrUndecided].
// The key is one of which nothing is known at first.
func Check(trace []Event) error { return checkWithin(trace, InTransit) }

// checkWithin is Check where what was not answered may take effect for so long.
func checkWithin(trace []Event, late time.Duration) (err error) {
	for _, window := range windows(late) {
		if err = check(trace, window); err == nil {
			return nil
		}
	}
	return err
}

func check(trace []Event, window time.Duration) error {
	rules := *allowed()
	rules.lost = slices.ContainsFunc(trace, isLoss)
	c := checker{
		rules: &rules, trace: trace,
		now: map[config]bool{{}: true}, slots: map[int]int{},
	}
	for _, m := range moments(trace, window) {
		var err error
		switch m.kind {
		case called:
			err = c.call(m.event)
		case answered:
			err = c.answer(m.event, m.at)
		case over:
			err = c.end(m.event, m.at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moment is when something happens to a call.
type moment struct {
	at    time.Duration
	kind  momentKind
	event int
	order int64 // among those at a time
}

type momentKind uint8

const (
	called   momentKind = iota // first: what is called when another one returns, overlaps with it
	answered                   // it must have taken effect by now
	over                       // it had no answer, and takes effect no more
)

// moments are those of a trace, in order.
func moments(trace []Event, window time.Duration) (all []moment) {
	for i, e := range trace {
		last := moment{e.Ret, answered, i, e.Told}
		if e.Failed {
			until := e.Ret + window
			if e.Within != 0 {
				until = max(e.Ret, min(until, e.Call+e.Within))
			}
			last = moment{until, over, i, math.MaxInt64}
		}
		all = append(all, moment{e.Call, called, i, e.Asked}, last)
	}
	slices.SortStableFunc(all, func(a, b moment) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order), cmp.Compare(a.kind, b.kind))
	})
	return all
}

// config is a state that the key may be in, and which of the calls under way have
// already taken effect.
type config struct {
	possible
	done uint64 // a bit for each slot
}

// checker goes through a trace with all states that are possible: a call takes effect at
// the latest when an answer needs it.
type checker struct {
	*rules

	trace []Event
	now   map[config]bool
	slots map[int]int // of events under way
	used  uint64      // slots
	loose uint64      // of these, slots of what has no answer

	had  []possible // what the key has been, in a trace with a loss
	gone bool       // there was a loss

	looked int // how many states were looked at
}

func (c *checker) call(event int) error {
	slot := bits.TrailingZeros64(^c.used)
	if slot == 64 {
		return ErrUndecided
	}
	c.slots[event] = slot
	c.used |= 1 << slot
	if c.lost {
		c.remember()
	}
	if c.gone = c.gone || isLoss(c.trace[event]); c.gone {
		c.past = c.had
	}
	if c.trace[event].Failed {
		c.loose |= 1 << slot
	}
	return nil
}

// mostPast bounds what a key has been, of which each has to be looked at.
const mostPast = 50

// remember notes what the key may be now.
func (c *checker) remember() {
	for s := range c.now {
		if s.known && len(c.had) < mostPast && !slices.Contains(c.had, s.possible) {
			c.had = append(c.had, s.possible)
		}
	}
}

func (c *checker) forget(event int) {
	bit := uint64(1) << c.slots[event]
	delete(c.slots, event)
	c.used &^= bit
	c.loose &^= bit
	next := map[config]bool{}
	for s := range c.now {
		s.done &^= bit
		next[s] = true
	}
	c.now = next
}

// answer keeps the states in which the event has taken effect by then.
func (c *checker) answer(event int, then time.Duration) error {
	found, err := c.taken(event, then)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return c.violation(event)
	}
	c.now = c.least(found)
	c.forget(event)
	return nil
}

// end keeps the states in which the event, which had no answer, has taken effect by then,
// and those in which it never does.
func (c *checker) end(event int, then time.Duration) error {
	found, err := c.taken(event, then)
	if err != nil {
		return err
	}
	maps.Copy(c.now, found)
	c.forget(event)
	c.now = c.least(c.now)
	return nil
}

// taken are the states in which the event has taken effect by then, as the last of those
// that do for it.
func (c *checker) taken(event int, then time.Duration) (found map[config]bool, err error) {
	bit := uint64(1) << c.slots[event]
	found, seen := map[config]bool{}, map[config]bool{}
	todo := slices.Collect(maps.Keys(c.now))
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[s] {
			continue
		}
		seen[s] = true
		if c.looked++; c.looked > most {
			return nil, ErrUndecided
		}
		if s.done&bit != 0 {
			found[s] = true
			continue
		}
		for other, slot := range c.slots {
			if s.done&(1<<slot) == 0 {
				todo = append(todo, c.takes(s, other, slot, then)...)
			}
		}
	}
	return found, nil
}

// takes is what s may be once the event has taken effect.
func (c *checker) takes(s config, event, slot int, then time.Duration) (next []config) {
	e := &c.trace[event]
	for _, p := range c.after(s.possible, e, then) {
		if e.Failed && p == s.possible {
			continue // it makes no difference, and may yet make one
		}
		next = append(next, config{p, s.done | 1<<slot})
	}
	return next
}

// least leaves out states from which nothing is possible that is not from another one: the
// same with fewer of the calls used up that need no answer.
func (c *checker) least(all map[config]bool) map[config]bool {
	if c.loose == 0 {
		return all
	}
	type group struct {
		possible
		done uint64
	}
	groups := map[group][]uint64{}
	for s := range all {
		g := group{s.possible, s.done &^ c.loose}
		groups[g] = append(groups[g], s.done)
	}
	kept := map[config]bool{}
	for g, dones := range groups {
		for _, d := range dones {
			if !slices.ContainsFunc(dones, func(fewer uint64) bool { return fewer != d && fewer&^d == 0 }) {
				kept[config{g.possible, d}] = true
			}
		}
	}
	return kept
}

func (c *checker) violation(event int) error {
	at := c.trace[event]
	v := &NoPathError{}
	for i, e := range c.trace {
		if i != event && (e.Ret <= at.Ret || e.Failed && e.Call <= at.Ret) {
			v.Trace = append(v.Trace, e)
		}
	}
	slices.SortStableFunc(v.Trace, func(a, b Event) int { return cmp.Or(cmp.Compare(a.Ret, b.Ret), cmp.Compare(a.Told, b.Told)) })
	v.Trace = append(v.Trace, at)
	was := map[string]bool{}
	for s := range c.now {
		was[s.String()] = true
	}
	v.was = slices.Sorted(maps.Keys(was))
	return v
}

// String is the state for who looks for a fault.
func (p possible) String() string {
	if !p.known {
		return "not known"
	}
	text := fmt.Sprintf("%v of %.4x, attempt %d", p.state, p.owner, p.attempt)
	if (p.state == idem.InProgress || p.state == idem.Completed) && p.ends != never {
		text += fmt.Sprintf(" (until %.3f ms or later)", float64(p.ends)/float64(time.Millisecond))
	}
	return text
}
