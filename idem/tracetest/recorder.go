package tracetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// Store is what a Recorder wraps.
type Store interface {
	idem.Store
	idem.Inspector
}

// Recorder keeps what the stores of a run are asked and answer, a trace for each key.
type Recorder struct {
	begun time.Time
	lag   time.Duration
	liars bool
	order atomic.Int64

	mu        sync.Mutex
	processes int                  // guarded by mu
	traces    map[idem.Key][]Event // guarded by mu
}

// NewRecorder begins. lag is how long a process may go on replaying from its memory what
// another one purged.
func NewRecorder(lag time.Duration) *Recorder {
	return &Recorder{begun: time.Now(), lag: lag, traces: map[idem.Key][]Event{}}
}

// Doubt has the recorder not believe a store that says that something was certainly not
// done: its server lies.
func (r *Recorder) Doubt() { r.liars = true }

// Wrap is s, as one process has it, with the recorder in between.
func (r *Recorder) Wrap(s Store) *Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.processes++
	return &Recorded{Store: s, recorder: r, process: r.processes}
}

// Traces are what was recorded, but for what came out of a process's memory while a purge
// was under way, or just after another process's: that may be stale, and says nothing.
func (r *Recorder) Traces() map[idem.Key][]Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := map[idem.Key][]Event{}
	for k, trace := range r.traces {
		for _, e := range trace {
			if !e.Local || !r.stale(e, trace) {
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
			until += InTransit
		}
		if p.Process != e.Process {
			until += r.lag
		}
		return p.Kind == Purge && p.Call <= e.Ret && e.Call <= until
	})
}

// Check checks every trace, and joins the first that are wrong.
func (r *Recorder) Check() error { return r.each(Check) }

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

func (r *Recorder) since() time.Duration { return time.Since(r.begun) }

// add notes an event that has its answer, which err is or is not. One that certainly was
// not done is none.
func (r *Recorder) add(k idem.Key, e Event, err error) {
	e.told, e.Ret = r.order.Add(1), r.since()
	switch {
	case errors.Is(err, idem.ErrRefused) && !r.liars, errors.Is(err, idem.ErrClosed):
		return
	case err != nil && e.Kind == Look && !errors.Is(err, idem.ErrNotFound):
		return
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
	r.mu.Lock()
	defer r.mu.Unlock()
	k = k.Clone()
	r.traces[k] = append(r.traces[k], e)
}

// Recorded is a store whose calls are recorded.
type Recorded struct {
	Store

	recorder *Recorder
	process  int
}

var _ idem.Notifier = (*Recorded)(nil)

// OnChange implements idem.Notifier, if the store does.
func (s *Recorded) OnChange(f func([16]byte)) {
	if n, ok := s.Store.(idem.Notifier); ok {
		n.OnChange(f)
	}
}

func (s *Recorded) begin(kind Kind, owner idem.Owner) Event {
	return Event{Kind: kind, Process: s.process, Owner: owner, Call: s.recorder.since(), asked: s.recorder.order.Add(1)}
}

// Acquire implements idem.Store.
func (s *Recorded) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	e := s.begin(Kind(idem.EventAcquire), c.Owner)
	out, err := s.Store.Acquire(ctx, c)
	e.acquire(c, out)
	s.recorder.add(c.Key, e, err)
	return out, err
}

func (s *Recorded) leased(event idem.Event, l idem.Lease) Event {
	e := s.begin(Kind(event), l.Owner)
	e.lease(l)
	return e
}

// Renew implements idem.Store.
func (s *Recorded) Renew(ctx context.Context, leases []idem.Lease) []error {
	events := make([]Event, len(leases))
	for i, l := range leases {
		events[i] = s.leased(idem.EventRenew, l)
	}
	errs := s.Store.Renew(ctx, leases)
	for i, l := range leases {
		s.recorder.add(l.Key, events[i], errs[i])
	}
	return errs
}

// Complete implements idem.Store.
func (s *Recorded) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	e := s.leased(idem.EventComplete, l)
	e.Response = responseID(r)
	err := s.Store.Complete(ctx, l, r)
	s.recorder.add(l.Key, e, err)
	return err
}

// Release implements idem.Store.
func (s *Recorded) Release(ctx context.Context, l idem.Lease) error {
	e := s.leased(idem.EventRelease, l)
	err := s.Store.Release(ctx, l)
	s.recorder.add(l.Key, e, err)
	return err
}

// Hold implements idem.Store.
func (s *Recorded) Hold(ctx context.Context, l idem.Lease) error {
	e := s.leased(idem.EventHold, l)
	err := s.Store.Hold(ctx, l)
	s.recorder.add(l.Key, e, err)
	return err
}

// Get implements idem.Inspector.
func (s *Recorded) Get(ctx context.Context, k idem.Key) (idem.Record, error) {
	e := s.begin(Look, idem.Owner{})
	r, err := s.Store.Get(ctx, k)
	e.look(&r)
	s.recorder.add(k, e, err)
	return r, err
}

// Resolve implements idem.Inspector.
func (s *Recorded) Resolve(ctx context.Context, k idem.Key, owner idem.Owner, r *idem.Response) error {
	e := s.begin(Kind(idem.ResolveEvent(r)), owner)
	e.Response = responseID(r)
	err := s.Store.Resolve(ctx, k, owner, r)
	s.recorder.add(k, e, err)
	return err
}

// Take implements idem.Inspector.
func (s *Recorded) Take(ctx context.Context, k idem.Key, owner idem.Owner) error {
	e := s.begin(Kind(idem.EventTake), owner)
	err := s.Store.Take(ctx, k, owner)
	s.recorder.add(k, e, err)
	return err
}

// Purge implements idem.Inspector.
func (s *Recorded) Purge(ctx context.Context, k idem.Key) error {
	e := s.begin(Purge, idem.Owner{})
	e.Seen = idem.Unknown // something; which, a purge does not say
	err := s.Store.Purge(ctx, k)
	s.recorder.add(k, e, err)
	return err
}
