package pstore

import (
	"context"
	"strings"
	"time"

	"github.com/rs/zerolog"

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
	told := false
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
			told = s.tellSweep(err, told)
		case gone < 0:
			wait, told = sweepTurn, false
		case whole:
			wait, told = sweepRest, false
		default:
			wait, told = sweepPause, false
		}
	}
}

// tellSweep tells of a sweep that failed. What passes by itself is no matter. But where the
// server refuses the statement, for want of a right for instance, the table grows until
// somebody mends that: so it is warned of, once in a row of failures.
func (s *Store) tellSweep(err error, told bool) bool {
	code := codeOf(err)
	lasting := strings.HasPrefix(code, "42") || strings.HasPrefix(code, "22") || strings.HasPrefix(code, "XX")
	level := zerolog.DebugLevel
	if lasting && !told {
		level = zerolog.WarnLevel
	}
	s.log.WithLevel(level).Str("event", "sweep_failed").Err(err).Msg("expired records were not deleted; trying again")
	return told || lasting
}

// sweepOnce sweeps the next pages. gone is how many records it deleted, or -1 if it is
// somebody else's turn.
func (s *Store) sweepOnce(ctx context.Context, pages int64, pause, rest time.Duration) (gone int64, whole bool, err error) {
	if err := failpoint.Fail("sweep-asked"); err != nil {
		return 0, false, err
	}
	if err := s.usable(); err != nil {
		return 0, false, err
	}
	// What fails here is no reason for requests to be refused (see failed): they do not sweep.
	rows, err := s.attempts(ctx, maxTries, s.sql.sweep,
		newArgs(3).int8(pages).int8(pause.Milliseconds()).int8(rest.Milliseconds()))
	switch {
	case err != nil:
		return 0, false, s.unsaid(unavailable(err))
	case len(rows) != 1 || len(rows[0]) != 3:
		return 0, false, unavailable(errReply)
	}
	if gone, err = int8of(rows[0][0]); err != nil {
		return 0, false, err
	}
	whole = len(rows[0][2]) == 1 && rows[0][2][0] != 0
	return gone, whole, nil
}
