package admin

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Sample is what the process did in the few seconds before a moment.
type Sample struct {
	// At is the moment, in Unix milliseconds, and OverMS how long before it the sample begins.
	At     int64 `json:"at"`
	OverMS int64 `json:"over_ms"`
	// Requests are those a second, by outcome; an outcome without one is not there.
	Requests map[string]float64 `json:"requests"`
	// Store and Backend are how long their operations took; nil if there was none.
	Store   *Latency `json:"store,omitempty"`
	Backend *Latency `json:"backend,omitempty"`
	// StoreErrors are the failed operations of the store a second.
	StoreErrors float64 `json:"store_errors"`
	// InFlight are the leases that the process held at the moment, Waiters the requests that
	// waited for a key in progress, Unknown the keys of the store whose outcome is unknown,
	// as they were last counted; nil before they were.
	InFlight float64  `json:"in_flight"`
	Waiters  float64  `json:"waiters"`
	Unknown  *float64 `json:"unknown,omitempty"`
	// StoreUp says that the store answered at the moment.
	StoreUp bool `json:"store_up"`
}

// Latency is how long operations took, in milliseconds: half of them at most P50, and all but
// one in a hundred at most P99.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// The history's bounds.
const (
	// SampleEvery is how often a sample is taken.
	SampleEvery = 5 * time.Second
	// HistoryOf is how far back samples are kept.
	HistoryOf = 15 * time.Minute
)

// History is the samples of the last 15 minutes. Safe for concurrent use.
type History struct {
	mu      sync.Mutex
	samples []Sample // a ring, once it is full
	next    int      // the place of the next one
}

// Keep takes in a sample; the oldest makes room for it.
func (h *History) Keep(one Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) < int(HistoryOf/SampleEvery) {
		h.samples = append(h.samples, one)
		return
	}
	h.samples[h.next] = one
	h.next = (h.next + 1) % len(h.samples)
}

// Samples is what /history answers: the oldest first.
type Samples struct {
	EveryMS int64 `json:"every_ms"`
	OfMS    int64 `json:"of_ms"`
	// Started is when the process began, in Unix milliseconds: there is nothing before that.
	Started int64    `json:"started"`
	Samples []Sample `json:"samples"`
}

// Samples are those of later moments, the oldest first.
func (h *History) Samples(after int64) []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []Sample{}
	for i := range h.samples {
		if one := h.samples[(h.next+i)%len(h.samples)]; one.At > after {
			out = append(out, one)
		}
	}
	return out
}

// history is GET /history.
func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	var after int64
	if text := r.URL.Query().Get("after"); text != "" {
		var err error
		if after, err = strconv.ParseInt(text, 10, 64); err != nil {
			refuse(w, http.StatusBadRequest, fmt.Errorf("after %q: want the at of a sample, in Unix milliseconds", text))
			return
		}
	}
	answer(w, http.StatusOK, Samples{
		EveryMS: SampleEvery.Milliseconds(), OfMS: HistoryOf.Milliseconds(), Started: s.started.UnixMilli(),
		Samples: s.config.History.Samples(after),
	})
}
