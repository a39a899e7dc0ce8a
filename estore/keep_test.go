package estore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// pass lets a time go by on the store's clock.
func pass(d time.Duration) { time.Sleep(d + 2*time.Millisecond) }

// What is remembered after its response has ended costs at most 100 bytes beside
// its name, and goes in turn.
func TestP2ResponseGoesBeforeItsKey(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	config := estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(fs)
	s := open(t, config)
	long, short, same := claim("long"), claim("short"), claim("same")
	long.Retention, long.Remember = time.Millisecond, time.Hour
	short.Retention, short.Remember = time.Millisecond, time.Millisecond
	same.Retention = time.Millisecond
	for _, c := range []idem.Claim{long, short, same} {
		acquire(t, s, c)
		complete(t, s, c, string(bytes.Repeat([]byte("x"), 1000)))
	}
	for c, want := range map[*idem.Claim]int{&long: 2, &short: 2, &same: 1} {
		if _, endings := s.Kept(t, c.Key); endings != want {
			t.Errorf("%s is looked at %d times, want %d", c.Key.Value(), endings, want)
		}
	}
	pass(2 * time.Millisecond)
	if n := s.SweepNow(t); n != 2 {
		t.Errorf("%d records swept, want the two that have ended", n)
	}
	for round := range 2 {
		value, endings := s.Kept(t, long.Key)
		if len(value) == 0 || len(value) > 100+len("long") || endings != 1 {
			t.Errorf("round %d: %d bytes are left, to be looked at %d times", round, len(value), endings)
		}
		if out := acquire(t, s, rivalOf(long)); out.Kind != idem.VerdictExpired {
			t.Errorf("round %d: %v, want expired", round, out.Kind)
		}
		if err := s.Complete(t.Context(), long.Lease(), &idem.Response{Status: 200}); err != nil {
			t.Errorf("round %d: a late repetition of its completion: %v", round, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, config)
	}
	if value, endings := s.Kept(t, short.Key); value != nil || endings != 0 {
		t.Errorf("%d bytes of an ended record are left, and %d times to look", len(value), endings)
	}
	states := listed(t, s)
	if len(states) != 1 || states["long"] != idem.Expired {
		t.Errorf("listed %v, want the one that is remembered", states)
	}
}

func listed(t *testing.T, s *estore.Store) map[string]idem.State {
	t.Helper()
	states := map[string]idem.State{}
	if err := s.List(t.Context(), func(r *idem.Record) bool {
		states[r.Key.Value()] = r.State
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return states
}

// What may have executed has no end: nothing looks whether it has.
func TestP7HeldIsNeverSwept(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir(), SweepEvery: time.Hour})
	held, lapsed := claim("held"), claim("lapsed")
	lapsed.HoldOnLapse, lapsed.TTL = true, time.Millisecond
	held.Retention, lapsed.Retention = time.Millisecond, time.Millisecond
	acquire(t, s, held)
	acquire(t, s, lapsed)
	if err := s.Hold(t.Context(), held.Lease()); err != nil {
		t.Fatal(err)
	}
	pass(5 * time.Millisecond)
	if n := s.SweepNow(t); n != 0 {
		t.Errorf("%d records swept, want none", n)
	}
	for _, c := range []idem.Claim{held, lapsed} {
		if _, endings := s.Kept(t, c.Key); endings != 0 {
			t.Errorf("%s is to be looked at", c.Key.Value())
		}
		if out := acquire(t, s, rivalOf(c)); out.Kind != idem.VerdictUnknown {
			t.Errorf("%s is %v", c.Key.Value(), out.Kind)
		}
	}
	if err := s.Resolve(t.Context(), held.Key, idem.Owner{}, &idem.Response{Status: 200}); err != nil {
		t.Fatal(err)
	}
	if _, endings := s.Kept(t, held.Key); endings != 1 {
		t.Errorf("resolved, it is to be looked at %d times, want once", endings)
	}
}

// old is a record as the first layout had it, at the end of which its response
// follows.
func old(c idem.Claim, state idem.State, lease, updated, expires time.Time) []byte {
	b := []byte{1, byte(state), 0, 0, 0, 0, 0, 1}
	if c.HoldOnLapse {
		b[2] = 1
	}
	ms := func(t time.Time) { b = binary.BigEndian.AppendUint64(b, uint64(t.UnixMilli())) }
	ms(lease)
	b = append(b, c.Owner[:]...)
	b = append(append(b, c.Fingerprint[:]...), bytes.Repeat([]byte{0xff}, 16)...)
	b = append(append(b, c.Binding[:]...), bytes.Repeat([]byte{0xff}, 16)...)
	ms(updated)
	ms(updated)
	ms(expires)
	return idem.AppendTail(b, c.Key, nil)
}

// dataOf writes an engine's data: of each key the value under 'l' or 'r', and
// when to look at it.
type dataOf struct {
	t  *testing.T
	db *pebble.DB
}

// quiet says nothing.
type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

func engine(t *testing.T, fs vfs.FS) dataOf {
	t.Helper()
	db, err := pebble.Open("data", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	return dataOf{t, db}
}

func (d dataOf) set(space byte, key, value []byte) {
	d.t.Helper()
	if err := d.db.Set(append([]byte{space}, key...), value, pebble.Sync); err != nil {
		d.t.Fatal(err)
	}
}

func (d dataOf) settled(c idem.Claim, value []byte, ends time.Time) {
	d.t.Helper()
	k := c.Key.ID()
	d.set('r', k[:], value)
	d.set('x', append(binary.BigEndian.AppendUint64(nil, uint64(ends.UnixMilli())), k[:]...), nil)
}

func (d dataOf) clock(now time.Time) {
	d.t.Helper()
	d.set('m', nil, binary.BigEndian.AppendUint64(nil, uint64(now.UnixMilli())))
}

func (d dataOf) close() {
	d.t.Helper()
	if err := d.db.Close(); err != nil {
		d.t.Fatal(err)
	}
}

// A directory of the release before goes on: what it completed is replayed, what
// ran runs, and what it held is held without end, whatever it had noted.
func TestDataOfTheFirstLayout(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	now := time.Now()
	past, future := now.Add(-time.Minute), now.Add(time.Hour)
	done, gone, held, freed := claim("done"), claim("gone"), claim("held"), claim("freed")
	running, holds, abandoned := claim("running"), claim("holds"), claim("abandoned")
	holds.HoldOnLapse = true
	for _, c := range []*idem.Claim{&done, &gone, &held, &freed, &running, &holds, &abandoned} {
		c.Fingerprint, c.Binding, c.Recipe = idem.Fingerprint{1}, idem.Binding{2}, idem.LegacyRecipe
	}
	d := engine(t, fs)
	d.clock(now)
	response := idem.AppendResponse(nil, &idem.Response{Status: 201, Body: []byte("old")})
	d.settled(done, append(old(done, idem.Completed, past, past, future), response...), future)
	d.settled(gone, append(old(gone, idem.Completed, past, past, past), response...), past)
	d.settled(held, old(held, idem.Unknown, past, past.Add(-time.Hour), past), past)
	d.settled(freed, old(freed, idem.Absent, past, past, future), future)
	for c, ends := range map[*idem.Claim]time.Time{&running: future, &holds: past, &abandoned: past} {
		k := c.Key.ID()
		d.set('l', k[:], old(*c, idem.InProgress, past.Add(-time.Hour+time.Minute), past.Add(-time.Hour), ends))
	}
	d.close()

	s := open(t, estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(fs))
	for range 2 {
		if out := acquire(t, s, rivalOf(done)); out.Kind != idem.VerdictCompleted || string(out.Response.Body) != "old" {
			t.Errorf("what was completed is %v", out.Kind)
		}
		for _, c := range []idem.Claim{running, holds, abandoned} {
			if out := acquire(t, s, rivalOf(c)); out.Kind != idem.VerdictInProgress {
				t.Errorf("%s is %v", c.Key.Value(), out.Kind)
			}
		}
		if out := acquire(t, s, rivalOf(held)); out.Kind != idem.VerdictUnknown {
			t.Errorf("what was held is %v", out.Kind)
		}
		if n := s.SweepNow(t); n > 1 {
			t.Errorf("%d records swept, want what had ended", n)
		}
	}
	for c, ends := range map[*idem.Claim]bool{&held: false, &holds: false, &running: true, &done: true} {
		if r, err := s.Get(t.Context(), c.Key); err != nil || (r.Expires != 0) != ends {
			t.Errorf("%s ends at %d (%v)", c.Key.Value(), r.Expires, err)
		}
	}
	for c, attempt := range map[*idem.Claim]uint32{&freed: 2, &gone: 1} {
		if out := acquire(t, s, rivalOf(*c)); out.Kind != idem.VerdictAcquired || out.Attempt != attempt {
			t.Errorf("%s is %v, attempt %d", c.Key.Value(), out.Kind, out.Attempt)
		}
	}
	if err := s.Resolve(t.Context(), held.Key, idem.Owner{}, &idem.Response{Status: 200}); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Get(t.Context(), held.Key); err != nil || r.Retention != time.Hour.Milliseconds() {
		t.Errorf("resolved, it is kept for %d ms (%v), want as long as its claim said", r.Retention, err)
	}
	complete(t, s, running, "new")
	if out := acquire(t, s, rivalOf(running)); out.Kind != idem.VerdictCompleted {
		t.Errorf("what ran and is completed now is %v", out.Kind)
	}
}

// A record of a later layout is no free key, is not swept, and can be purged.
func TestRecordOfALaterLayout(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	c := claim("k")
	d := engine(t, fs)
	d.clock(time.Now())
	d.settled(c, []byte{99, 1, 2, 3}, time.Now().Add(-time.Hour))
	d.close()
	s := open(t, estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(fs))
	s.SweepNow(t)
	if _, err := s.Acquire(t.Context(), c); !errors.Is(err, idem.ErrVersion) {
		t.Errorf("acquire: %v", err)
	}
	if value, endings := s.Kept(t, c.Key); value == nil || endings != 1 {
		t.Errorf("%d bytes are left, to be looked at %d times", len(value), endings)
	}
	if err := s.Purge(t.Context(), c.Key); err != nil {
		t.Errorf("purge: %v", err)
	}
	if out := acquire(t, s, c); out.Kind != idem.VerdictAcquired {
		t.Errorf("after the purge: %v", out.Kind)
	}
}
