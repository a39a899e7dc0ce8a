package estore

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/idemproxy/idemproxy/idem"
)

// An entry of the registry is stored under entrySpace + its name as u64 until
// (ms on the store's clock, 0 for never) and its text.

func entryKey(name string) []byte { return append([]byte{entrySpace}, name...) }

// Entries implements idem.Registry.
func (s *Store) Entries(ctx context.Context) ([]idem.Entry, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.entries.Lock()
	defer s.entries.Unlock()
	if err := s.settled(ctx); err != nil {
		return nil, err
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{entrySpace}, UpperBound: []byte{entrySpace + 1}})
	if err != nil {
		return nil, engineError(err)
	}
	now := s.clock.now()
	var all []idem.Entry
	for it.First(); it.Valid(); it.Next() {
		value, err := valueAt(it)
		if err != nil {
			return nil, errors.Join(engineError(err), it.Close())
		}
		until, text, ok := parseEntry(value)
		if !ok {
			return nil, errors.Join(idem.ErrCorrupt, it.Close())
		}
		all = append(all, idem.Entry{Name: string(it.Key()[1:]), Text: string(text), Ended: until != 0 && until <= now})
	}
	return all, engineError(it.Close())
}

func parseEntry(b []byte) (until int64, text []byte, ok bool) {
	if len(b) < 8 {
		return 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(b)), b[8:], true //nolint:gosec // ms since 1970
}

// Enter implements idem.Registry; it waits for the disk.
func (s *Store) Enter(ctx context.Context, name, text string, keep time.Duration) error {
	return s.enlist(ctx, func() (func(*group) error, error) {
		until := int64(0)
		if keep != 0 {
			until = s.clock.now() + keep.Milliseconds()
		}
		before, err := s.entryUntil(name)
		if err != nil {
			return nil, err
		}
		if before == 0 || until != 0 && until < before {
			until = before
		}
		value := append(binary.BigEndian.AppendUint64(nil, uint64(until)), text...)
		return func(g *group) error { return g.batch.Set(entryKey(name), value, nil) }, nil
	})
}

// entryUntil is when the entry of that name ends, 0 for never; 1, which is long
// ago, if there is none.
func (s *Store) entryUntil(name string) (int64, error) {
	value, err := s.valueOf(entryKey(name))
	if err != nil || value == nil {
		return 1, err
	}
	until, _, ok := parseEntry(value)
	if !ok {
		return 0, idem.ErrCorrupt
	}
	return until, nil
}

// Strike implements idem.Registry; it waits for the disk.
func (s *Store) Strike(ctx context.Context, name string) error {
	return s.enlist(ctx, func() (func(*group) error, error) {
		return func(g *group) error { return g.batch.Delete(entryKey(name), nil) }, nil
	})
}

// enlist makes one change of the registry at a time, prepared when those before
// it are on the disk.
func (s *Store) enlist(ctx context.Context, prepare func() (func(*group) error, error)) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.entries.Lock()
	defer s.entries.Unlock()
	if err := s.settled(ctx); err != nil {
		return err
	}
	change, err := prepare()
	if err != nil {
		return err
	}
	g, err := s.write(change)
	if err != nil {
		return err
	}
	return g.wait(ctx)
}

// settled waits until all that was written is on the disk.
func (s *Store) settled(ctx context.Context) error {
	g, err := s.write(func(*group) error { return nil })
	if err != nil {
		return err
	}
	return g.wait(ctx)
}
