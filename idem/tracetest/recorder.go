package tracetest

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/storelog"
)

// These are of what records the calls, which a process of the product can have, too.
type (
	// Event is one call of a store about one key, and what it answered.
	Event = storelog.Event
	// Kind is what was asked of a store.
	Kind = storelog.Kind
	// Made is what a request is compared by.
	Made = storelog.Made
	// Store is what a Recorder wraps.
	Store = storelog.Store
)

// The kinds besides those of [idem.Event].
const (
	Look  = storelog.Look
	Purge = storelog.Purge
)

// Recorder keeps what the stores of a run are asked and answer, a trace for each key.
type Recorder struct {
	begun time.Time
	base  time.Duration // the same moment, on the clock of files
	lag   time.Duration
	late  time.Duration
	liars bool
	early bool
	order atomic.Int64

	mu        sync.Mutex
	processes int                  // guarded by mu
	losses    []Event              // guarded by mu
	cut       map[idem.Key][]Event // guarded by mu; acquires that killed processes had no answer to
	traces    map[idem.Key][]Event // guarded by mu
}

// NewRecorder begins. lag is how long a process may go on replaying from its memory what
// another one purged.
func NewRecorder(lag time.Duration) *Recorder {
	return &Recorder{
		begun: time.Now(), base: storelog.Now(), lag: lag, late: InTransit,
		traces: map[idem.Key][]Event{}, cut: map[idem.Key][]Event{},
	}
}

// Doubt has the recorder not believe a store that says that something was certainly not
// done: its server lies.
func (r *Recorder) Doubt() { r.liars = true }

// Wrap is s, as one process has it, with the recorder in between.
func (r *Recorder) Wrap(s Store) *storelog.Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.processes++
	return storelog.Wrap(s, r, r.processes)
}

// Late says for how long what was not answered may still take effect, where that is longer
// than [InTransit].
func (r *Recorder) Late(d time.Duration) { r.late = max(d, InTransit) }

// Early says that the store is in its process, and tells others of a grant before it is on
// the disk. If the process is killed before that, nobody was granted anything, and the next
// process does not know what was told.
func (r *Recorder) Early() { r.early = true }

// forgotten says of an answer that it may have been about such a grant. r.mu is held.
func (r *Recorder) forgotten(k idem.Key, e Event) bool {
	about := e.Kind == Kind(idem.EventAcquire) && (e.Verdict == idem.VerdictInProgress || e.Verdict == idem.VerdictMismatch ||
		e.Verdict == idem.VerdictOtherRecipe) || e.Kind == Look && e.Seen == idem.InProgress
	return r.early && about && slices.ContainsFunc(r.cut[k], func(c Event) bool { return c.Process == e.Process && c.Call <= e.Ret })
}

// Lost has every trace allow for a loss: at some time between from and to, the store forgot
// all that it had, or it did not.
func (r *Recorder) Lost(from, to time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.losses = append(r.losses, Event{Kind: Purge, Failed: true, Call: from.Sub(r.begun), Ret: to.Sub(r.begun)})
}

// isLoss says of an event that it is one of Recorder.Lost.
func isLoss(e Event) bool { return e.Kind == Purge && e.Failed && e.Process == 0 }

// Traces are what was recorded, but for what came out of a process's memory while a purge
// was under way, or just after another process's: that may be stale, and says nothing.
func (r *Recorder) Traces() map[idem.Key][]Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := map[idem.Key][]Event{}
	for k, trace := range r.traces {
		trace = slices.Concat(trace, r.losses)
		for _, e := range trace {
			if (!e.Local || !r.stale(e, trace)) && !r.forgotten(k, e) {
				kept[k] = append(kept[k], e)
			}
		}
	}
	return kept
}

func (r *Recorder) stale(e Event, trace []Event) bool {
	return slices.ContainsFunc(trace, func(p Event) bool {
		until := p.Ret
		if p.Failed {
			until += r.late
		}
		if p.Process != e.Process {
			until += r.lag
		}
		return p.Kind == Purge && p.Call <= e.Ret && e.Call <= until
	})
}

// Check checks every trace, and joins the first that are wrong.
func (r *Recorder) Check() error {
	return r.each(func(trace []Event) error { return checkWithin(trace, r.late) })
}

// CheckCallers likewise: see the function.
func (r *Recorder) CheckCallers() error { return r.each(CheckCallers) }

// told is how many traces are told that are wrong: after a fault, all may be.
const told = 3

func (r *Recorder) each(check func([]Event) error) error {
	var errs []error
	for _, trace := range r.Traces() {
		if err := check(trace); err != nil {
			errs = append(errs, err)
		}
		if len(errs) == told {
			break
		}
	}
	return errors.Join(errs...)
}

// Both is Check and CheckCallers, for a run in which much had no answer. It counts the events,
// and the traces that are undecided, which is no error.
func (r *Recorder) Both() (events, undecided int, err error) {
	for _, trace := range r.Traces() {
		events += len(trace)
	}
	err = r.each(func(trace []Event) error {
		err := checkWithin(trace, r.late)
		if errors.Is(err, ErrUndecided) {
			undecided++
			err = nil
		}
		return errors.Join(err, CheckCallers(trace))
	})
	return events, undecided, err
}

func (r *Recorder) since() time.Duration { return time.Since(r.begun) }

// Begin implements [storelog.Sink].
func (r *Recorder) Begin(_ idem.Key, e *Event) { e.Call, e.Asked = r.since(), r.order.Add(1) }

// End implements [storelog.Sink].
func (r *Recorder) End(k idem.Key, e *Event, err error) {
	e.Told, e.Ret = r.order.Add(1), r.since()
	if !e.Answered(err, r.liars) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k = k.Clone()
	r.traces[k] = append(r.traces[k], *e)
}
