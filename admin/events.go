package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Event is one request's decision, as it is shown live.
type Event struct {
	Seq      uint64    `json:"seq"` // the request's number in this process
	At       time.Time `json:"at"`
	Outcome  string    `json:"outcome"`
	Status   int       `json:"status"`
	Method   string    `json:"method,omitempty"`
	Path     string    `json:"path,omitempty"`
	Route    string    `json:"route,omitempty"`
	Key      string    `json:"key,omitempty"` // its digest
	Attempt  uint32    `json:"attempt,omitempty"`
	Client   string    `json:"client,omitempty"`
	Request  string    `json:"request_id,omitempty"`
	Settled  string    `json:"settlement,omitempty"` // what the backend said of an attempt in doubt
	Error    string    `json:"error,omitempty"`
	Millis   float64   `json:"ms"`
	Backend  float64   `json:"backend_ms,omitempty"`
	WaitedMS float64   `json:"waited_ms,omitempty"`
	Store    float64   `json:"store_ms,omitempty"`
	Ending   string    `json:"ending,omitempty"`  // how an execution ended in the store
	Differs  string    `json:"differs,omitempty"` // what a mismatch is about
	Would    string    `json:"would,omitempty"`   // what would have become of it, if it was only observed
}

// Events passes decisions on to whoever is looking. Nobody looking costs one
// atomic load a request. Safe for concurrent use.
type Events struct {
	looking atomic.Int32
	mu      sync.Mutex
	to      map[*watcher]struct{} // guarded by mu
}

// watcher is somebody who is looking.
type watcher struct {
	events chan Event
	missed atomic.Int64
}

// watched is how many decisions wait for one who is slow; further ones are
// missed, and counted.
const watched = 512

// Wanted says whether somebody is looking: if not, Publish is not worth calling.
func (e *Events) Wanted() bool { return e.looking.Load() > 0 }

// Publish never waits.
func (e *Events) Publish(one Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.to {
		select {
		case w.events <- one:
		default:
			w.missed.Add(1)
		}
	}
}

func (e *Events) watch() *watcher {
	w := &watcher{events: make(chan Event, watched)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.to == nil {
		e.to = map[*watcher]struct{}{}
	}
	e.to[w] = struct{}{}
	e.looking.Add(1)
	return w
}

func (e *Events) leave(w *watcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.to, w)
	e.looking.Add(-1)
}

// serve is GET /events: server-sent events (HTML standard section 9.2), one a
// decision; "missed" says how many did not get through.
func (e *Events) serve(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	me := e.watch()
	defer e.leave(me)
	if _, err := fmt.Fprint(w, ": looking\n\n"); err != nil || control.Flush() != nil {
		return
	}
	alive := time.NewTicker(15 * time.Second)
	defer alive.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-alive.C:
			if _, err := fmt.Fprint(w, ": alive\n\n"); err != nil {
				return
			}
		case one := <-me.events:
			text, err := json.Marshal(one)
			if err != nil {
				return
			}
			if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil {
				return
			}
		}
		if n := me.missed.Swap(0); n > 0 {
			if _, err := fmt.Fprintf(w, "event: missed\ndata: %d\n\n", n); err != nil {
				return
			}
		}
		if len(me.events) == 0 && control.Flush() != nil {
			return
		}
	}
}
