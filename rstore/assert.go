package rstore

import (
	"context"
	_ "embed" // the script
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

//go:embed assert.lua
var assertLua string

// What is asserted in one pipeline, at most.
const (
	assertBurst      = 512
	assertBurstBytes = 4 << 20
)

// assertTries is how often what a server refuses, or answers oddly, is asserted. What it
// refuses for good must not keep it from ever being used; what it refuses once, or somebody
// between did, would be lost.
const assertTries = 3

// assertAtMost bounds how long calls wait while a journal is asserted.
const assertAtMost = 30 * time.Second

// asserted counts what assert.lua answered.
type asserted struct{ same, restored, advanced, conflicts, failed int }

// assert brings what a primary had acknowledged to this process to the one that
// has followed it.
func (s *Store) assert(ctx context.Context, l *link) error {
	all := s.journal.assertions(time.Now())
	if len(all) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, assertAtMost)
	defer cancel()
	start := time.Now()
	var sum asserted
	for try := 1; len(all) > 0; try++ {
		refused, err := s.assertAll(ctx, l, all, &sum)
		if err != nil {
			return fmt.Errorf("asserting what was acknowledged: %w", err)
		}
		if all = nil; try < assertTries {
			for i := range refused {
				all = append(all, refused[i].assertion)
			}
			continue
		}
		for _, r := range refused {
			sum.failed++
			s.log.Error().Str("event", "store_unasserted").Str("record", hex.EncodeToString(r.key[:])).Err(r.reason).
				Msg("what was acknowledged of this key could not be brought to the new primary")
		}
	}
	s.log.Warn().Str("event", "store_asserted").Str("server", l.addr).Dur("took", time.Since(start)).
		Int("same", sum.same).Int("restored", sum.restored).Int("advanced", sum.advanced).Int("conflicts", sum.conflicts).
		Int("failed", sum.failed).Msg("what the earlier primary had acknowledged is on the new one")
	return nil
}

// refusedAssertion is one that a server refused, or answered with what is no answer.
type refusedAssertion struct {
	assertion
	reason error
}

// assertAll asserts, burst by burst, and returns what was refused.
func (s *Store) assertAll(ctx context.Context, l *link, all []assertion, sum *asserted) (refused []refusedAssertion, err error) {
	for len(all) > 0 {
		n, size := 0, 0
		for n < min(len(all), assertBurst) && size < assertBurstBytes {
			size += len(all[n].result)
			n++
		}
		more, err := s.assertBurst(ctx, l, all[:n], sum)
		if err != nil {
			return nil, err
		}
		refused, all = append(refused, more...), all[n:]
	}
	return refused, nil
}

func (s *Store) assertBurst(
	ctx context.Context, l *link, some []assertion, sum *asserted,
) (refused []refusedAssertion, err error) {
	keys, args := make([][]string, len(some)), make([][]string, len(some))
	now := time.Now()
	for i := range some {
		record, response := s.names(some[i].key)
		keys[i], args[i] = []string{record, response}, some[i].args(now)
	}
	for i, result := range s.scripts.assert.burst(ctx, l.client, "", keys, args) {
		n, err := result.AsInt64()
		if result.NonRedisError() != nil || isPassing(err) {
			return nil, err //nolint:wrapcheck // the caller says what for
		}
		switch {
		case err != nil || n < 0:
			refused = append(refused, refusedAssertion{some[i], err})
		case n == 0:
			sum.same++
		case n == 1:
			sum.restored++
		case n == 2:
			sum.advanced++
		default:
			sum.conflicts++
			s.log.Error().Str("event", "store_conflict").Str("record", hex.EncodeToString(some[i].key[:])).
				Msg("the key was taken again before it was known that it had been: it may execute twice")
		}
	}
	return refused, nil
}

// isPassing says whether a server refused for now only: a new primary may have no
// replicas yet (min-replicas-to-write), or not be sure of its slots. It is told
// again before it is used; what it refuses for good would keep it from ever being.
func isPassing(err error) bool {
	refused, ok := rueidis.IsRedisErr(err)
	if !ok {
		return false
	}
	switch word, _, _ := strings.Cut(refused.Error(), " "); word {
	case "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "READONLY", "MASTERDOWN", "LOADING", "BUSY", "MISCONF":
		return true
	}
	return false
}
