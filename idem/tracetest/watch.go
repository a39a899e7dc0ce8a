package tracetest

import (
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/internal/storelog"
)

// Watched is a [storetest.Memory], or what has one within.
type Watched interface{ Watch(w storetest.Watcher) }

// Watch is s, for the engine of a test over m, of which s may be a wrapper. When tb ends
// it fails if what m did is no path of the automata, or if what was asked through s is not
// what a proxy of the model asks for. What a test asks of m itself is in m's traces only.
func Watch(tb testing.TB, m Watched, s Store) *storelog.Recorded {
	tb.Helper()
	did, asked := NewRecorder(0), NewRecorder(0)
	m.Watch(watcher{did})
	tb.Cleanup(func() {
		if err := did.Check(); err != nil {
			tb.Errorf("the store: %v", err)
		}
		if err := asked.CheckCallers(); err != nil {
			tb.Errorf("the engine: %v", err)
		}
	})
	return asked.Wrap(s)
}

// watcher records what a Memory does: none of its calls overlap.
type watcher struct{ r *Recorder }

func (w watcher) add(k idem.Key, e *Event, err error) {
	w.r.Begin(k, e)
	w.r.End(k, e, err)
}

func (w watcher) Acquired(c idem.Claim, out idem.Outcome) {
	var e Event
	e.Acquired(c, out)
	w.add(c.Key, &e, nil)
}

func (w watcher) Applied(event idem.Event, l idem.Lease, r *idem.Response, err error) {
	e := Event{Kind: Kind(event), Response: storelog.ResponseID(r)}
	e.Leased(l)
	w.add(l.Key, &e, err)
}

func (w watcher) Looked(k idem.Key, r *idem.Record, err error) {
	e := Event{Kind: Look}
	e.Looked(r)
	w.add(k, &e, err)
}

func (w watcher) Purged(k idem.Key, err error) {
	w.add(k, &Event{Kind: Purge, Seen: idem.Unknown}, err)
}
