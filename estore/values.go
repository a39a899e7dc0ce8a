package estore

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// valueAt is the value where the iterator stands. All reads of values go through it:
// the engine panics, and reports nothing, when the end of a file of values is damaged.
func valueAt(it *pebble.Iterator) (value []byte, err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if text, ok := p.(string); !ok || !strings.HasPrefix(text, "unknown metadata type") {
			panic(p)
		}
		err = fmt.Errorf("%w: a file of values cannot be read", ErrDamaged)
	}()
	return it.ValueAndErr() //nolint:wrapcheck // callers say what of
}

// valueOf is a copy of the value of a key, nil if there is none. An iterator and not
// Get, which would not use the last level's filters: most look-ups are of keys that are
// not there, and should not read tables to find that out.
func (s *Store) valueOf(key []byte) (value []byte, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return nil, engineError(err)
	}
	if it.SeekPrefixGE(key) && bytes.Equal(it.Key(), key) {
		if value, err = valueAt(it); err == nil {
			value = append(make([]byte, 0, len(value)), value...)
		}
	}
	if closed := it.Close(); err == nil {
		err = closed
	}
	return value, engineError(err)
}
