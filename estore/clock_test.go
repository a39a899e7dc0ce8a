package estore_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// A wall clock that is years ahead at a start ends nothing that had more than an
// hour left; what ends by that hour is still there when the mistake is mended.
func TestP2WallClockInTheFuture(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	var log bytes.Buffer
	config := estore.Config{Dir: "data", SweepEvery: time.Hour, Logger: zerolog.New(&log)}.OnFS(fs)
	wrong := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	day, minute := claim("day"), claim("minute")
	day.Retention, minute.Retention = 24*time.Hour, time.Minute
	s := open(t, config)
	for _, c := range []idem.Claim{day, minute} {
		acquire(t, s, c)
		complete(t, s, c, "x")
	}
	closed := func(s *estore.Store) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	closed(s)
	if bytes.Contains(log.Bytes(), []byte("clock_jump")) {
		t.Errorf("a jump is logged before there was one: %s", &log)
	}
	for range 30 { // which are not 30 hours
		s = open(t, config.OnWall(wrong, time.Hour))
		if out := acquire(t, s, rivalOf(day)); out.Kind != idem.VerdictCompleted {
			t.Fatalf("a day's response is %v", out.Kind)
		}
		if n := s.SweepNow(t); n != 0 {
			t.Fatalf("%d records swept", n)
		}
		if _, err := s.Get(t.Context(), minute.Key); !errors.Is(err, idem.ErrNotFound) {
			t.Fatalf("a minute's response: %v", err)
		}
		closed(s)
	}
	if n := bytes.Count(log.Bytes(), []byte(`"event":"clock_jump"`)); n != 30 {
		t.Errorf("the jump is logged %d times, want at each of 30 starts: %s", n, &log)
	}
	s = open(t, config) // the clock is right again
	if out := acquire(t, s, rivalOf(minute)); out.Kind != idem.VerdictCompleted {
		t.Errorf("a minute's response, after all: %v", out.Kind)
	}
	closed(s)
	s = open(t, config.OnWall(wrong, time.Nanosecond)) // nobody mends it in time
	if n := s.SweepNow(t); n != 1 {
		t.Errorf("%d records swept, want the one that has ended", n)
	}
	if out := acquire(t, s, rivalOf(day)); out.Kind != idem.VerdictCompleted {
		t.Errorf("a day's response: %v", out.Kind)
	}
}

// An hour, which is a restart or an upgrade, is believed at once; so is a clock
// that was set back, which shows nothing.
func TestWallClockThatIsBelieved(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	var log bytes.Buffer
	config := estore.Config{Dir: "data", SweepEvery: time.Hour, Logger: zerolog.New(&log)}.OnFS(fs)
	c := claim("k")
	c.Retention = 30 * time.Minute
	s := open(t, config)
	acquire(t, s, c)
	complete(t, s, c, "x")
	for absence, want := range map[time.Duration]idem.Verdict{-time.Hour: idem.VerdictCompleted, 20 * time.Minute: idem.VerdictCompleted} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, config.OnWall(time.Now().Add(absence), time.Hour))
		if out := acquire(t, s, rivalOf(c)); out.Kind != want {
			t.Errorf("after %v: %v", absence, out.Kind)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, config.OnWall(time.Now().Add(40*time.Minute), time.Hour))
	if n := s.SweepNow(t); n != 1 {
		t.Errorf("%d records swept, want the one that has ended", n)
	}
	if log.Len() != 0 {
		t.Errorf("logged: %s", &log)
	}
}

// What has ended stays ended, though the wall clock of the next start is an hour behind: a response is not replayed
// after its retention.
func TestAClockThatWasSetBackBringsNothingBack(t *testing.T) {
	t.Parallel()
	config := estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(vfs.NewMem())
	c, marker := claim("k"), claim("marker")
	c.Retention = time.Millisecond
	s := open(t, config)
	acquire(t, s, c)
	complete(t, s, c, "x")
	acquire(t, s, marker)
	complete(t, s, marker, "x")
	ended := readAt(t, s, marker) + 2
	for readAt(t, s, marker) < ended {
		time.Sleep(time.Millisecond) // the store's clock is the event
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, config.OnWall(time.Now().Add(-time.Hour), time.Hour))
	if now := readAt(t, s, marker); now < ended {
		t.Errorf("the store's clock shows %d, and had shown %d", now, ended)
	}
	if out := acquire(t, s, rivalOf(c)); out.Kind == idem.VerdictCompleted {
		t.Error("a response is replayed after its retention")
	}
}

// readAt is what the store's clock shows.
func readAt(t *testing.T, s *estore.Store, c idem.Claim) int64 {
	t.Helper()
	r, err := s.Get(t.Context(), c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return r.ReadAt
}

// A process that is killed has its clock saved as well, by the latest sweep: the next start goes on from there,
// whatever the wall clock says.
func TestTheClockOutlivesACrash(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	config := estore.Config{Dir: "data", SweepEvery: 10 * time.Millisecond}
	c := claim("k")
	s := open(t, config.OnFS(fs))
	acquire(t, s, c)
	complete(t, s, c, "x")
	seen := readAt(t, s, c)
	for end := time.Now().Add(time.Minute); ; {
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 0))})
		after := open(t, config.OnFS(clone).OnWall(time.Now().Add(-time.Hour), time.Hour))
		now := readAt(t, after, c)
		if err := after.Close(); err != nil {
			t.Fatal(err)
		}
		if now >= seen {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after a crash the store's clock shows %d, and had shown %d", now, seen)
		}
	}
}
