package estore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// largeLogs are how many of the log files were written before.
func largeLogs(t *testing.T, fs vfs.FS) (n int) {
	t.Helper()
	for _, name := range mustList(t, fs) {
		info, err := fs.Stat(fs.PathJoin("data", name))
		if err == nil && strings.HasSuffix(name, ".log") && info.Size() >= 16<<20 {
			n++
		}
	}
	return n
}

func mustList(t *testing.T, fs vfs.FS) []string {
	t.Helper()
	names, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A store that is busy gets logs that were written before; what they have of a log
// before them is not read after a crash, nor are their zeros.
func TestP2LogsThatWereWrittenBefore(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	s, err := estore.New(estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(fs))
	if err != nil {
		t.Fatal(err)
	}
	var all []idem.Claim
	for round := range 6 {
		for i := range 20 {
			c := claim(fmt.Sprint(round, "-", i))
			acquire(t, s, c)
			complete(t, s, c, strings.Repeat("x", 1000))
			all = append(all, c)
		}
		s.Flush(t) // which begins a new log
		s.AwaitSpare()
	}
	if n := largeLogs(t, fs); n == 0 {
		t.Error("no log was written before")
	}
	if _, err := fs.Stat("data/spare-log"); err != nil {
		t.Errorf("the next log has no spare: %v", err)
	}
	last := claim("last")
	acquire(t, s, last)
	clone := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(clone))
	for _, c := range all {
		if out := acquire(t, s, rivalOf(c)); out.Kind != idem.VerdictCompleted {
			t.Errorf("%s is %v", c.Key.Value(), out.Kind)
		}
	}
	if out := acquire(t, s, rivalOf(last)); out.Kind != idem.VerdictInProgress {
		t.Errorf("what was acquired last is %v", out.Kind)
	}
}

// A store that does little has no spare, and one without room for it does without.
func TestLogsWithoutASpare(t *testing.T) {
	t.Parallel()
	idle := vfs.NewMem()
	s := open(t, estore.Config{Dir: "data"}.OnFS(idle))
	acquire(t, s, claim("k"))
	s.AwaitSpare()
	if _, err := idle.Stat("data/spare-log"); err == nil {
		t.Error("an idle store has a spare")
	}
	full := vfs.NewMem()
	s = open(t, estore.Config{Dir: "data"}.OnFS(&noSpare{full}))
	for i := range 5 {
		c := claim(fmt.Sprint(i))
		acquire(t, s, c)
		complete(t, s, c, "x")
		s.Flush(t)
		s.AwaitSpare()
	}
	if n := largeLogs(t, full); n != 0 {
		t.Errorf("%d logs were written before", n)
	}
	for _, name := range mustList(t, full) {
		if strings.Contains(name, "spare") {
			t.Errorf("%s takes room on a disk that is full", name)
		}
	}
}

// noSpare has no room for a spare.
type noSpare struct{ vfs.FS }

func (d *noSpare) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	if strings.Contains(name, "spare") {
		full := &fullDisk{}
		full.full.Store(true)
		return &fullFile{f, full}, err
	}
	return f, err
}
