package estore_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// A directory that the last release with format 1 wrote, and left as a crash
// leaves it, goes on: testdata/format1.
func TestDirectoryOfFormat1(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/format1")); err != nil {
		t.Fatal(err)
	}
	config := estore.Config{Dir: dir, SweepEvery: time.Hour}
	s := open(t, config)
	if n := s.SweepNow(t); n != 1 {
		t.Errorf("%d records swept, want the one that has ended", n)
	}
	for range 2 {
		s.LearnNow(t)
		for name, want := range map[string]idem.Verdict{
			"completed": idem.VerdictCompleted, "completed-log": idem.VerdictCompleted, "held": idem.VerdictUnknown,
			"running": idem.VerdictInProgress, "holds": idem.VerdictInProgress,
		} {
			out := acquire(t, s, claim(name))
			if out.Kind != want || want == idem.VerdictCompleted && string(out.Response.Body) != "body of "+name {
				t.Errorf("%s is %v", name, out.Kind)
			}
		}
		if n := s.Leases(t); n != 2 {
			t.Errorf("%d leases, want the two that run", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, config)
	}
	if all, err := s.Entries(t.Context()); err != nil || len(all) != 1 || all[0].Text != "text" {
		t.Errorf("the registry: %v %v", all, err)
	}
	for name, attempt := range map[string]uint32{"freed": 2, "ended": 1} {
		if out := acquire(t, s, claim(name)); out.Kind != idem.VerdictAcquired || out.Attempt != attempt {
			t.Errorf("%s is %v, attempt %d", name, out.Kind, out.Attempt)
		}
	}
	running := claim("running")
	running.Owner = idem.Owner{1, 2, 3}
	complete(t, s, running, "done")
	if n := s.Leases(t); n != 3 {
		t.Errorf("%d leases, want one more that holds, and two new ones", n)
	}
}

// A release that knows format 1 alone does not open what this one has written: it
// reads all that stands under 'l' as leases.
func TestFormat1DoesNotOpenThis(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	if err := open(t, estore.Config{Dir: "data"}.OnFS(fs)).Close(); err != nil {
		t.Fatal(err)
	}
	d := engine(t, fs)
	defer d.close()
	value, closer, err := d.db.Get([]byte("l"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := idem.DecodeRecord(value); !errors.Is(err, idem.ErrVersion) {
		t.Errorf("it reads a lease with %v", err)
	}
	if err := closer.Close(); err != nil {
		t.Error(err)
	}
}

func TestLaterFormatIsRefused(t *testing.T) {
	t.Parallel()
	for what, want := range map[string]error{"\xff\x03": estore.ErrFormat, "\xff": estore.ErrDamaged, "": estore.ErrDamaged} {
		fs := vfs.NewMem()
		d := engine(t, fs)
		d.set('l', nil, []byte(what))
		d.close()
		if _, err := estore.New(estore.Config{Dir: "data"}.OnFS(fs)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", what, err, want)
		}
	}
}

// A lease takes space only while it is one, however it ends.
func TestEndedLeasesLeaveNothing(t *testing.T) {
	t.Parallel()
	config := estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(vfs.NewMem())
	s := open(t, config)
	ends := map[string]func(c idem.Claim) error{
		"completed": func(c idem.Claim) error { return s.Complete(t.Context(), c.Lease(), &idem.Response{Status: 200}) },
		"released":  func(c idem.Claim) error { return s.Release(t.Context(), c.Lease()) },
		"held":      func(c idem.Claim) error { return s.Hold(t.Context(), c.Lease()) },
		"purged":    func(c idem.Claim) error { return s.Purge(t.Context(), c.Key) },
		"taken over": func(c idem.Claim) error {
			pass(c.TTL)
			next := rivalOf(c)
			if out := acquire(t, s, next); out.Kind != idem.VerdictAcquired || out.Attempt != 2 {
				t.Errorf("taken over: %v, attempt %d", out.Kind, out.Attempt)
			}
			return s.Release(t.Context(), next.Lease())
		},
	}
	for _, reopened := range []bool{false, true} {
		for how, end := range ends {
			c := claim(fmt.Sprint(how, reopened))
			c.TTL = 20 * time.Millisecond
			acquire(t, s, c)
			if reopened {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, config)
			}
			if n := s.Leases(t); n != 1 {
				t.Errorf("%s: %d leases while it runs", how, n)
			}
			if err := end(c); err != nil {
				t.Errorf("%s: %v", how, err)
			}
			s.Flush(t)
			if n := s.Leases(t); n != 0 {
				t.Errorf("%s: %d leases afterwards", how, n)
			}
		}
	}
}

// What is completed together is entered together for the sweep, which finds all
// of it.
func TestEndingsStandTogether(t *testing.T) {
	t.Parallel()
	const n = 60
	s, disk := onHanging(t)
	claims := make([]idem.Claim, n)
	for i := range claims {
		claims[i] = claim(fmt.Sprint(i))
		claims[i].Retention = time.Millisecond
		acquire(t, s, claims[i])
	}
	before := s.Lists(t)
	_, back := disk.syncs.shut()
	var completing sync.WaitGroup
	for _, c := range claims {
		completing.Go(func() { complete(t, s, c, "x") })
	}
	for _, c := range claims {
		eventuallySettling(t, s, c.Key)
	}
	back()
	completing.Wait()
	if lists := s.Lists(t) - before; lists > n/4 {
		t.Errorf("%d endings are in %d lists", n, lists)
	}
	for _, c := range claims {
		if _, endings := s.Kept(t, c.Key); endings != 1 {
			t.Errorf("%s is looked at %d times", c.Key.Value(), endings)
		}
	}
	pass(2 * time.Millisecond)
	if swept := s.SweepNow(t); swept != n {
		t.Errorf("%d records swept of %d", swept, n)
	}
	if lists := s.Lists(t); lists != 0 {
		t.Errorf("%d lists are left", lists)
	}
}

// What cannot be dealt with stays in its list.
func TestListKeepsWhatIsLeft(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	gone, later := claim("gone"), claim("later")
	d := engine(t, fs)
	past := time.Now().Add(-time.Hour).UnixMilli()
	k := later.Key.ID()
	d.set('r', k[:], []byte{99, 1, 2, 3}) // of a later layout
	d.set('x', estore.List(past, 1)[1:], estore.ListOf(past, gone.Key, later.Key, gone.Key))
	d.close()
	s := open(t, estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(fs))
	for range 2 {
		s.SweepNow(t)
		if _, endings := s.Kept(t, later.Key); endings != 1 {
			t.Errorf("what cannot be read is looked at %d times", endings)
		}
		if _, endings := s.Kept(t, gone.Key); endings != 0 {
			t.Errorf("what is not there is looked at %d times", endings)
		}
	}
}
