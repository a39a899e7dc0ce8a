package storelog

import (
	"context"

	"github.com/idemproxy/idemproxy/idem"
)

// Store is what can be recorded.
type Store interface {
	idem.Store
	idem.Inspector
}

// Sink keeps events.
type Sink interface {
	// Begin is told what is about to be asked, and says when: of e, the answer is still to come.
	Begin(k idem.Key, e *Event)
	// End is told the answer, of which err is what the store returned.
	End(k idem.Key, e *Event, err error)
}

// Wrap is s, as one process has it, with sink in between.
func Wrap(s Store, sink Sink, process int) *Recorded {
	return &Recorded{Store: s, sink: sink, process: process}
}

// Recorded is a store whose calls are recorded.
type Recorded struct {
	Store

	sink    Sink
	process int
}

var _ idem.Notifier = (*Recorded)(nil)

// OnChange implements idem.Notifier, if the store does.
func (s *Recorded) OnChange(f func([16]byte)) {
	if n, ok := s.Store.(idem.Notifier); ok {
		n.OnChange(f)
	}
}

func (s *Recorded) begin(k idem.Key, e *Event) *Event {
	e.Process = s.process
	s.sink.Begin(k, e)
	return e
}

// Acquire implements idem.Store.
func (s *Recorded) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	var e Event
	e.Acquired(c, idem.Outcome{})
	s.begin(c.Key, &e)
	out, err := s.Store.Acquire(ctx, c)
	e.Acquired(c, out)
	s.sink.End(c.Key, &e, err)
	return out, err
}

func (s *Recorded) leased(event idem.Event, l idem.Lease, r *idem.Response) *Event {
	e := &Event{Kind: Kind(event), Response: ResponseID(r)}
	e.Leased(l)
	return s.begin(l.Key, e)
}

// Renew implements idem.Store.
func (s *Recorded) Renew(ctx context.Context, leases []idem.Lease) []error {
	events := make([]*Event, len(leases))
	for i, l := range leases {
		events[i] = s.leased(idem.EventRenew, l, nil)
	}
	errs := s.Store.Renew(ctx, leases)
	for i, l := range leases {
		s.sink.End(l.Key, events[i], errs[i])
	}
	return errs
}

// Complete implements idem.Store.
func (s *Recorded) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	e := s.leased(idem.EventComplete, l, r)
	err := s.Store.Complete(ctx, l, r)
	s.sink.End(l.Key, e, err)
	return err
}

// Release implements idem.Store.
func (s *Recorded) Release(ctx context.Context, l idem.Lease) error {
	e := s.leased(idem.EventRelease, l, nil)
	err := s.Store.Release(ctx, l)
	s.sink.End(l.Key, e, err)
	return err
}

// Hold implements idem.Store.
func (s *Recorded) Hold(ctx context.Context, l idem.Lease) error {
	e := s.leased(idem.EventHold, l, nil)
	err := s.Store.Hold(ctx, l)
	s.sink.End(l.Key, e, err)
	return err
}

// Get implements idem.Inspector.
func (s *Recorded) Get(ctx context.Context, k idem.Key) (idem.Record, error) {
	e := s.begin(k, &Event{Kind: Look})
	r, err := s.Store.Get(ctx, k)
	e.Looked(&r)
	s.sink.End(k, e, err)
	return r, err
}

// Resolve implements idem.Inspector.
func (s *Recorded) Resolve(ctx context.Context, k idem.Key, owner idem.Owner, r *idem.Response) error {
	e := s.begin(k, &Event{Kind: Kind(idem.ResolveEvent(r)), Owner: owner, Response: ResponseID(r)})
	err := s.Store.Resolve(ctx, k, owner, r)
	s.sink.End(k, e, err)
	return err
}

// Take implements idem.Inspector.
func (s *Recorded) Take(ctx context.Context, k idem.Key, owner idem.Owner) error {
	e := s.begin(k, &Event{Kind: Kind(idem.EventTake), Owner: owner})
	err := s.Store.Take(ctx, k, owner)
	s.sink.End(k, e, err)
	return err
}

// Purge implements idem.Inspector.
func (s *Recorded) Purge(ctx context.Context, k idem.Key) error {
	e := s.begin(k, &Event{Kind: Purge, Seen: idem.Unknown}) // something; which, a purge does not say
	err := s.Store.Purge(ctx, k)
	s.sink.End(k, e, err)
	return err
}
