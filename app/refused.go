package app

import (
	"net"
	"sync"
	"time"
)

// refusals have one line in the log a second and reason at most, which says how many
// connections it is about: whoever connects without end shall not fill the log.
type refusals struct {
	mu   sync.Mutex
	last map[string]time.Time // by reason; guarded by mu
	more map[string]int       // since then; guarded by mu
}

const refusalsEvery = time.Second

// due counts a refusal, and says whether there is to be a line, about how many.
func (r *refusals) due(why string, now time.Time) (n int, yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last, r.more = map[string]time.Time{}, map[string]int{}
	}
	r.more[why]++
	if now.Sub(r.last[why]) < refusalsEvery {
		return 0, false
	}
	n = r.more[why]
	r.last[why], r.more[why] = now, 0
	return n, true
}

// refused counts and logs a connection that got no further.
func (a *App) refused(why string, peer net.Addr, id []byte, err error) {
	a.metrics.Refused.WithLabelValues(why).Inc()
	n, yes := a.refusals.due(why, time.Now())
	if !yes {
		return
	}
	e := a.log.Warn().Str("event", "connection_refused").Str("reason", why).Stringer("remote", peer).Int("connections", n)
	if len(id) > 0 {
		e = e.Bytes("request_id", id)
	}
	if err != nil {
		e = e.AnErr("error", err)
	}
	e.Msg("closed before a request was read; this is the last of so many since the line before")
}
