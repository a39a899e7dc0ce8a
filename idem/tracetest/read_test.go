package tracetest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/internal/storelog"
)

// logged is a store whose calls two processes write to files.
type logged struct {
	*storetest.Memory
	t     *testing.T
	files [2]string
	logs  [2]*storelog.Log
	all   [2]*storelog.Recorded
}

func newLogged(t *testing.T) *logged {
	t.Helper()
	l := &logged{Memory: storetest.NewMemory(), t: t}
	for i := range l.files {
		l.files[i] = filepath.Join(t.TempDir(), "calls")
		log, err := storelog.Open(l.files[i])
		if err != nil {
			t.Fatal(err)
		}
		l.logs[i], l.all[i] = log, storelog.Wrap(l, log, 0)
	}
	return l
}

// read is what the files come to.
func (l *logged) read() *tracetest.Recorder {
	l.t.Helper()
	r := tracetest.NewRecorder(0)
	for _, file := range l.files {
		if err := r.Read(file, storelog.Now()); err != nil {
			l.t.Fatal(err)
		}
	}
	return r
}

func claimOf(t *testing.T, name string) idem.Claim {
	t.Helper()
	k, err := idem.ParseKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return idem.Claim{Key: k, Owner: idem.NewOwner(), TTL: time.Minute, Retention: time.Hour, Remember: time.Hour}
}

// Release refuses what it certainly did not do.
func (l *logged) Release(context.Context, idem.Lease) error {
	return fmt.Errorf("%w: %w", idem.ErrUnavailable, idem.ErrRefused)
}

// What two processes have written makes one trace for each key, which is a path.
func TestReadProcesses(t *testing.T) {
	t.Parallel()
	l, ctx := newLogged(t), t.Context()
	c := claimOf(t, "a key nobody should read")
	for _, do := range []func() error{
		func() error { _, err := l.all[0].Acquire(ctx, c); return err },
		func() error { return errors.Join(l.all[0].Renew(ctx, []idem.Lease{c.Lease()})...) },
		func() error {
			return l.all[0].Complete(ctx, c.Lease(), &idem.Response{Status: 201, Body: []byte("made")})
		},
		func() error { _, err := l.all[1].Acquire(ctx, claimOf(t, c.Key.Value())); return err },
		func() error { _, err := l.all[1].Get(ctx, c.Key); return err },
		func() error { return l.all[1].Purge(ctx, c.Key) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.all[1].Release(ctx, c.Lease()); !errors.Is(err, idem.ErrRefused) {
		t.Fatal(err)
	}
	r := l.read()
	if events, undecided, err := r.Both(); events != 6 || undecided != 0 || err != nil {
		t.Errorf("%d events, want 6; %d undecided: %v", events, undecided, err)
	}
	for _, file := range l.files {
		if text, _ := os.ReadFile(file); strings.Contains(string(text), "nobody") || strings.Contains(string(text), "made") {
			t.Errorf("it says what it should not: %s", text)
		}
	}
	for _, trace := range r.Traces() {
		if at := trace[0].Call.Abs(); at > time.Minute {
			t.Errorf("the clock of the files says %v", at)
		}
	}
}

// Of what a killed process asked last, nobody knows whether it was done. Its last line may
// be cut off.
func TestReadKilledProcess(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{false, true} {
		l, ctx := newLogged(t), t.Context()
		c := claimOf(t, "k")
		var e storelog.Event
		e.Acquired(c, idem.Outcome{})
		l.logs[0].Begin(c.Key, &e) // and it is killed
		if done {
			if _, err := l.Acquire(ctx, c); err != nil {
				t.Fatal(err)
			}
		}
		appendTo(t, l.files[0], `{"state":"told","n":1,"ke`)
		if _, err := l.all[1].Acquire(ctx, claimOf(t, "k")); err != nil {
			t.Fatal(err)
		}
		if events, _, err := l.read().Both(); events != 2 || err != nil {
			t.Errorf("done: %v: %d events, want 2: %v", done, events, err)
		}
	}
}

// A store in the process itself tells of a grant that is not on the disk yet, and forgets
// it when the process is killed. What was granted, it does not forget.
func TestReadGrantNotYetOnTheDisk(t *testing.T) {
	t.Parallel()
	for _, granted := range []bool{false, true} {
		l, ctx := newLogged(t), t.Context()
		c := claimOf(t, "k")
		var e storelog.Event
		e.Acquired(c, idem.Outcome{})
		l.logs[0].Begin(c.Key, &e)
		out, err := l.Acquire(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		if e.Acquired(c, out); granted {
			l.logs[0].End(c.Key, &e, nil)
		}
		if out, err := l.all[0].Acquire(ctx, claimOf(t, "k")); err != nil || out.Kind != idem.VerdictInProgress {
			t.Fatal(out, err)
		}
		l.Memory = storetest.NewMemory() // it was killed, and is started again
		if _, err := l.all[1].Acquire(ctx, claimOf(t, "k")); err != nil {
			t.Fatal(err)
		}
		r := l.read()
		if _, _, err := r.Both(); err == nil {
			t.Errorf("granted: %v: another store may forget it", granted)
		}
		r.Early()
		if _, _, err := r.Both(); (err == nil) == granted {
			t.Errorf("granted: %v: %v", granted, err)
		}
	}
}

// A store that two processes are granted the same key by is found out.
func TestReadWhatIsNoPath(t *testing.T) {
	t.Parallel()
	l, ctx := newLogged(t), t.Context()
	for i := range l.all {
		l.Memory = storetest.NewMemory() // each has its own
		if _, err := l.all[i].Acquire(ctx, claimOf(t, "k")); err != nil {
			t.Fatal(err)
		}
	}
	r := l.read()
	var no *tracetest.NoPathError
	if _, _, err := r.Both(); !errors.As(err, &no) {
		t.Errorf("%v, want a NoPathError", err)
	}
	r.Lost(time.Now().Add(-time.Minute), time.Now())
	if _, _, err := r.Both(); err != nil {
		t.Errorf("after a loss: %v", err)
	}
}

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
