package tracetest

import (
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// never is when something ends that does not.
const never = time.Duration(-1)

// possible is a state that a key may be in. The zero value is a key of which nothing is
// known. What time makes of it is moved to explicitly: see moves.
type possible struct {
	state    idem.State
	known    bool // there is a record
	owner    idem.Owner
	made     Made
	holds    bool
	attempt  uint32
	response uint64
	// The horizons, as the last claim said, and the earliest moments at which the lease or
	// the retention ends, and the record.
	retention, remember time.Duration
	ends, forgotten     time.Duration
}

// rules are what the table and the model allow, looked up once.
type rules struct {
	rows  map[cell]idem.Transition // those that are the model's, too
	moved map[move]bool
	lost  bool // the store lost what it had: it counts attempts from anywhere, since a journal may bring a count back
	// past is what the key has been, and is empty before the first loss. After it, the journal of
	// a proxy that stood still or was cut off may bring back what was there longer ago than what
	// was lost.
	past []possible
}

type cell struct {
	from  idem.State
	event idem.Event
	who   idem.Who
	same  idem.Same
}

type move struct {
	name     string
	from, to idem.State
}

func newRules() *rules {
	r := &rules{rows: map[cell]idem.Transition{}, moved: map[move]bool{}}
	model, beyond := Model(), Beyond()
	for from := idem.Absent; from <= idem.Expired; from++ {
		for to := idem.Absent; to <= idem.Expired; to++ {
			for _, name := range []string{Lapses, Expires, Ends, Purged} {
				r.moved[move{name, from, to}] = model.Has(Move(name, from, to))
			}
		}
		for event := idem.EventAcquire; event <= idem.EventTake; event++ {
			r.add(from, event, model, beyond)
		}
	}
	return r
}

func (r *rules) add(from idem.State, event idem.Event, model *Automaton, beyond map[string]string) {
	for _, who := range []idem.Who{idem.Holder, idem.Stranger} {
		for _, same := range []idem.Same{idem.SamePayload, idem.OtherPayload, idem.OtherRecipe} {
			row, ok := Row(from, event, who, same)
			if line := Step(row); ok && (model.Has(line) || beyond[line] != "") {
				r.rows[cell{from, event, who, same}] = row
			}
		}
	}
}

// allowed are the rules; nothing writes to them.
var allowed = sync.OnceValue(newRules) //nolint:gochecknoglobals // constant data, computed

// moves are the states that time may have made of p until then, p itself first.
func (r *rules) moves(p possible, until time.Duration) []possible {
	all := []possible{p}
	if !p.known {
		for _, before := range r.past {
			all = append(all, r.moves(before, until)...)
		}
	}
	over := func(end time.Duration) bool { return end != never && until+Slack >= end }
	add := func(name string, next possible) {
		if r.moved[move{name, p.state, next.state}] {
			all = append(all, next)
		}
	}
	switch {
	case p.state == idem.InProgress && over(p.ends):
		next := p
		next.state = idem.Lapsed
		if p.holds {
			next.state = idem.Unknown
		}
		add(Lapses, next)
	case p.state == idem.Completed && over(p.ends):
		next := p
		next.state = idem.Expired
		add(Expires, next)
	}
	last := all[len(all)-1].state // through which it comes to its end
	if p.known && over(p.forgotten) && r.moved[move{Ends, last, idem.Absent}] {
		all = append(all, possible{})
	}
	return all
}

// after is every state that the key may be in after e, which took effect until then; none
// if e's answer was impossible.
func (r *rules) after(before possible, e *Event, until time.Duration) (next []possible) {
	for _, p := range r.moves(before, until) {
		switch e.Kind {
		case Look:
			if p.looksLike(e) {
				next = append(next, stays(before, p))
			}
		case Purge:
			// Of a key that is free a store may know how often it was tried, and say either.
			fits := e.Failed || (e.Seen != idem.Absent) == p.stands() || p.known && !p.stands()
			if fits && (!p.known || r.moved[move{Purged, p.state, idem.Absent}]) {
				next = append(next, possible{})
			}
		default:
			next = append(next, r.step(before, p, e)...)
		}
	}
	return next
}

// stands says that an operator sees a record.
func (p *possible) stands() bool { return p.state != idem.Absent && p.state != idem.Lapsed }

// looksLike says whether e may have found p. Of a key that is free nothing is found.
func (p *possible) looksLike(e *Event) bool {
	if !p.stands() || e.Seen == idem.Absent {
		return !p.stands() && e.Seen == idem.Absent
	}
	return p.state == e.Seen && p.owner == e.Owner && p.made.Recipe == e.Made.Recipe && p.attempt == e.Attempt &&
		(p.state != idem.Completed || alike(p.response, e.Response))
}

// alike says whether two may be the same response: 0 is one that is not known.
func alike(a, b uint64) bool { return a == 0 || b == 0 || a == b }

// stays is what before has become for good when somebody was told that it is now. Not so
// a lease that was seen lapsed: while its owner's late ending is on its way to the disk, a
// store may say again that the attempt is in progress.
func stays(before, now possible) possible {
	if now.state == idem.Expired || !now.known {
		return now
	}
	return before
}

// step is what an event of the table makes of p.
func (r *rules) step(before, p possible, e *Event) []possible {
	who, same := p.compare(e)
	row, ok := r.rows[cell{p.state, idem.Event(e.Kind), who, same}]
	if !ok || !e.Failed && row.Verdict != e.Verdict {
		return nil
	}
	granted := row.Verdict == idem.VerdictAcquired || row.Verdict == idem.VerdictYours
	renewed := row.Event == idem.EventRenew && row.Verdict == idem.VerdictOK
	if row.From == row.To && !granted && !renewed {
		if row.Verdict == idem.VerdictCompleted && !e.Failed && !alike(p.response, e.Response) {
			return nil
		}
		return []possible{stays(before, p)}
	}
	p.enter(row, e)
	if granted && !e.Failed && p.attempt != e.Attempt {
		if !r.lost {
			return nil
		}
		p.attempt = e.Attempt
	}
	return []possible{p}
}

func (p *possible) compare(e *Event) (who idem.Who, same idem.Same) {
	who, same = idem.Stranger, idem.SamePayload
	if p.known && (p.owner == e.Owner || idem.Event(e.Kind).Resolves() && e.Owner == idem.Owner{}) {
		who = idem.Holder
	}
	if e.Kind != Kind(idem.EventAcquire) {
		return who, same
	}
	switch {
	case p.made.Recipe != e.Made.Recipe:
		same = idem.OtherRecipe
	case p.made != e.Made:
		same = idem.OtherPayload
	}
	return who, same
}

// enter writes what the row writes.
func (p *possible) enter(row idem.Transition, e *Event) {
	switch row.Verdict {
	case idem.VerdictAcquired:
		*p = possible{known: true, owner: e.Owner, made: e.Made, holds: e.HoldOnLapse, attempt: p.attempt + 1}
	case idem.VerdictYours:
		p.holds = e.HoldOnLapse
	default:
	}
	p.state = row.To
	if row.Event.Resolves() {
		p.owner = idem.Owner{} // it is the operator's: no late ending of the attempt is what was done
	}
	if e.Retention > 0 {
		p.retention, p.remember = e.Retention, e.Remember
	}
	p.response, p.ends, p.forgotten = 0, never, never
	switch row.To {
	case idem.InProgress:
		if p.ends = e.Call + e.TTL; !p.holds {
			p.forgotten = p.ends + p.retention
		}
	case idem.Completed:
		p.response = e.Response
		p.ends = e.Call + p.retention
		p.forgotten = p.ends + p.remember
	case idem.Absent:
		p.forgotten = e.Call + p.retention
	default:
	}
}
