package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	seen    string
	seenAt  time.Time
}

// censusEntry is the registry's; its text is a tally.
const censusEntry = "census"

const (
	// countRest is how many times as long as a count took is the least rest after it.
	countRest = 20
	// countSoonest is the least rest between two counts.
	countSoonest = time.Second
	// countWithin bounds one.
	countWithin = 10 * time.Minute
)

// tally is what a count found.
type tally struct {
	Unknown int `json:"unknown"`
	// OldestMS is how long ago the oldest was first used.
	OldestMS int64 `json:"oldest_ms"`
	// At tells two counts apart; it is by the clock of the process that counted.
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
		err := c.take(ctx, mine)
		if ctx.Err() != nil {
			return
		}
		c.report(err)
		rest := max(countSoonest, countRest*time.Since(begun))
		regular, soonest := time.NewTimer(max(c.every, rest)), time.NewTimer(rest)
		mine = c.wait(ctx, regular, soonest, changed)
		regular.Stop()
		soonest.Stop()
	}
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

// take counts, unless another proxy has within c.every, and that will do.
func (c *census) take(ctx context.Context, mine bool) error {
	ctx, cancel := context.WithTimeout(ctx, countWithin)
	defer cancel()
	if !mine {
		entries, err := c.store.Entries(ctx)
		if err != nil {
			return fmt.Errorf("reading what was counted: %w", err)
		}
		for i := range entries {
			if entries[i].Name == censusEntry && !entries[i].Ended && c.read(entries[i].Text) {
				return nil
			}
		}
	}
	found, err := c.count(ctx)
	if err != nil {
		return fmt.Errorf("counting unknown keys: %w", err)
	}
	text, err := json.Marshal(found)
	if err != nil {
		return fmt.Errorf("writing what was counted: %w", err)
	}
	c.show(&found, time.Now())
	if err := c.store.Enter(ctx, censusEntry, string(text), c.every); err != nil {
		return fmt.Errorf("entering what was counted: %w", err)
	}
	return nil
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

// read shows what another proxy has counted.
func (c *census) read(text string) bool {
	var found tally
	if json.Unmarshal([]byte(text), &found) != nil {
		return false
	}
	if text != c.seen {
		c.seen, c.seenAt = text, time.Now()
	}
	c.show(&found, c.seenAt)
	return true
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
		c.log.Warn().Str("event", "count_failed").Err(err).Msg("idemproxy_unknown_keys stays as it was")
	}
	c.failing = err != nil
}
