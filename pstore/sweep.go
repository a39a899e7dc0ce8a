package pstore

import (
	"context"
	"time"

	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// How expired records are swept: so many pages of the table at a time (1 MiB), with a
// pause after each, which is every process's, and a rest after the whole table.
const (
	sweepPages = 128
	sweepPause = 100 * time.Millisecond
	sweepRest  = time.Minute
	sweepTurn  = time.Second // how often those look whose turn it is not
)

// sweep deletes expired records as long as the store is open. Of all processes one
// sweeps at a time; the server sees to that.
func (s *Store) sweep() {
	for wait := sweepPause; ; {
		timer := time.NewTimer(wait)
		select {
		case <-s.closing.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		ctx, cancel := s.bound(s.closing)
		gone, whole, err := s.sweepOnce(ctx, sweepPages, sweepPause, sweepRest)
		cancel()
		switch {
		case err != nil:
			wait = 5 * time.Second
			s.log.Debug().Str("event", "sweep_failed").Err(err).Msg("expired records were not swept; trying again")
		case gone < 0:
			wait = sweepTurn
		case whole:
			wait = sweepRest
		default:
			wait = sweepPause
		}
	}
}

// sweepOnce sweeps the next pages. gone is how many records it deleted, or -1 if it is
// somebody else's turn.
func (s *Store) sweepOnce(ctx context.Context, pages int64, pause, rest time.Duration) (gone int64, whole bool, err error) {
	if err := failpoint.Fail("sweep-asked"); err != nil {
		return 0, false, err
	}
	row, err := s.askOne(ctx, s.sql.sweep, newArgs(3).int8(pages).int8(pause.Milliseconds()).int8(rest.Milliseconds()), 3)
	if err != nil {
		return 0, false, err
	}
	if gone, err = int8of(row[0]); err != nil {
		return 0, false, err
	}
	return gone, len(row[2]) == 1 && row[2][0] != 0, nil
}
