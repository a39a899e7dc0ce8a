package test_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/internal/storelog"
)

// storeCalls are what all proxies of one store asked it, and what it answered: they are
// processes, and each has a file that it writes. The files make traces, which package
// tracetest checks.
type storeCalls struct {
	t        *testing.T
	dir      string
	recorder *tracetest.Recorder

	mu    sync.Mutex
	lives []life // guarded by mu
}

// life is one process, from its start to its end.
type life struct {
	file string
	run  *process
}

// callsLate is for how long what was not answered may still take effect: a server stands
// still for 1.5 s, and the machine is busy.
const callsLate = 5 * time.Second

// newStoreCalls begins, for a kind of store. lag is within which the memory of a proxy learns
// what others did.
func newStoreCalls(t *testing.T, kind string, lag time.Duration) *storeCalls {
	t.Helper()
	c := &storeCalls{t: t, dir: t.TempDir(), recorder: tracetest.NewRecorder(lag)}
	c.recorder.Late(callsLate)
	if kind == "embedded" {
		c.recorder.Early()
	}
	return c
}

// start is launch.start of a proxy whose calls are recorded. A nil c records nothing.
func (c *storeCalls) start(t *testing.T, l launch, args ...string) *process {
	t.Helper()
	if c == nil {
		return l.start(t, args...)
	}
	c.mu.Lock()
	number := len(c.lives)
	file := filepath.Join(c.dir, strconv.Itoa(number))
	c.lives = append(c.lives, life{file: file})
	c.mu.Unlock()
	l.env = append(l.env, storelog.Variable+"="+file)
	p := l.start(t, args...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lives[number].run = p
	return p
}

// loses does something by which the store forgets what it has.
func (c *storeCalls) loses(do func()) {
	begun := time.Now()
	do()
	c.recorder.Lost(begun, time.Now())
}

// check fails the test if what was asked and answered is no path of the transition table and
// of the model, or if a proxy asked for what no proxy of the model asks for.
func (c *storeCalls) check() {
	if c == nil {
		return
	}
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lives {
		if l.run == nil { // it never served
			continue
		}
		err := c.recorder.Read(l.file, l.run.goneAt())
		if errors.Is(err, fs.ErrNotExist) && l.run.url == "" {
			continue // it died before it had opened its store
		}
		if errors.Is(err, fs.ErrNotExist) && (os.Getenv("PROXY_BINARY") != "" || os.Getenv("FAILPOINTS_BINARY") != "") {
			c.t.Log("that proxy was not built with the tag storelog: what it asks of its store is not checked")
			return
		}
		if err != nil {
			c.t.Error(err)
		}
	}
	events, undecided, err := c.recorder.Both()
	c.t.Logf("figure: %d calls of the store by %d processes; %d traces are undecided", events, len(c.lives), undecided)
	switch {
	case err != nil:
		c.t.Errorf("the calls of the store: %v", err)
	case events == 0:
		c.t.Error("no call of the store was recorded")
	}
}

// goneAt is when the process had certainly ended, on the clock of its calls; now, if it lives.
func (p *process) goneAt() time.Duration {
	select {
	case <-p.done:
		return p.ended
	default:
		return storelog.Now()
	}
}
