package estore

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// ending says that something of a record is to be removed from the disk.
type ending struct {
	at int64 // ms, on the store's clock
	k  id
}

const (
	// endingsWithin is how much earlier than the latest of its list an ending is,
	// at the most, ms: it is swept so much later than it could be.
	endingsWithin = 8000
	// endingSize is the size of one in a list.
	endingSize = 24
	// mostEndings are in a list.
	mostEndings = 1000
)

// putEndings adds lists of the endings, which all go in few entries: one for each
// would be a third of what a key costs the engine.
func putEndings(b *pebble.Batch, all []ending, number uint64) error {
	slices.SortFunc(all, func(a, b ending) int { return cmp.Compare(a.at, b.at) })
	for ; len(all) > 0; number++ {
		n := 1
		for n < min(len(all), mostEndings) && all[n].at-all[0].at <= endingsWithin {
			n++
		}
		if err := b.Set(endingsKey(all[n-1].at, number), appendEndings(nil, all[:n]), nil); err != nil {
			return err //nolint:wrapcheck // who has the batch does
		}
		all = all[n:]
	}
	return nil
}

func endingsKey(at int64, number uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{expirySpace}, uint64(at)) //nolint:gosec // ms since 1970
	return binary.BigEndian.AppendUint64(b, number)
}

// endingsUntil is beyond all entries of up to that time.
func endingsUntil(at int64) []byte { return endingsKey(at+1, 0)[:9] }

func appendEndings(b []byte, all []ending) []byte {
	b = slices.Grow(b, len(all)*endingSize)
	for _, e := range all {
		b = binary.BigEndian.AppendUint64(b, uint64(e.at)) //nolint:gosec // ms since 1970
		b = append(b, e.k[:]...)
	}
	return b
}

// parseEndings reads an entry, of format 1 too.
func parseEndings(key, value []byte) []ending {
	if len(key) == 1+endingSize {
		value = key[1:]
	}
	all := make([]ending, 0, len(value)/endingSize)
	for ; len(value) >= endingSize; value = value[endingSize:] {
		at := int64(binary.BigEndian.Uint64(value)) //nolint:gosec // ms since 1970
		all = append(all, ending{at, id(value[8:endingSize])})
	}
	return all
}
