package estore

import (
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
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
	freed := 0
	for {
		select {
		case <-s.running.Done():
			return
		case <-space.C:
			s.checkSpace()
			continue
		case <-t.C:
		}
		done, err := s.sweep()
		if err == nil {
			_, err = s.write(s.saveClock)
		}
		if s.running.Err() != nil {
			return
		}
		if err != nil {
			s.config.Logger.Error().Str("event", "sweep_failed").Err(err).Msg("expired records were not removed")
			continue
		}
		if freed += done.removed + done.shrunk; freed >= compactAfter {
			freed = 0
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

// swept counts records: removed, and left without the response.
type swept struct{ removed, shrunk int }

// sweepTogether is how many records are swept before the disk is waited for.
const sweepTogether = 1000

// sweep removes what has ended: records, and the responses of those that are
// remembered for longer. Its changes go the way of all others, so a disk that
// hangs ends it with an error.
func (s *Store) sweep() (done swept, err error) {
	now := s.clock.sure()
	if done.removed, err = s.sweepLive(now); err != nil {
		return done, err
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte{expirySpace}, UpperBound: endingsUntil(now),
	})
	if err != nil {
		return done, engineError(err)
	}
	n := 0
	for it.First(); it.Valid() && err == nil && s.running.Err() == nil; it.Next() {
		value, bad := valueAt(it)
		if err = engineError(bad); err != nil {
			break
		}
		all := parseEndings(it.Key(), value)
		if err = s.sweepEndings(it.Key(), all, now, &done); err == nil && n >= sweepTogether {
			n, err = 0, s.settled(s.running)
		}
		n += len(all)
	}
	return done, errors.Join(err, engineError(it.Close()))
}

// sweepLive removes leases that nobody took up again within their retention.
func (s *Store) sweepLive(now int64) (n int, err error) {
	for i := range s.shards {
		removed, err := s.sweepShard(&s.shards[i], now)
		n += removed
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *Store) sweepShard(sh *shard, now int64) (n int, err error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for k := range sh.live {
		e := sh.entry(k)
		if e == nil || e.pending != nil || !e.record.Ended(now) {
			continue
		}
		// What is settled of the key was there before the lease, and ended with it.
		g, err := s.write(func(g *group) error { return errors.Join(g.dropLease(e.lease), g.batch.Delete(settledKey(k), nil)) })
		if err != nil {
			return n, err
		}
		// It stays until that is on the disk, where what was before is read until then.
		e.pending, e.leaving, e.lapsed = g, true, true
		n++
	}
	return n, nil
}

// sweepEndings looks at the records of a list. What was dealt with leaves it.
func (s *Store) sweepEndings(key []byte, all []ending, now int64, done *swept) error {
	var left []ending
	for _, e := range all {
		dealt, err := s.sweepSettled(e.at, e.k, now, done)
		if err != nil {
			return err
		}
		if !dealt {
			left = append(left, e)
		}
	}
	if len(left) == len(all) && len(left) > 0 {
		return nil
	}
	failpoint.Reach("sweep-half")
	_, err := s.write(func(g *group) error {
		if len(left) > 0 {
			return g.batch.Set(key, appendEndings(nil, left), nil)
		}
		return g.batch.Delete(key, nil)
	})
	return err
}

// sweepSettled looks at a record of which something ended at that time. It is not
// dealt with if it cannot be read or is on its way to the disk.
func (s *Store) sweepSettled(at int64, k id, now int64, done *swept) (dealt bool, err error) {
	sh := s.shard(k)
	sh.mu.Lock()
	sh.entry(k)
	left := sh.left
	sh.mu.Unlock()
	r, err := s.readNamed(k)
	if errors.Is(err, idem.ErrUnavailable) {
		return false, err
	}
	if err != nil {
		return false, nil //nolint:nilerr // left alone: a later layout, perhaps
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.entry(k); sh.left != left || e != nil && e.leaving {
		return false, nil
	}
	switch {
	case r == nil:
	case r.Ended(now):
		if at < r.Expires { // its response's ending; its own is due as well, and takes all of it
			return true, nil
		}
		done.removed++
		s.cache.Invalidate(k)
		_, err = s.write(func(g *group) error { return g.batch.Delete(settledKey(k), nil) })
	case r.StateAt(now) == idem.Expired:
		done.shrunk++
		s.cache.Invalidate(k)
		value := s.settledValue(r)
		defer s.giveBack(value)
		_, err = s.write(func(g *group) error { return g.batch.Set(settledKey(k), *value, nil) })
	}
	return err == nil, err
}

// readNamed reads 'r' + k without its response, nil if there is none.
func (s *Store) readNamed(k id) (*idem.Record, error) {
	value, err := s.valueOf(settledKey(k))
	if err != nil || value == nil {
		return nil, err
	}
	r, err := idem.DecodeNamed(value)
	return &r, err
}

// compact gives the space of deleted records back.
func (s *Store) compact() {
	for _, space := range []byte{expirySpace, settledSpace, leaseSpace} {
		if s.running.Err() != nil {
			return
		}
		if err := s.db.Compact(s.running, []byte{space}, []byte{space + 1}, true); err != nil && s.running.Err() == nil {
			s.config.Logger.Error().Str("event", "compaction_failed").Err(err).Msg("space was not given back")
		}
	}
}
