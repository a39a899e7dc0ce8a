package estore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/idemproxy/idemproxy/idem"
)

// The engine's key space, by first byte:
//
//	'l' + id                  a record in progress
//	'r' + id                  a record that is not: completed, unknown, or free
//	                          with its count of attempts
//	'x' + time, ms + id       when to look whether something of 'r' + id has
//	                          ended: its response, or all of it; may be stale,
//	                          since records are rewritten
//	'e' + name                an entry of the registry
//	'm'                       the clock's latest saved reading, ms
const (
	liveSpace    = 'l'
	settledSpace = 'r'
	expirySpace  = 'x'
	entrySpace   = 'e'
	clockSpace   = 'm'
)

func liveKey(k id) []byte    { return append([]byte{liveSpace}, k[:]...) }
func settledKey(k id) []byte { return append([]byte{settledSpace}, k[:]...) }

func expiryKey(at int64, k id) []byte {
	b := binary.BigEndian.AppendUint64([]byte{expirySpace}, uint64(at)) //nolint:gosec // ms since 1970
	return append(b, k[:]...)
}

func parseExpiryKey(b []byte) (at int64, k id) {
	return int64(binary.BigEndian.Uint64(b[1:9])), id(b[9:25]) //nolint:gosec // ms since 1970
}

// settledValue is how a record is stored that is not in progress.
func settledValue(r *idem.Record) []byte {
	size := idem.HeadSize + 512
	if r.Response != nil {
		size += r.Response.Size()
	}
	return r.Append(make([]byte, 0, size))
}

// putSettled adds to a batch that a record has gone from before, which was in
// progress or not, to after, which is not.
func putSettled(b *pebble.Batch, k id, before, after *idem.Record, value []byte) error {
	err := b.Set(settledKey(k), value, nil)
	if before.State == idem.InProgress {
		err = errors.Join(err, b.Delete(liveKey(k), nil))
	} else {
		response, record := endings(before)
		err = errors.Join(err, putEnding(b.Delete, response, k), putEnding(b.Delete, record, k))
	}
	response, record := endings(after)
	set := func(key []byte, o *pebble.WriteOptions) error { return b.Set(key, nil, o) }
	return errors.Join(err, putEnding(set, response, k), putEnding(set, record, k))
}

func putEnding(put func([]byte, *pebble.WriteOptions) error, at int64, k id) error {
	if at == 0 {
		return nil
	}
	return put(expiryKey(at, k), nil)
}

// endings are the times at which something of a settled record is to be removed
// from the disk, 0 for never: the response alone, and all of it.
func endings(r *idem.Record) (response, record int64) {
	if r.State == idem.Completed && r.ReplayUntil != r.Expires {
		response = r.ReplayUntil
	}
	return response, r.Expires
}

// readSettled reads 'r' + k, nil if there is none, with its response if that can
// still be replayed.
func (s *Store) readSettled(k id) (*idem.Record, error) {
	// An iterator and not Get, which would not use the last level's filters: most
	// look-ups are of new keys, and should not read tables to find that out.
	it, err := s.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return nil, engineError(err)
	}
	key := settledKey(k)
	var r idem.Record
	found := it.SeekPrefixGE(key) && bytes.Equal(it.Key(), key)
	if found {
		r, err = idem.DecodeRecord(bytes.Clone(it.Value()))
	}
	if err := errors.Join(err, engineError(it.Close())); err != nil {
		return nil, fmt.Errorf("reading a record: %w", err)
	}
	switch {
	case !found:
		return nil, nil //nolint:nilnil // "none" is an answer
	case r.State == idem.Completed && r.Response == nil:
		r.ReplayUntil = 0 // it was removed, whatever the clock shows
	case r.StateAt(s.clock.now()) == idem.Completed:
		if r.Response, err = idem.OpenResponse(s.config.Codec, r.Key, r.Response); err != nil {
			return nil, fmt.Errorf("reading a record: %w", err)
		}
	}
	return &r, nil
}
