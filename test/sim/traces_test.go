package sim_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/internal/storelog"
)

// traces are what the stores of a world did, behind the doors, and what the engines asked for,
// before them.
type traces struct {
	did   map[int]*tracetest.Recorder // an embedded store is its process's own; what all share is 0
	asked *tracetest.Recorder
	leapt bool // leases lapsed early, because the store's clock was set: the table does not know of that
}

func newTraces() *traces {
	return &traces{did: map[int]*tracetest.Recorder{}, asked: tracetest.NewRecorder(0)}
}

// store is the store of a process, with its calls recorded.
func (t *traces) store(p *process, s whole) whole {
	number := 0
	if p.dir != "" {
		number = p.number
	}
	r := t.did[number]
	if r == nil {
		r = tracetest.NewRecorder(grace)
		r.Late(grace)
		t.did[number] = r
	}
	return storelog.Wrap(s, mortal{r, p}, p.number*100+p.life)
}

// mortal is a recorder of a process's calls: what comes after its end, nobody is told.
type mortal struct {
	*tracetest.Recorder
	p *process
}

// End implements storelog.Sink.
func (m mortal) End(k idem.Key, e *storelog.Event, err error) {
	if err == nil && m.p.door.is() == gone {
		err = fmt.Errorf("killed: %w", idem.ErrUnavailable)
	}
	m.Recorder.End(k, e, err)
}

// is what is wrong with the door now.
func (d *door) is() way {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.way
}

// lost says that all stores forgot what they had.
func (t *traces) lost() {
	for _, r := range t.did {
		r.Lost(time.Now(), time.Now())
	}
}

// check says whether all were paths of the transition table and of the model.
func (t *traces) check() error {
	var errs []error
	for _, r := range t.did {
		// Only of paths: what an engine asked, it asked by what it heard, and a door may have kept that back.
		var no *tracetest.NoPathError
		if err := r.Check(); errors.As(err, &no) && !t.leapt {
			errs = append(errs, fmt.Errorf("the store: %w", err))
		}
	}
	if err := t.asked.CheckCallers(); err != nil {
		errs = append(errs, fmt.Errorf("the engine: %w", err))
	}
	return errors.Join(errs...)
}
