package app

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Amiss is what is wrong with a proxy at the moment, and why: the text of the log's event,
// for those who ask the proxy and not its log.
type Amiss struct {
	// Event is the log's: store_lost, store_emptied, reload_failed, tls_reload_failed or
	// accept_failed.
	Event string    `json:"event"`
	Since time.Time `json:"since"`
	Text  string    `json:"text"`

	last time.Time // when begin was called last
}

const (
	eventStoreEmptied = "store_emptied"
	eventAcceptFailed = "accept_failed"
)

// shownFor is how long what has no end of its own is shown after it was noted last: that a store
// has lost its records as long as the alert IdemproxyStoreEmptied stays; that no client can
// connect a few seconds, since it is noted each second.
func shownFor(event string) (limit time.Duration, limited bool) {
	switch event {
	case eventStoreEmptied:
		return time.Hour, true
	case eventAcceptFailed:
		return 5 * time.Second, true
	}
	return 0, false
}

// amiss is everything that is wrong. The zero value is ready for use.
type amiss struct {
	mu  sync.Mutex
	all map[string]Amiss // guarded by mu; by event
}

// begin notes that something is wrong. What was wrong before keeps its time, and gets the new text.
func (a *amiss) begin(event, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[string]Amiss{}
	}
	now := time.Now()
	since := now
	if before, there := a.current(event); there && event != eventStoreEmptied { // which is another loss each time
		since = before.Since
	}
	a.all[event] = Amiss{event, since, text, now}
}

// over notes that it is not wrong any more.
func (a *amiss) over(event string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, event)
}

// current is what is wrong of that name, unless its time is over. It is called with mu held.
func (a *amiss) current(event string) (one Amiss, there bool) {
	one, there = a.all[event]
	limit, limited := shownFor(event)
	return one, there && (!limited || time.Since(one.last) <= limit)
}

// list is what is wrong, the earliest first.
func (a *amiss) list() []Amiss {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Amiss, 0, len(a.all))
	for event := range a.all {
		if one, there := a.current(event); there {
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(x, y Amiss) int { return cmp.Or(x.Since.Compare(y.Since), cmp.Compare(x.Event, y.Event)) })
	return out
}
