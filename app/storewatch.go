package app

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/metrics"
)

// storeWatch says when the store is lost, when it is back, and when it has lost its records:
// each once, however many requests met it.
type storeWatch struct {
	store   idem.Store
	names   *names
	metrics *metrics.Metrics
	log     zerolog.Logger
	amiss   *amiss
	failed  bell // a request's operation did

	lost time.Time // since when; zero: it answers
}

const (
	// storeAskedEvery is how often it is asked while nothing is known to be wrong, and
	// lostAskedEvery while it is lost.
	storeAskedEvery, lostAskedEvery = 5 * time.Second, 500 * time.Millisecond
	// storeAskedFor bounds a question, in which the store's own timeout has room.
	storeAskedFor = time.Minute
)

const saysEmptied = "the store has lost its records: retries of what was in it execute again"

// run watches until ctx ends.
func (w *storeWatch) run(ctx context.Context) {
	for {
		w.look(ctx)
		failed, every := w.failed, storeAskedEvery
		if !w.lost.IsZero() {
			failed, every = nil, lostAskedEvery // that requests fail is no news
		}
		next := time.NewTimer(every)
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-next.C:
		case <-failed:
			next.Stop()
		}
	}
}

func (w *storeWatch) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storeAskedFor)
	defer cancel()
	err := w.store.Ping(ctx)
	switch {
	case ctx.Err() != nil, errors.Is(err, idem.ErrClosed):
		return // this process ends
	case errors.Is(err, errOrphans), errors.Is(err, errUnchecked):
		return // it answers; what is wrong with it has events of its own
	case err != nil && w.lost.IsZero():
		w.lost = time.Now()
		w.metrics.StoreUp.Set(0)
		w.amiss.begin("store_lost", err.Error())
		w.log.Error().Str("event", "store_lost").Err(err).
			Msg("requests with keys are refused, or with fail_open forwarded without protection, until the store answers")
	case err == nil:
		w.answers()
	}
}

// answers says that the store is back, if it was lost, and whether it has lost its records.
func (w *storeWatch) answers() {
	emptied, err := w.names.emptied()
	if err != nil {
		return // it is lost again: the next look finds that
	}
	if emptied {
		w.metrics.StoreEmptied.Inc()
		w.amiss.begin("store_emptied", saysEmptied)
		w.log.Error().Str("event", "store_emptied").Msg(saysEmptied)
	}
	if w.lost.IsZero() {
		return
	}
	w.log.Warn().Str("event", "store_back").Dur("lost_ms", time.Since(w.lost)).Bool("empty", emptied).
		Msg("requests with keys are served again")
	w.lost = time.Time{}
	w.amiss.over("store_lost")
	w.metrics.StoreUp.Set(1)
}
