package sim_test

import (
	"context"
	"errors"

	"github.com/idemproxy/idemproxy/idem"
)

// look looks into the store: what was executed, and answered whole, is in progress there or
// completed, whether anybody asks or not.
func (w *world) look() {
	w.mu.Lock()
	last := map[string]*execution{}
	for _, e := range w.executions {
		last[e.key] = e
	}
	var certain []*execution
	for k := range keyCount {
		if e := last[keyOf(k)]; e != nil && e.answered && !e.missed && w.certain(e) {
			certain = append(certain, e)
		}
	}
	w.mu.Unlock()
	for _, e := range certain {
		w.isKept(e)
	}
}

// certain says that nothing could lose an execution, or its lease. w.mu is held.
func (w *world) certain(e *execution) bool {
	return (e.end == answers || e.end == pieces) && !w.mayFollow(e) && !w.forgotten(e) && !w.risked(e.process, e.began.Add(-grace))
}

// isKept checks that the store has a record of an execution.
func (w *world) isKept(e *execution) {
	key, err := idem.ParseKey(e.key)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	record, err := w.observer(w.proxies[0]).Get(ctx, key)
	gone := errors.Is(err, idem.ErrNotFound)
	if err != nil && !gone || err == nil && record.State != idem.Unknown && record.State != idem.Absent {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.certain(e) { // still: nothing happened while the store was asked
		e.missed = true
		w.violated("%s was executed (%d) and answered, and in the store it is %v", e.key, e.number, record.State)
	}
}
