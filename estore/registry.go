package estore

import (
	"bytes"
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
func (s *Store) Entries(context.Context) ([]idem.Entry, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{entrySpace}, UpperBound: []byte{entrySpace + 1}})
	if err != nil {
		return nil, engineError(err)
	}
	now := s.clock.now()
	var all []idem.Entry
	for it.First(); it.Valid(); it.Next() {
		until, text, ok := parseEntry(it.Value())
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
func (s *Store) Enter(_ context.Context, name, text string, keep time.Duration) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.entries.Lock()
	defer s.entries.Unlock()
	until := int64(0)
	if keep != 0 {
		until = s.clock.now() + keep.Milliseconds()
	}
	before, closer, err := s.db.Get(entryKey(name))
	switch {
	case err == nil:
		if was, _, ok := parseEntry(before); ok && (was == 0 || until != 0 && was > until) {
			until = was
		}
		if err := closer.Close(); err != nil {
			return engineError(err)
		}
	case !errors.Is(err, pebble.ErrNotFound):
		return engineError(err)
	}
	value := append(binary.BigEndian.AppendUint64(nil, uint64(until)), text...) //nolint:gosec // ms since 1970
	b := s.db.NewBatch()
	if err := b.Set(entryKey(name), bytes.Clone(value), nil); err != nil {
		return engineError(err)
	}
	return s.write(b)
}

// Strike implements idem.Registry; it waits for the disk.
func (s *Store) Strike(_ context.Context, name string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.entries.Lock()
	defer s.entries.Unlock()
	b := s.db.NewBatch()
	if err := b.Delete(entryKey(name), nil); err != nil {
		return engineError(err)
	}
	return s.write(b)
}

// write commits a batch and waits for the disk.
func (s *Store) write(b *pebble.Batch) error {
	if err := s.commit(b); err != nil {
		return err
	}
	return s.sync(b)
}
