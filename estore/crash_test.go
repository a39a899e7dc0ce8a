package estore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// TestP2CrashLosesNothingAcknowledged pulls the plug at random moments while
// eight writers work: the file system is cloned as a power failure could leave
// it (what was not synced is there in part, or not), and opened again. Every
// completion that had been acknowledged before the clone must be there, every
// acquired key must not be free, and nothing may be there that was never
// written.
func TestP2CrashLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewCrashableMem()
	s, err := estore.New(estore.Config{Dir: "data"}.OnFS(fs))
	if err != nil {
		t.Fatal(err)
	}
	w := &writers{store: s, turns: make(chan struct{}, 150), acquired: map[string]idem.Claim{}, done: map[string]string{}}
	for i := range 8 {
		w.running.Go(func() { w.write(t, i) })
	}
	for range 12 {
		for range cap(w.turns) {
			w.turns <- struct{}{}
		}
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Microsecond) // somewhere amid the writes
		// What is acknowledged now must be in every clone made from now on.
		acquired, done := w.acknowledged()
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		verify(t, clone, acquired, done)
	}
	close(w.turns)
	w.running.Wait()
	if len(w.done) < 100 {
		t.Errorf("only %d completions: too few to mean anything", len(w.done))
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

type writers struct {
	store   *estore.Store
	turns   chan struct{} // one for each key to write
	running sync.WaitGroup

	mu       sync.Mutex
	acquired map[string]idem.Claim
	done     map[string]string
}

func (w *writers) write(t *testing.T, writer int) {
	i := 0
	for range w.turns {
		i++
		name := fmt.Sprintf("%d-%d", writer, i)
		c := claim(name)
		acquire(t, w.store, c)
		w.mu.Lock()
		w.acquired[name] = c
		w.mu.Unlock()
		body := "body of " + name
		if err := w.store.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200, Body: []byte(body)}); err != nil {
			t.Error(err)
			return
		}
		w.mu.Lock()
		w.done[name] = body
		w.mu.Unlock()
	}
}

func (w *writers) acknowledged() (acquired map[string]idem.Claim, done map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	acquired, done = make(map[string]idem.Claim), make(map[string]string)
	for k, v := range w.acquired {
		acquired[k] = v
	}
	for k, v := range w.done {
		done[k] = v
	}
	return acquired, done
}

func verify(t *testing.T, fs vfs.FS, acquired map[string]idem.Claim, done map[string]string) {
	t.Helper()
	s, err := estore.New(estore.Config{Dir: "data"}.OnFS(fs))
	if err != nil {
		t.Fatalf("the store does not open after a crash: %v", err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for name, c := range acquired {
		c.Owner = idem.NewOwner()
		out, err := s.Acquire(context.Background(), c)
		body, acknowledged := done[name]
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case acknowledged && out.Kind != idem.VerdictCompleted:
			t.Errorf("%s was acknowledged as completed and is %v", name, out.Kind)
		case acknowledged && string(out.Response.Body) != body:
			t.Errorf("%s replays %q", name, out.Response.Body)
		case !acknowledged && out.Kind == idem.VerdictAcquired:
			t.Errorf("%s was acquired and is free after the crash", name)
		}
	}
	if _, err := s.Get(context.Background(), claim("never").Key); !errors.Is(err, idem.ErrNotFound) {
		t.Errorf("a key that was never used: %v", err)
	}
}
