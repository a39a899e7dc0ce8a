package estore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/replays"
)

type id = [16]byte

// shard serialises what happens to the keys that hash to it. Nothing under mu
// waits for the disk, neither for a write nor for a read: renewals and the
// replays of what is in memory need nothing else.
type shard struct {
	mu   sync.Mutex
	live map[id]*entry // guarded by mu; every record in progress or with changes on their way to the disk
	left uint64        // guarded by mu; how often a record has left live for the disk
}

// entry is a record that is not (only) on disk.
type entry struct {
	record idem.Record
	lease  uint64 // its number, if it is one
	// pending is how the record came here, or is to leave; nil when that is on the
	// disk. A key has one such change at a time.
	pending *group
	// leaving says that the change takes the record out of progress: until it is
	// on the disk, others see the record as it was.
	leaving bool
	// lapsed says that its lease had lapsed, and it was unknown, before it began to leave: it
	// is not in progress again meanwhile.
	lapsed bool
	// unreadable is why record could not be read.
	unreadable error
}

// entry is what is in memory of k, nil if all there is is on the disk. Call it
// with mu held.
func (sh *shard) entry(k id) *entry {
	e := sh.live[k]
	if e == nil || e.pending == nil || !e.pending.durable() {
		return e
	}
	if e.leaving {
		delete(sh.live, k)
		sh.left++
		return nil
	}
	e.pending = nil
	return e
}

// has says whether something of k is in memory alone.
func (sh *shard) has(k id) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.entry(k) != nil
}

// settlingLease is what an asker is told to wait while a record is on its way to
// the disk.
const settlingLease = time.Second

// seen is the record as others see it. What is still on its way to the disk may
// not be replayed, and its lease may not lapse under it.
func (e *entry) seen(now int64) *idem.Record {
	if !e.leaving || e.lapsed || e.record.State != idem.InProgress {
		return &e.record
	}
	unsettled := e.record
	unsettled.LeaseUntil = now + settlingLease.Milliseconds()
	return &unsettled
}

// view is a record as it stands, nil if there is none.
type view struct {
	record  *idem.Record
	pending *group // as in entry
	lease   uint64 // as in entry
	cached  bool
	now     int64 // by the store's clock
}

func (s *Store) shard(k id) *shard { return &s.shards[k[0]] }

// look returns how k stands and leaves its shard locked, unless it fails. While
// it reads the disk, the shard is not locked; what it read counts only if nothing
// has left the shard's memory for the disk since.
func (s *Store) look(ctx context.Context, sh *shard, k id) (view, error) {
	var read *idem.Record
	for left, again := uint64(0), false; ; again = true {
		sh.mu.Lock()
		now := s.clock.now()
		if e := sh.entry(k); e != nil {
			return e.look(sh, now)
		}
		if r, ok := s.cache.GetIfPresent(k); ok && now < r.ReplayUntil {
			return view{record: r, cached: true, now: now}, nil
		}
		if again && sh.left == left {
			return s.found(k, read, now), nil
		}
		if s.known.lacks(k) {
			return view{now: now}, nil
		}
		left = sh.left
		sh.mu.Unlock()
		if err := s.writes.refusal(); err != nil {
			return view{}, err
		}
		var err error
		if read, err = s.read(ctx, k); err != nil {
			return view{}, err
		}
	}
}

// look is the part of Store.look that needs no disk.
func (e *entry) look(sh *shard, now int64) (view, error) {
	if e.unreadable != nil {
		sh.mu.Unlock()
		return view{}, e.unreadable
	}
	v := view{record: e.seen(now), pending: e.pending, lease: e.lease, now: now}
	if e.pending == nil && v.record.Ended(now) {
		v.record = nil
	}
	return v, nil
}

// keep has the cache keep a record, unless that is more than all that may be kept: it
// would be thrown out again some time later, until when it would take its room and answer.
func (s *Store) keep(k id, r *idem.Record) {
	if replays.Weight(r) <= s.config.CacheBytes {
		s.cache.Set(k, r)
	}
}

// found is how a record that was read stands now; a response that can be replayed
// is kept in memory.
func (s *Store) found(k id, r *idem.Record, now int64) view {
	switch {
	case r == nil || r.Ended(now):
		return view{now: now}
	case r.StateAt(now) == idem.Completed:
		s.keep(k, r)
	default:
		r.Response = nil
	}
	return view{record: r, now: now}
}

// lookAlone is look when nothing of k is on its way to the disk any more.
func (s *Store) lookAlone(ctx context.Context, sh *shard, k id) (view, error) {
	for {
		v, err := s.look(ctx, sh, k)
		if err != nil || v.pending == nil {
			return v, err
		}
		sh.mu.Unlock()
		if err := v.pending.wait(ctx); err != nil {
			return view{}, fmt.Errorf("an earlier change of the key: %w", err)
		}
	}
}
