package estore_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// logged is a log that can be read while it is written.
type logged struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) await(t *testing.T, what string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		l.mu.Lock()
		has := strings.Contains(l.text.String(), what)
		l.mu.Unlock()
		if has {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in the log", what)
		}
	}
}

// The space of what has ended comes back by itself while the store is used, and what has
// not ended stays: of records, and of the responses of those that are remembered for longer.
func TestExpiredSpaceComesBackByItself(t *testing.T) {
	t.Parallel()
	for name, remember := range map[string]time.Duration{"records": 0, "responses": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spaceComesBack(t, remember)
		})
	}
}

func spaceComesBack(t *testing.T, remember time.Duration) {
	t.Helper()
	s := open(t, estore.Config{Dir: "data", SweepEvery: 20 * time.Millisecond}.OnFS(vfs.NewMem()))
	kept := claim("kept")
	acquire(t, s, kept)
	complete(t, s, kept, "kept")
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			for i := range 700 {
				c := claim(fmt.Sprint(g, "-", i))
				c.Retention, c.Remember = 5*time.Second, remember // most end when they are in the tables
				acquire(t, s, c)
				body := make([]byte, 1000)
				_, _ = rand.Read(body) // nothing makes it smaller
				if err := s.Complete(t.Context(), c.Lease(), &idem.Response{Status: 200, Body: body}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	s.Flush(t)
	const written = 16 * 700 * 1000
	// What the last tables refer to stays until further writes have the engine compact those: on a
	// slow machine that was a third.
	for deadline := time.Now().Add(time.Minute); s.Size() > written/2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it takes %d bytes, and %d were written", s.Size(), written)
		}
	}
	if out := acquire(t, s, rivalOf(kept)); out.Kind != idem.VerdictCompleted {
		t.Errorf("what has not ended is %v", out.Kind)
	}
}

// A sweep that a hanging disk prevents is told of, and made when the disk is back.
func TestASweepThatFailsIsTold(t *testing.T) {
	t.Parallel()
	disk := &hangingDisk{FS: vfs.NewMem()}
	var log logged
	s := open(t, estore.Config{Dir: "data", Timeout: time.Hour, SweepEvery: 20 * time.Millisecond, Logger: zerolog.New(&log)}.OnFS(disk))
	c := claim("k")
	c.Retention = 50 * time.Millisecond
	acquire(t, s, c)
	complete(t, s, c, "x")
	back := hang(t, s, disk)
	defer back()
	_, err := s.Acquire(t.Context(), claim("doubtful"))
	wantDoubt(t, "an acquire", err)
	log.await(t, `"event":"sweep_failed"`)
	back()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if value, _ := s.Kept(t, c.Key); value == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("what has ended is still there")
		}
	}
}
