package estore

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/idem"
)

// Dir is where the store lives.
func (s *Store) Dir() string { return s.config.Dir }

// OnFS is c on another file system.
func (c Config) OnFS(fs vfs.FS) Config {
	c.fs = fs
	return c
}

// OnExit is c in a process that goes on when it would end.
func (c Config) OnExit(exit func(int)) Config {
	c.exit = exit
	return c
}

// SweepNow sweeps and compacts.
func (s *Store) SweepNow(tb testing.TB) int {
	tb.Helper()
	done, err := s.sweep()
	if err = errors.Join(err, s.settled(tb.Context())); err != nil {
		tb.Fatal(err)
	}
	s.compact()
	return done.removed
}

// TrySweep sweeps, if the disk lets it.
func (s *Store) TrySweep(ctx context.Context) error {
	_, err := s.sweep()
	return errors.Join(err, s.settled(ctx))
}

// TryFlush is Flush, if the disk lets it.
func (s *Store) TryFlush() error { return s.db.Flush() }

// Flush moves what is in the engine's memory to its tables.
func (s *Store) Flush(tb testing.TB) {
	tb.Helper()
	if err := s.db.Flush(); err != nil {
		tb.Fatal(err)
	}
}

// Size is the space that the engine's tables take, and the values beside them that they refer to.
func (s *Store) Size() uint64 {
	m := s.db.Metrics()
	total := m.Total()
	return uint64(total.TablesSize) + m.BlobFiles.ReferencedValueSize
}

// Settling says that the key's ending is on its way to the disk.
func (s *Store) Settling(k idem.Key) bool {
	sh := s.shard(k.ID())
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.entry(k.ID())
	return e != nil && e.leaving
}

// OnWall is c at another time of day; the clock's advance is doubted for so long.
func (c Config) OnWall(wall time.Time, doubts time.Duration) Config {
	c.wall = func() time.Time { return wall }
	c.doubts = doubts
	return c
}

// Pending says that something of the key is on its way to the disk.
func (s *Store) Pending(k idem.Key) bool {
	sh := s.shard(k.ID())
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.entry(k.ID())
	return e != nil && e.pending != nil
}

// Kept is what the disk has of a key that is not in progress, and at how many
// times it is to be looked at.
func (s *Store) Kept(tb testing.TB, k idem.Key) (value []byte, endings int) {
	tb.Helper()
	it, err := s.db.NewIter(nil)
	if err != nil {
		tb.Fatal(err)
	}
	id := k.ID()
	for it.First(); it.Valid(); it.Next() {
		switch key := it.Key(); {
		case key[0] == settledSpace && bytes.Equal(key[1:], id[:]):
			value = bytes.Clone(it.Value())
		case key[0] == expirySpace:
			for _, e := range parseEndings(key, it.Value()) {
				if e.k == id {
					endings++
				}
			}
		}
	}
	if err := it.Close(); err != nil {
		tb.Fatal(err)
	}
	return value, endings
}

// EndIdleReaders ends the readers that wait for the next read.
func (s *Store) EndIdleReaders() { s.reads.endIdle() }

// Patience sets Config.Timeout for what is written from now on.
func (s *Store) Patience(d time.Duration) {
	s.writes.mu.Lock()
	defer s.writes.mu.Unlock()
	s.writes.timeout = d
}

// Settled waits until all that was written before is on the disk.
func (s *Store) Settled(ctx context.Context) error { return s.settled(ctx) }

// TryLearn makes a round, if the disk lets it.
func (s *Store) TryLearn() error { return s.learn() }

// LearnNow makes a round.
func (s *Store) LearnNow(tb testing.TB) {
	tb.Helper()
	if err := s.learn(); err != nil {
		tb.Fatal(err)
	}
}

// Lacks says that the key is taken for new without a look at the disk.
func (s *Store) Lacks(k idem.Key) bool { return s.known.lacks(k.ID()) }

// IDSet is the set that tells.
type IDSet struct{ *idSet }

// NewIDSet is an empty one.
func NewIDSet() IDSet { return IDSet{newIDSet()} }

// Add adds an id.
func (s IDSet) Add(k id) { s.add(k) }

// Has is false only for what was not added.
func (s IDSet) Has(k id) bool { return s.has(k) }

// Leases are how many the disk has.
func (s *Store) Leases(tb testing.TB) int { return s.count(tb, leaseSpace) }

// Lists are how many lists of endings there are.
func (s *Store) Lists(tb testing.TB) int { return s.count(tb, expirySpace) }

func (s *Store) count(tb testing.TB, space byte) (n int) {
	tb.Helper()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{space}, UpperBound: []byte{space + 1}})
	if err != nil {
		tb.Fatal(err)
	}
	for it.First(); it.Valid(); it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		tb.Fatal(err)
	}
	return n
}

// List is the engine's key of a list of endings, ListOf its value.
func List(at int64, number uint64) []byte { return endingsKey(at, number) }

// ListOf is a list of endings.
func ListOf(at int64, keys ...idem.Key) []byte {
	var all []ending
	for _, k := range keys {
		all = append(all, ending{at, k.ID()})
	}
	return appendEndings(nil, all)
}

// AwaitSpare waits until no spare log is being made.
func (s *Store) AwaitSpare() { s.logs.wait() }

// Put has the engine write one entry, in a batch of its own.
func (s *Store) Put(key, value []byte) error { return s.db.Set(key, value, pebble.Sync) }
