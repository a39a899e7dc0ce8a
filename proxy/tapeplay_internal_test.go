package proxy

import (
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// A response is read on once its first client has what there is of it, or has left; one that
// takes nothing holds it up no longer than until somebody looks at it. It begins once.
func TestTapeIsPlayedWhenIdle(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		does    func(*tapeReader)
		watched bool
		after   time.Duration
	}{
		"has all":                       {func(r *tapeReader) { _, _ = r.WriteTo(io.Discard) }, false, 0},
		"cannot be written":             {func(r *tapeReader) { _, _ = r.WriteTo(brokenWriter{}); _ = r.Close() }, false, 0},
		"has left":                      {func(r *tapeReader) { r.abandon(); _ = r.Close() }, false, 0},
		"takes nothing":                 {func(*tapeReader) {}, false, lookAtClient},
		"takes nothing, and is watched": {func(*tapeReader) {}, true, lookAtClient},
		"has all, and is watched":       {func(r *tapeReader) { _, _ = r.WriteTo(io.Discard) }, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				one := &tape{readOn: time.Minute, deserted: func() {}, hold: func(int) {}, length: -1, limit: 100}
				one.start()
				r := one.read(true, nil)
				_, _ = one.Write([]byte("data: a\n\n"))
				set, begun := time.Now(), make(chan time.Duration, 2)
				var w *watch
				if c.watched {
					w = &watch{client: &clientConn{}}
					w.client.rounds.begin(w)
					defer w.end()
				}
				one.whenIdle(func() { begun <- time.Since(set) }, w)
				go c.does(r)
				synctest.Wait()
				if c.after > 0 && len(begun) > 0 {
					t.Error("begun before the client has what there is")
				}
				if after := <-begun; after != c.after {
					t.Errorf("begun after %v, want %v", after, c.after)
				}
				time.Sleep(3 * lookAtClient)
				if len(begun) > 0 {
					t.Error("begun twice")
				}
				one.end(nil)
			})
		})
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("the client has left") }

// Who looks at the client holds the watch and may then want the tape, so that nobody who holds
// the tape may wait for the watch.
func TestTapeDoesNotWaitForTheWatch(t *testing.T) {
	t.Parallel()
	one := &tape{readOn: time.Minute, deserted: func() {}, hold: func(int) {}, length: -1, limit: 100}
	one.start()
	r := one.read(true, nil)
	w := &watch{client: &clientConn{}}
	w.mu.Lock() // somebody looks
	waits, begun := make(chan struct{}), make(chan struct{})
	go func() {
		one.whenIdle(func() { close(begun) }, w)
		close(waits)
	}()
	for isSet := false; !isSet; runtime.Gosched() {
		one.mu.Lock()
		isSet = one.play != nil
		one.mu.Unlock()
	}
	r.abandon() // since it has left
	w.mu.Unlock()
	<-waits
	_ = r.Close()
	<-begun
}
