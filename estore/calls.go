package estore

import (
	"context"
	"errors"
	"fmt"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// Acquire implements idem.Store. A new lease costs one shared fsync, everything
// else no wait for the disk.
func (s *Store) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	if err := s.enter(); err != nil {
		return idem.Outcome{}, err
	}
	defer s.leave()
	asked := s.clock.now()
	if out, ok := s.replayed(&c, asked); ok {
		return out, nil
	}
	for {
		out, change, again, err := s.ask(ctx, &c, asked)
		if err == nil && change != nil {
			err = change.wait(ctx)
		}
		if err != nil {
			return idem.Outcome{}, err
		}
		if !again {
			return out, nil
		}
	}
}

// replayed answers from the replay cache, without the shard's lock, which the askers
// of one key would queue for. What is there is completed and on the disk, and
// nothing but a purge changes that before its response has ended. A purge takes it
// out before it begins.
func (s *Store) replayed(c *idem.Claim, now int64) (idem.Outcome, bool) {
	r, ok := s.cache.GetIfPresent(c.Key.ID())
	if !ok || now >= r.ReplayUntil {
		return idem.Outcome{}, false
	}
	next, out := r.Acquire(*c, now)
	out.Local = true
	return out, next == nil
}

// ask is Acquire up to where it waits for a change to be on the disk; again says
// that it is then to be asked again. What is given out is on the disk: also to the
// owner who asks a second time since the first answer did not come, and not while
// the key is being purged.
func (s *Store) ask(ctx context.Context, c *idem.Claim, asked int64) (out idem.Outcome, change *group, again bool, err error) {
	k := c.Key.ID()
	sh := s.shard(k)
	v, err := s.look(ctx, sh, k)
	if err != nil {
		return idem.Outcome{}, nil, false, err
	}
	defer sh.mu.Unlock()
	next, out := v.record.Acquire(*c, v.now)
	out.Local = v.cached
	switch {
	case v.pending != nil && (next != nil || out.Kind == idem.VerdictCompleted):
		return out, v.pending, true, nil
	case next == nil:
		return out, nil, false, nil
	case out.Kind == idem.VerdictYours:
		sh.live[k].record = *next
		return out, nil, false, nil
	case c.Within > 0 && v.now-asked > c.Within.Milliseconds():
		return out, nil, false, refused(errLate)
	}
	change, err = s.grant(sh, k, next, v.lease)
	return out, change, false, err
}

// errLate: the claim's Within has passed.
var errLate = errors.New("the claim was not granted in time")

// grant puts a new lease in place, of the one before if there is one. The caller holds the shard, and waits for the
// change.
func (s *Store) grant(sh *shard, k id, next *idem.Record, before uint64) (*group, error) {
	if s.diskLow.Load() {
		return nil, refused(ErrDiskLow)
	}
	value, number := next.Append(nil), s.numbers.Add(1)
	g, err := s.write(func(g *group) error {
		return errors.Join(g.dropLease(before), g.leases.Set(leaseKey(number), value, nil))
	})
	if err != nil {
		return nil, err
	}
	sh.live[k] = &entry{record: *next, lease: number, pending: g}
	return g, nil
}

// Renew implements idem.Store. It never waits, and needs nothing but memory:
// every record in progress is there.
func (s *Store) Renew(_ context.Context, leases []idem.Lease) []error {
	errs := make([]error, len(leases))
	err := s.enter()
	if err == nil {
		defer s.leave()
	}
	for i := range leases {
		if errs[i] = err; err == nil {
			errs[i] = s.renew(&leases[i])
		}
	}
	return errs
}

func (s *Store) renew(l *idem.Lease) error {
	k := l.Key.ID()
	sh := s.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.entry(k)
	if e == nil || e.unreadable != nil {
		return idem.ErrLeaseLost
	}
	now := s.clock.now()
	next, err := e.seen(now).Apply(idem.EventRenew, *l, nil, now)
	switch {
	case err != nil:
		return err
	case e.record.Ended(now) && (e.pending == nil || e.leaving && e.lapsed): // or it is being swept
		return idem.ErrLeaseLost
	case e.pending != nil && !e.leaving:
		return fmt.Errorf("%w: the lease is not on the disk yet", idem.ErrUnavailable)
	}
	next.Key = e.record.Key // not l.Key, whose bytes are the caller's
	e.record = *next
	return nil
}

// Complete implements idem.Store; it waits for one shared fsync.
func (s *Store) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	if err := idem.CheckResponse(r); err != nil {
		return err
	}
	return s.apply(ctx, idem.EventComplete, l, r)
}

// Release implements idem.Store; it waits for one shared fsync.
func (s *Store) Release(ctx context.Context, l idem.Lease) error {
	return s.apply(ctx, idem.EventRelease, l, nil)
}

// Hold implements idem.Store; it waits for one shared fsync.
func (s *Store) Hold(ctx context.Context, l idem.Lease) error {
	return s.apply(ctx, idem.EventHold, l, nil)
}

// apply takes a record out of progress, or from unknown to what it was.
func (s *Store) apply(ctx context.Context, e idem.Event, l idem.Lease, response *idem.Response) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	response, err := idem.SealResponse(s.config.Codec, l.Key, response)
	if err != nil {
		return fmt.Errorf("sealing a response: %w", err)
	}
	k := l.Key.ID()
	sh := s.shard(k)
	v, err := s.lookAlone(ctx, sh, k)
	if err != nil {
		return err
	}
	next, err := v.record.Apply(e, l, response, v.now)
	if err != nil || next == nil {
		sh.mu.Unlock()
		return err
	}
	value := s.settledValue(next)
	defer s.giveBack(value)
	return s.depart(ctx, sh, k, &entry{record: *v.record, lease: v.lease}, func(g *group) error {
		s.known.add(k)
		return g.putSettled(k, next, *value)
	})
}

// depart writes changes that take a record out of e, which others see until they
// are on the disk, and waits for that. The caller holds the shard; depart unlocks
// it.
//
// What is in the replay cache needs no care here: of a key that is completed
// nothing but purging takes the response, and one whose response has ended is
// never answered from the cache, whatever becomes of the key.
func (s *Store) depart(ctx context.Context, sh *shard, k id, e *entry, changes func(*group) error) error {
	g, err := s.write(func(g *group) error { return errors.Join(changes(g), g.dropLease(e.lease)) })
	if err != nil {
		sh.mu.Unlock()
		return err
	}
	e.pending, e.leaving, e.lapsed = g, true, e.record.StateAt(s.clock.now()) == idem.Unknown
	sh.live[k] = e
	sh.mu.Unlock()
	if err := g.wait(ctx); err != nil {
		return err
	}
	failpoint.Reach("record-durable")
	sh.mu.Lock()
	sh.entry(k) // which takes it out
	sh.mu.Unlock()
	return nil
}
