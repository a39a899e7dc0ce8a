package estore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// clock is the store's clock: milliseconds that go on from the latest reading
// that was saved, by the monotonic clock while the process runs.
//
// How long the store was closed only the wall clock can tell, which may be wrong:
// a machine without a battery, a virtual machine that was restored, an operator's
// mistake. One that is years ahead would end every record at once, and every
// retry would be executed again, whereas one that shows too little only makes
// records last longer. So a start advances the clock by what the wall clock says
// has passed, but by maxAbsence at most. There is no exception from that: nothing
// else that could be asked (times of files, the time of boot) knows better than
// the wall clock that wrote it, and what a long absence costs is the space of the
// records that stay for longer, once for each start.
//
// An advance that was cut short is also doubted for a while: what ended by it
// counts as ended, but stays on the disk, and the reading that is saved is that
// without the advance. An operator who sees the warning sets the wall clock right
// and starts again, and has lost nothing; and a process that is started again and
// again does not add up its advances.
type clock struct {
	base    int64
	started time.Time
	doubt   int64 // how much of base is doubted, ms
	doubts  time.Duration
}

const (
	maxAbsence   = time.Hour
	defaultDoubt = 10 * time.Minute
)

// start reads what was saved, and reports it if the wall clock is ahead of it by
// more than the clock follows; else 0.
func (c *clock) start(db *pebble.DB, wall time.Time, doubts time.Duration) (left int64, err error) {
	c.started, c.base, c.doubts = time.Now(), wall.UnixMilli(), doubts
	value, closer, err := db.Get([]byte{clockSpace})
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil // a new store
	}
	if err != nil {
		return 0, fmt.Errorf("reading the store's clock: %w", err)
	}
	if len(value) != 8 {
		return 0, errors.Join(fmt.Errorf("%w: its clock has %d bytes", ErrDamaged, len(value)), closer.Close())
	}
	saved := int64(binary.BigEndian.Uint64(value)) //nolint:gosec // ms since 1970
	c.base = max(saved+1, c.base)
	if limit := saved + maxAbsence.Milliseconds(); c.base > limit {
		left, c.base, c.doubt = saved, limit, limit-saved
	}
	return left, closer.Close() //nolint:wrapcheck // load does
}

// now is the clock's reading.
func (c *clock) now() int64 { return c.base + time.Since(c.started).Milliseconds() }

// sure is the reading by which something may be removed from the disk for good.
func (c *clock) sure() int64 {
	if passed := time.Since(c.started); passed < c.doubts {
		return c.base - c.doubt + passed.Milliseconds()
	}
	return c.now()
}

// saveClock adds the clock's reading to a group.
func (s *Store) saveClock(g *group) error {
	now := binary.BigEndian.AppendUint64(nil, uint64(s.clock.sure())) //nolint:gosec // ms since 1970
	return g.batch.Set([]byte{clockSpace}, now, nil)                  //nolint:wrapcheck // write does
}
