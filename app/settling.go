package app

import (
	"errors"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
)

// What the settling of attempts in doubt tells of itself: each once when it changes, not
// each time, since an endpoint that is down is asked about thousands of keys.

// resolved logs what the backend said of a key that was unknown.
func (o *observer) resolved(k idem.Key, executed bool) {
	outcome, means := resolvedReleased, "the backend says that it was not executed; the key is free"
	if executed {
		outcome, means = resolvedCompleted, "the backend says that it was executed; retries get its response"
	}
	o.metrics.Resolved.WithLabelValues(outcome).Inc()
	o.heldOrResolved.ring()
	o.event(zerolog.InfoLevel, "key_resolved", k).Str("as", outcome).Msg(means)
}

// settlerFull logs that attempts in doubt are turned away, and that they are not any more.
func (o *observer) settlerFull(full bool) {
	if full {
		o.log.Warn().Str("event", "settler_full").
			Msg("too many attempts are in doubt to ask about all: the others stay held in the store until there is room, or a retry comes")
		return
	}
	o.log.Info().Str("event", "settler_has_room").
		Msg("looking through the store for the attempts in doubt that there was no room for")
}

// left counts attempts in doubt that nobody asks about, and logs those of the end.
func (o *observer) left(n int, atEnd bool) {
	o.metrics.LeftUnsettled.Add(float64(n))
	if atEnd {
		o.log.Warn().Str("event", "unsettled_left").Int("attempts", n).
			Msg("these keys stay held in the store: another proxy of this store settles them, or this one once it runs again")
	}
}

// receiptsAsked counts what endpoints for receipts answer. Of errors, each kind has a line
// until the endpoint answers again: the first one may be mended, and another one left.
func (o *observer) receiptsAsked(before *proxy.EndpointStatus, err error, news bool) {
	if err == nil {
		o.metrics.ReceiptsAsked.WithLabelValues(askedAnswered).Inc()
		if news {
			o.log.Info().Str("event", "receipts_answer").Str("receipts", before.URL).Int("failures", before.Failures).
				AnErr("last_error", before.Err).Msg("the endpoint says again what became of attempts")
		}
		return
	}
	o.metrics.ReceiptsAsked.WithLabelValues(askedFailed).Inc()
	if news {
		o.log.Warn().Str("event", "receipts_fail").Str("receipts", before.URL).Err(err).
			Msg("the endpoint does not say what became of an attempt; it is asked again, and attempts in doubt stay held until then")
	}
}

// looked counts looks through the store.
func (o *observer) looked(found int, took time.Duration, err error, turned bool) {
	o.metrics.LookSeconds.Set(took.Seconds())
	if err != nil {
		o.metrics.Looks.WithLabelValues(lookFailed).Inc()
		if turned {
			text := "the store could not be looked through for attempts that others left in doubt; it is tried again after settle_every"
			if errors.Is(err, idem.ErrUnread) {
				text = "whether what cannot be read is in doubt is not known; the other records were looked at"
			}
			o.log.Warn().Str("event", "look_failed").Dur("ms", took).Int("found", found).Err(err).
				Msg(text)
		}
		return
	}
	o.metrics.Looks.WithLabelValues(lookDone).Inc()
	switch {
	case turned:
		o.log.Info().Str("event", "look_done").Dur("ms", took).Int("found", found).Msg("the store could be looked through again")
	case found > 0:
		o.log.Info().Str("event", "look_done").Dur("ms", took).Int("found", found).Msg("attempts in doubt were found in the store")
	}
}
