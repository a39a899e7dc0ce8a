package estore

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/idemproxy/idemproxy/idem"
)

// List implements idem.Inspector.
func (s *Store) List(ctx context.Context, visit func(*idem.Record) bool) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	for _, space := range []byte{liveSpace, settledSpace} {
		if more, err := s.listSpace(ctx, space, visit); err != nil || !more {
			return err
		}
	}
	return nil
}

// listSpace looks the record of each key up where it is now: a live one is
// renewed in memory only.
func (s *Store) listSpace(ctx context.Context, space byte, visit func(*idem.Record) bool) (more bool, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
	if err != nil {
		return false, engineError(err)
	}
	defer func() { err = errors.Join(err, engineError(it.Close())) }()
	for it.First(); it.Valid(); it.Next() {
		if ctx.Err() != nil {
			return false, ctx.Err() //nolint:wrapcheck // the caller's own
		}
		r, err := idem.DecodeNamed(it.Value())
		if err != nil {
			return false, fmt.Errorf("reading a record: %w", err)
		}
		if space == liveSpace {
			r, err = s.live(r.Key)
		} else {
			r, err = r.Inspect(s.clock.now())
		}
		switch {
		case errors.Is(err, idem.ErrNotFound):
		case err != nil:
			return false, err
		case !visit(&r):
			return false, nil
		}
	}
	return true, engineError(it.Error())
}

// live is a record that was in progress, without what it may have become since.
func (s *Store) live(key idem.Key) (idem.Record, error) {
	k := key.ID()
	sh := s.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r, _, err := s.current(sh, k)
	if err != nil || r == nil {
		return idem.Record{}, errors.Join(err, idem.ErrNotFound)
	}
	head := *r
	head.Response = nil
	return head.Inspect(s.clock.now())
}
