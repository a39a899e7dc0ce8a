package estore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/idemproxy/idemproxy/idem"
)

// Get implements idem.Inspector.
func (s *Store) Get(ctx context.Context, key idem.Key) (idem.Record, error) {
	if err := s.enter(); err != nil {
		return idem.Record{}, err
	}
	defer s.leave()
	k := key.ID()
	sh := s.shard(k)
	v, err := s.look(ctx, sh, k)
	if err != nil {
		return idem.Record{}, err
	}
	defer sh.mu.Unlock()
	return v.record.Inspect(v.now)
}

// Resolve implements idem.Inspector.
func (s *Store) Resolve(ctx context.Context, key idem.Key, owner idem.Owner, r *idem.Response) error {
	if r != nil {
		if err := idem.CheckResponse(r); err != nil {
			return err
		}
	}
	err := s.apply(ctx, idem.ResolveEvent(r), idem.Lease{Key: key, Owner: owner}, r)
	s.changed(key.ID())
	return err
}

// Take implements idem.Inspector; it waits for one shared fsync.
func (s *Store) Take(ctx context.Context, key idem.Key, owner idem.Owner) error {
	return s.apply(ctx, idem.EventTake, idem.Lease{Key: key, Owner: owner}, nil)
}

// OnChange implements idem.Notifier: nobody else writes here but the operator.
func (s *Store) OnChange(f func(id [16]byte)) { s.onChange.Store(&f) }

func (s *Store) changed(k id) {
	if f := s.onChange.Load(); f != nil {
		(*f)(k)
	}
}

// Purge implements idem.Inspector. It works on what cannot be read, too.
func (s *Store) Purge(ctx context.Context, key idem.Key) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	k := key.ID()
	defer s.changed(k)
	sh := s.shard(k)
	v, err := s.lookAlone(ctx, sh, k)
	s.cache.Invalidate(k) // nobody puts it there again: depart's entry comes first
	e := &entry{lease: v.lease}
	switch {
	case errors.Is(err, idem.ErrUnavailable):
		return err
	case err != nil:
		e.unreadable = err
		sh.mu.Lock()
	case v.record == nil:
		sh.mu.Unlock()
		return idem.ErrNotFound
	default:
		e.record = *v.record
	}
	return s.depart(ctx, sh, k, e, func(g *group) error { return g.batch.Delete(settledKey(k), nil) })
}

// List implements idem.Inspector.
func (s *Store) List(ctx context.Context, visit func(*idem.Record) bool) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	seen := map[id]struct{}{} // among the leases: what has ended since is in the other place, too
	var unread idem.Unread
	more, err := s.listSpace(ctx, leaseSpace, &unread, func(r *idem.Record) bool {
		seen[r.Key.ID()] = struct{}{}
		return visit(r)
	})
	if err == nil && more {
		more, err = s.listSpace(ctx, settledSpace, &unread, func(r *idem.Record) bool {
			if len(seen) > 0 {
				if _, twice := seen[r.Key.ID()]; twice {
					return true
				}
			}
			return visit(r)
		})
	}
	if err == nil && more {
		err = unread.Err()
	}
	return err
}

// Find implements idem.Inspector: it seeks to the place of settled records, and looks
// through those in progress.
func (s *Store) Find(ctx context.Context, digest []byte) (key idem.Key, err error) {
	if err := s.enter(); err != nil {
		return key, err
	}
	defer s.leave()
	visit := func(r *idem.Record) bool {
		if id := r.Key.ID(); bytes.HasPrefix(id[:], digest) {
			key = r.Key.Clone()
		}
		return key == (idem.Key{})
	}
	var unread idem.Unread
	more, err := s.listRange(ctx, settledSpace, append([]byte{settledSpace}, digest...), &unread, visit)
	if err == nil && more {
		more, err = s.listSpace(ctx, leaseSpace, &unread, visit)
	}
	if err == nil && more {
		err = unread.Or(idem.ErrNotFound)
	}
	return key, err
}

// listSpace looks the record of each key up where it is now: a live one is
// renewed in memory only.
func (s *Store) listSpace(
	ctx context.Context, space byte, unread *idem.Unread, visit func(*idem.Record) bool,
) (more bool, err error) {
	return s.listRange(ctx, space, []byte{space}, unread, visit)
}

// listRange is listSpace for what begins with prefix.
func (s *Store) listRange(
	ctx context.Context, space byte, prefix []byte, unread *idem.Unread, visit func(*idem.Record) bool,
) (more bool, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return false, engineError(err)
	}
	defer func() { err = errors.Join(err, engineError(it.Close())) }()
	for it.First(); it.Valid(); it.Next() {
		if ctx.Err() != nil {
			return false, ctx.Err() //nolint:wrapcheck // the caller's own
		}
		if err := s.writes.refusal(); err != nil {
			return false, err
		}
		value, err := valueAt(it)
		if err != nil {
			return false, engineError(err)
		}
		r, err := s.listed(ctx, space, value)
		switch {
		case errors.Is(err, idem.ErrNotFound):
		case err != nil && unread.Add(fmt.Sprintf("the record %x", it.Key()[1:]), err):
		case err != nil:
			return false, fmt.Errorf("reading a record: %w", err)
		case !visit(&r):
			return false, nil
		}
	}
	return true, engineError(it.Error())
}

// after is the first name that does not begin with prefix, which does not end in 0xff only.
func after(prefix []byte) []byte {
	end := bytes.TrimRight(prefix, "\xff")
	end = bytes.Clone(end)
	end[len(end)-1]++
	return end
}

// listed is a record as it stands now, without its response. The engine shows what is
// settled before that is on the disk: until then the record stands as it is in memory.
func (s *Store) listed(ctx context.Context, space byte, value []byte) (idem.Record, error) {
	r, err := idem.DecodeNamed(value)
	if err != nil {
		return idem.Record{}, err
	}
	k := r.Key.ID()
	sh := s.shard(k)
	if space == settledSpace && !sh.has(k) {
		now := s.clock.now()
		if r.Ended(now) {
			return idem.Record{}, idem.ErrNotFound
		}
		return r.Inspect(now)
	}
	v, err := s.look(ctx, sh, k)
	if err != nil {
		return idem.Record{}, err
	}
	defer sh.mu.Unlock()
	if v.record == nil {
		return idem.Record{}, idem.ErrNotFound
	}
	head := *v.record
	head.Response = nil
	return head.Inspect(v.now)
}
