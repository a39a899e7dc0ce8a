package storelog

import (
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// Kind is what was asked of a store: an event of the transition table, or one of those
// that the table does not have.
type Kind uint8

// The kinds besides those of [idem.Event].
const (
	Look  Kind = 100 + iota // an operator looks at the record
	Purge                   // the record is forgotten
)

// String is what a trace calls it.
func (k Kind) String() string {
	switch k {
	case Look:
		return "look"
	case Purge:
		return "purge"
	default:
		return idem.Event(k).String()
	}
}

// Event is one call of a store about one key, and what it answered.
type Event struct {
	Kind    Kind       `json:",omitzero"`
	Process int        `json:",omitzero"` // by whom the store was asked
	Owner   idem.Owner `json:",omitzero"`
	// Made is by what the request is compared; of an acquire.
	Made Made `json:",omitzero"`
	// HoldOnLapse, Within and the times are as in idem.Claim and idem.Lease.
	HoldOnLapse                      bool          `json:",omitzero"`
	TTL, Retention, Remember, Within time.Duration `json:",omitzero"`
	// Response stands for what is completed, or what was told: see ResponseID.
	Response uint64 `json:",omitzero"`

	// Verdict is the answer; of a Look and a Purge it means nothing.
	Verdict idem.Verdict `json:",omitzero"`
	Attempt uint32       `json:",omitzero"`
	Seen    idem.State   `json:",omitzero"` // what a Look found; Absent for nothing. Of a Purge: Absent if there was nothing
	// Failed: there was no answer. It may have taken effect, or may yet.
	Failed bool `json:",omitzero"`
	// Local: it came out of the process's memory.
	Local bool `json:",omitzero"`

	// Call and Ret are when it was asked and answered.
	Call, Ret time.Duration `json:",omitzero"`
	// Asked and Told order what has the same time, as all has on a fake clock.
	Asked, Told int64 `json:",omitzero"`
}

// Made is what a request is compared by.
type Made struct {
	Recipe      idem.Recipe      `json:",omitzero"`
	Fingerprint idem.Fingerprint `json:",omitzero"`
	Binding     idem.Binding     `json:",omitzero"`
}

// Acquired notes what an acquire asked for, and its answer.
func (e *Event) Acquired(c idem.Claim, out idem.Outcome) {
	e.Kind, e.Owner = Kind(idem.EventAcquire), c.Owner
	e.Made = Made{c.Recipe, c.Fingerprint, c.Binding}
	e.HoldOnLapse, e.TTL, e.Retention, e.Remember, e.Within = c.HoldOnLapse, c.TTL, c.Retention, c.Remember, c.Within
	e.Verdict, e.Attempt, e.Local, e.Response = out.Kind, out.Attempt, out.Local, ResponseID(out.Response)
}

// Leased notes for which lease something was asked.
func (e *Event) Leased(l idem.Lease) {
	e.Owner, e.TTL, e.Retention, e.Remember = l.Owner, l.TTL, l.Retention, l.Remember
}

// Looked notes what a look found.
func (e *Event) Looked(r *idem.Record) {
	e.Seen, e.Owner, e.Attempt, e.Response = r.State, r.Owner, r.Attempt, ResponseID(r.Response)
	e.Made.Recipe = r.Recipe
}

// String is a line of a trace.
func (e Event) String() string {
	text := fmt.Sprintf("%9.3f to %9.3f ms, process %d: %v", ms(e.Call), ms(e.Ret), e.Process, e.Kind)
	if e.Owner != (idem.Owner{}) {
		text += fmt.Sprintf(" by %.4x", e.Owner)
	}
	if e.Kind == Kind(idem.EventAcquire) {
		text += fmt.Sprintf(" of %.2x by recipe %v for %v", e.Made.Fingerprint[:4], e.Made.Recipe, e.TTL)
	}
	if e.Local {
		text += ", from memory"
	}
	switch {
	case e.Failed:
		return text + ": no answer"
	case e.Kind == Look:
		return fmt.Sprintf("%s: %v, attempt %d", text, e.Seen, e.Attempt)
	case e.Kind == Purge:
		return fmt.Sprintf("%s: found %v", text, e.Seen != idem.Absent)
	case e.Attempt > 0:
		return fmt.Sprintf("%s: %v, attempt %d", text, e.Verdict, e.Attempt)
	}
	return fmt.Sprintf("%s: %v", text, e.Verdict)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Answered notes the answer that err is, or is not. It returns false if the call certainly
// did nothing, which is no event; liars are not believed who say so.
func (e *Event) Answered(err error, liars bool) bool {
	switch {
	case errors.Is(err, idem.ErrRefused) && !liars, errors.Is(err, idem.ErrClosed):
		return false
	case err != nil && e.Kind == Look && !errors.Is(err, idem.ErrNotFound):
		return false
	case errors.Is(err, idem.ErrLeaseLost):
		e.Verdict = idem.VerdictLost
	case errors.Is(err, idem.ErrNotUnknown):
		e.Verdict = idem.VerdictNotUnknown
	case errors.Is(err, idem.ErrNotFound):
		e.Seen = idem.Absent
	case err != nil:
		e.Failed = true
	case e.Kind != Kind(idem.EventAcquire):
		e.Verdict = idem.VerdictOK
	}
	return true
}

// ResponseID stands for a response: 0 for none, and for one whose body was not kept.
func ResponseID(r *idem.Response) uint64 {
	if r == nil || r.BodyOmitted {
		return 0
	}
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, r.Status) // a hash takes everything
	_, _ = h.Write(r.Body)
	return h.Sum64()
}
