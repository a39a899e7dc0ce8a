package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/metrics"
)

// census counts the keys of the store whose outcome is unknown, whoever left them so: what
// one process has counted of its own events is gone with it. To look through a store takes
// time, so one of the proxies that share it does so, and writes what it found into the
// registry, where the others read it.
type census struct {
	store   namesStore
	metrics *metrics.Metrics
	log     zerolog.Logger
	every   time.Duration // 0: never

	failing bool // the last count failed, and was logged
}

// censusEntry is the registry's; its text is a tally.
const censusEntry = "census"

const (
	// countRest is how many times as long as a count took is the least rest after it.
	countRest = 20
	// countSoonest is the least rest between two counts.
	countSoonest = time.Second
	// countApart is the part of every by which proxies count at different times.
	countApart = 8
	// countAgain is the rest after a count that failed.
	countAgain = 5 * time.Second
	// countWithin bounds one.
	countWithin = 10 * time.Minute
)

// tally is what a count found.
type tally struct {
	Unknown int `json:"unknown"`
	// OldestMS is how long ago the oldest was first used.
	OldestMS int64 `json:"oldest_ms"`
	// At is when, in Unix time in ns, by the clock of the process that counted.
	At int64 `json:"at"`
}

func newCensus(store namesStore, m *metrics.Metrics, log zerolog.Logger, every time.Duration) *census {
	return &census{store: store, metrics: m, log: log, every: every}
}

// run counts at once, every so often, and soon after changed rings, until ctx ends.
func (c *census) run(ctx context.Context, changed bell) {
	if c.every <= 0 {
		return
	}
	mine := false // something changed here: what others have counted before is stale
	for {
		begun := time.Now()
		age, err := c.take(ctx, mine)
		if ctx.Err() != nil {
			return
		}
		c.report(err)
		rest := max(countSoonest, countRest*time.Since(begun))
		regular, soonest := time.NewTimer(max(c.next(age, err), rest)), time.NewTimer(rest)
		mine = c.wait(ctx, regular, soonest, changed)
		regular.Stop()
		soonest.Stop()
	}
}

// next is when to look again, once a count is as old as that.
func (c *census) next(age time.Duration, err error) time.Duration {
	if err != nil && !errors.Is(err, idem.ErrUnread) {
		return min(c.every, countAgain) // the store may be back soon
	}
	// When the count ends, all proxies know; one should be the first to count anew.
	return c.every - age + rand.N(max(1, c.every/countApart)) //nolint:gosec // not a secret
}

// wait returns when a count is due, and whether that is since something changed here.
func (*census) wait(ctx context.Context, regular, soonest *time.Timer, changed bell) (mine bool) {
	select {
	case <-ctx.Done():
		return false
	case <-regular.C:
		return false
	case <-changed:
	}
	select {
	case <-ctx.Done():
	case <-soonest.C:
	}
	return true
}

// take counts, unless another proxy has within c.every, and that will do. It says how old the
// count is that is shown now.
func (c *census) take(ctx context.Context, mine bool) (age time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, countWithin)
	defer cancel()
	if !mine {
		entries, err := c.store.Entries(ctx)
		if err != nil {
			return 0, fmt.Errorf("reading what was counted: %w", err)
		}
		for i := range entries {
			if entries[i].Name == censusEntry && !entries[i].Ended {
				if age, ok := c.read(entries[i].Text); ok {
					return age, nil
				}
			}
		}
	}
	found, err := c.count(ctx)
	var unread error
	if errors.Is(err, idem.ErrUnread) { // the others count all the same
		unread, err = fmt.Errorf("counting unknown keys: %w", err), nil
	}
	if err != nil {
		return 0, fmt.Errorf("counting unknown keys: %w", err)
	}
	text, err := json.Marshal(found)
	if err != nil {
		return 0, fmt.Errorf("writing what was counted: %w", err)
	}
	c.show(&found, time.Now())
	if err := c.store.Enter(ctx, censusEntry, string(text), c.every); err != nil {
		return 0, fmt.Errorf("entering what was counted: %w", err)
	}
	return 0, unread
}

func (c *census) count(ctx context.Context) (found tally, err error) {
	found.At = time.Now().UnixNano()
	err = c.store.List(ctx, func(r *idem.Record) bool {
		if r.State == idem.Unknown {
			found.Unknown++
			found.OldestMS = max(found.OldestMS, r.ReadAt-r.Created)
		}
		return true
	})
	return found, err
}

// read shows what another proxy has counted, and says how long ago.
func (c *census) read(text string) (age time.Duration, ok bool) {
	var found tally
	if json.Unmarshal([]byte(text), &found) != nil {
		return 0, false
	}
	// Its process may have another clock, but an entry is no older than it is kept.
	age = min(max(0, time.Since(time.Unix(0, found.At))), c.every)
	c.show(&found, time.Now().Add(-age))
	return age, true
}

func (c *census) show(found *tally, at time.Time) {
	c.metrics.UnknownKeys.Set(float64(found.Unknown))
	c.metrics.UnknownOldest.Set(float64(found.OldestMS) / 1000)
	if found.Unknown > 0 {
		c.metrics.UnknownOldest.Add(time.Since(at).Seconds())
	}
	c.metrics.UnknownCounted.Set(float64(at.UnixMilli()) / 1000)
}

// report logs the first of several failures.
func (c *census) report(err error) {
	if err != nil && !c.failing && !errors.Is(err, idem.ErrClosed) {
		text := "idemproxy_unknown_keys stays as it was"
		if errors.Is(err, idem.ErrUnread) {
			text = "idemproxy_unknown_keys counts the others"
		}
		c.log.Warn().Str("event", "count_failed").Err(err).Msg(text)
	}
	c.failing = err != nil
}
