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
	// Event is the log's: store_lost, store_emptied, reload_failed or tls_reload_failed.
	Event string    `json:"event"`
	Since time.Time `json:"since"`
	Text  string    `json:"text"`
}

// emptiedShown is how long a store is said to have lost its records: as long as the alert
// IdemproxyStoreEmptied stays.
const (
	emptiedShown      = time.Hour
	eventStoreEmptied = "store_emptied"
)

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
	since := time.Now()
	if before, there := a.all[event]; there && event != eventStoreEmptied { // which is another loss each time
		since = before.Since
	}
	a.all[event] = Amiss{event, since, text}
}

// over notes that it is not wrong any more.
func (a *amiss) over(event string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, event)
}

// list is what is wrong, the earliest first.
func (a *amiss) list() []Amiss {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, there := a.all[eventStoreEmptied]; there && time.Since(e.Since) > emptiedShown {
		delete(a.all, eventStoreEmptied)
	}
	out := make([]Amiss, 0, len(a.all))
	for _, one := range a.all {
		out = append(out, one)
	}
	slices.SortFunc(out, func(x, y Amiss) int { return cmp.Or(x.Since.Compare(y.Since), cmp.Compare(x.Event, y.Event)) })
	return out
}
