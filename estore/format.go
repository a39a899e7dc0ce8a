package estore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/idemproxy/idemproxy/idem"
)

// ErrFormat says that a later release has written the directory. Nothing in it was
// changed.
var ErrFormat = errors.New("the store has a later format than this release reads")

// storeFormat is the format that this build writes; see codec.go for what is in it.
// It stands where builds that know format 1 alone look for leases, as one of a layout
// that does not exist: they do not open the directory.
const (
	storeFormat = 2
	noLayout    = 0xff
)

func formatKey() []byte { return []byte{oldLiveSpace} }

// checkFormat is the format of a store: 1 is that of a new one, too.
func checkFormat(db *pebble.DB) (format byte, err error) {
	value, closer, err := db.Get(formatKey())
	if errors.Is(err, pebble.ErrNotFound) {
		return 1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the store's format: %w", err)
	}
	switch {
	case len(value) != 2 || value[0] != noLayout:
		err = fmt.Errorf("%w: its format is %x", ErrDamaged, value)
	case value[1] > storeFormat:
		err = fmt.Errorf("%w: %d, and not up to %d", ErrFormat, value[1], storeFormat)
	default:
		format = value[1]
	}
	return format, errors.Join(err, closer.Close())
}

// migrate makes a store of format 1 one of ours, all in one step: its leases get
// numbers. What format 1 has of endings stays, and is read.
func migrate(db *pebble.DB, first uint64) error {
	b := db.NewBatch()
	err := b.Set(formatKey(), []byte{noLayout, storeFormat}, nil)
	it, iterErr := db.NewIter(&pebble.IterOptions{LowerBound: []byte{oldLiveSpace}, UpperBound: []byte{oldLiveSpace + 1}})
	if err = errors.Join(err, iterErr); err != nil {
		return fmt.Errorf("reading the leases: %w", err)
	}
	for it.First(); it.Valid() && err == nil; it.Next() {
		if _, bad := idem.DecodeNamed(it.Value()); bad != nil {
			err = fmt.Errorf("reading a lease: %w", bad)
			break
		}
		err = errors.Join(b.Set(leaseKey(first), it.Value(), nil), b.Delete(it.Key(), nil))
		first++
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("writing the store's format: %w", err)
	}
	return nil
}
