package estore

import (
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/idemproxy/idemproxy/idem"
)

// compactAfter is how many records a sweep must have removed for the store to
// be compacted at once, rather than as the engine sees fit: deleted records take
// space until then.
const compactAfter = 10_000

func (s *Store) sweepLoop() {
	defer close(s.stopped)
	t := time.NewTicker(s.config.SweepEvery)
	defer t.Stop()
	space := time.NewTicker(time.Second) // a disk fills faster than records expire
	defer space.Stop()
	removed := 0
	for {
		select {
		case <-s.stop:
			return
		case <-space.C:
			s.checkSpace()
			continue
		case <-t.C:
		}
		n, err := s.sweep()
		if err = errors.Join(err, s.clock.save(s.db)); err != nil {
			s.config.Logger.Error().Str("event", "sweep_failed").Err(err).Msg("expired records were not removed")
			continue
		}
		if removed += n; removed >= compactAfter {
			removed = 0
			s.compact()
		}
	}
}

func (s *Store) checkSpace() {
	usage, err := s.config.fs.GetDiskUsage(s.config.Dir)
	if err != nil {
		return // an odd file system; the engine reports what it cannot write
	}
	low := usage.AvailBytes < s.config.MinFreeBytes
	if low != s.diskLow.Swap(low) {
		s.config.Logger.Warn().Str("event", "disk_space").Bool("low", low).
			Uint64("free_bytes", usage.AvailBytes).Uint64("min_free_bytes", s.config.MinFreeBytes).
			Msg("space on the store's disk")
	}
}

// sweep removes what has expired and returns how many records that were.
func (s *Store) sweep() (int, error) {
	defer s.endIfBroken()
	now := s.clock.now()
	n, err := s.sweepLive(now)
	if err != nil {
		return n, err
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{expirySpace}, UpperBound: expiryKey(now+1, id{}),
	})
	if err != nil {
		return n, engineError(err)
	}
	for it.First(); it.Valid() && !s.closed.Load(); it.Next() {
		removed, err := s.sweepSettled(it.Key(), now)
		if err != nil {
			return n, errors.Join(err, it.Close())
		}
		n += removed
	}
	return n, engineError(it.Close())
}

// sweepLive removes leases that nobody took up again within their retention.
func (s *Store) sweepLive(now int64) (n int, err error) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for k, e := range sh.live {
			if e.settling == nil && e.record.Ended(now) {
				err = errors.Join(err, s.db.Delete(liveKey(k), pebble.NoSync))
				delete(sh.live, k)
				n++
			}
		}
		sh.mu.Unlock()
	}
	return n, engineError(err)
}

// sweepSettled looks at the record that an expiry entry points to; the entry
// goes in any case.
func (s *Store) sweepSettled(entry []byte, now int64) (removed int, err error) {
	_, k := parseExpiryKey(entry)
	sh := s.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	value, closer, err := s.db.Get(settledKey(k))
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return 0, engineError(err)
	}
	if err == nil {
		// A record that cannot be read is left alone.
		r, decodeErr := idem.DecodeNamed(value)
		switch {
		case decodeErr != nil:
		case r.Ended(now):
			removed = 1
			s.cache.Invalidate(k)
			err = s.db.Delete(settledKey(k), pebble.NoSync)
		case r.StateAt(now) == idem.Expired:
			s.cache.Invalidate(k)
			err = s.db.Set(settledKey(k), r.Append(nil), pebble.NoSync)
		}
		err = errors.Join(err, closer.Close())
	}
	return removed, engineError(errors.Join(err, s.db.Delete(entry, pebble.NoSync)))
}

// compact gives the space of deleted records back.
func (s *Store) compact() {
	for _, space := range []byte{expirySpace, settledSpace, liveSpace} {
		if s.closed.Load() {
			return
		}
		if err := s.db.Compact(context.Background(), []byte{space}, []byte{space + 1}, true); err != nil {
			s.config.Logger.Error().Str("event", "compaction_failed").Err(err).Msg("space was not given back")
		}
	}
}
