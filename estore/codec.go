package estore

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/idemproxy/idemproxy/idem"
)

// The engine's key space, by first byte:
//
//	'a' + number              a record in progress; leases are numbered as they are
//	                          granted, so that they stand together in the engine
//	                          and cancel each other out
//	'r' + id                  a record that is not: completed, unknown, or free
//	                          with its count of attempts
//	'x' + time, ms + number   records of which something has ended by then: its
//	                          response, or all of it. Each as its own time and id;
//	                          may be stale, since records are rewritten
//	'e' + name                an entry of the registry
//	'm'                       the clock's latest saved reading, ms
//	'l'                       the format, see format.go
//
// In format 1, which is read and not written any more, a record in progress was
// 'l' + id, and 'x' + time + id stood for that one id.
const (
	oldLiveSpace = 'l'
	leaseSpace   = 'a'
	settledSpace = 'r'
	expirySpace  = 'x'
	entrySpace   = 'e'
	clockSpace   = 'm'
)

func leaseKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{leaseSpace}, number)
}

func settledKey(k id) []byte { return append([]byte{settledSpace}, k[:]...) }

// settledValue is how a record is stored that is not in progress. The engine copies
// it: give it back.
func (s *Store) settledValue(r *idem.Record) *[]byte {
	size := idem.HeadSize + 512
	if r.Response != nil {
		size += r.Response.Size()
	}
	value := s.values.Get().(*[]byte) //nolint:forcetypeassert // nothing else is there
	*value = r.Append(slices.Grow((*value)[:0], size))
	return value
}

// mostKept is the size of values whose memory is kept for the next.
const mostKept = 1 << 20

func (s *Store) giveBack(value *[]byte) {
	if cap(*value) <= mostKept {
		s.values.Put(value)
	}
}

// putSettled adds a record that is not in progress.
func (g *group) putSettled(k id, r *idem.Record, value []byte) error {
	response, record := endings(r)
	for _, at := range [...]int64{response, record} {
		if at != 0 {
			g.endings = append(g.endings, ending{at, k})
		}
	}
	return g.batch.Set(settledKey(k), value, nil) //nolint:wrapcheck // Store.write does
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
	value, err := s.valueOf(settledKey(k))
	var r idem.Record
	if err == nil && value != nil {
		r, err = idem.DecodeRecord(value)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a record: %w", err)
	}
	switch {
	case value == nil:
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
