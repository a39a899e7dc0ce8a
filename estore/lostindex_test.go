package estore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// An index that is older than the tables beside it (the end of it was lost, or a copy was
// put back) is noticed: what the tables have would be gone, and execute again.
func TestAnIndexThatLacksATableIsNoticed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := estore.New(estore.Config{Dir: dir, SweepEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		stored(t, s, name, 100)
	}
	index, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	if err != nil || len(index) != 1 {
		t.Fatalf("the indexes are %v, %v", index, err)
	}
	before, err := os.ReadFile(index[0])
	if err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("the logs are %v, %v", logs, err)
	}
	s.Flush(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if now, err := os.ReadFile(index[0]); err != nil || len(now) <= len(before) {
		t.Fatalf("the index did not grow from %d bytes: %v", len(before), err)
	}
	if err := os.WriteFile(index[0], before, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, log := range logs { // what they had is in the table: the engine removes them, or writes over them, when it likes
		if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	s, err = estore.New(estore.Config{Dir: dir})
	if errors.Is(err, estore.ErrDamaged) {
		return
	}
	if err != nil {
		t.Fatalf("%v, want %v", err, estore.ErrDamaged)
	}
	defer func() { _ = s.Close() }()
	for _, name := range []string{"a", "b"} {
		if out := acquire(t, s, claim(name)); out.Kind != idem.VerdictCompleted {
			t.Errorf("it was opened, and %s is %v", name, out.Kind)
		}
	}
}

// nearlyFull has so much space left.
type nearlyFull struct {
	vfs.FS

	left uint64
}

func (d nearlyFull) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.left, TotalBytes: 1 << 40}, nil
}

// Nothing new is taken below 128 MiB of free space, unless the setting says otherwise; what
// runs comes to its end.
func TestSpaceThatIsKeptFree(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		least, left uint64
		low         bool
	}{
		"enough": {0, 128 << 20, false}, "too little": {0, 128<<20 - 1, true},
		"enough for the setting": {1000, 1000, false}, "too little for it": {1000, 999, true},
	} {
		mem := vfs.NewMem()
		s := open(t, estore.Config{Dir: "data"}.OnFS(mem))
		running := claim("running")
		acquire(t, s, running)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, estore.Config{Dir: "data", MinFreeBytes: c.least}.OnFS(nearlyFull{mem, c.left}))
		if _, err := s.Acquire(t.Context(), claim("new")); errors.Is(err, estore.ErrDiskLow) != c.low || (err != nil) != c.low {
			t.Errorf("%s: a new key: %v", name, err)
		}
		if err := s.Ping(t.Context()); errors.Is(err, estore.ErrDiskLow) != c.low {
			t.Errorf("%s: ping: %v", name, err)
		}
		if err := renew(t, s, running); err != nil {
			t.Errorf("%s: a renewal: %v", name, err)
		}
		complete(t, s, running, "x")
	}
}

// changingDisk has as much space left as it is told.
type changingDisk struct {
	vfs.FS
	left atomic.Uint64
}

func (d *changingDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.left.Load(), TotalBytes: 1 << 40}, nil
}

// A disk that fills up while the store is used is noticed long before the next sweep, and one
// that has room again.
func TestADiskThatFillsUp(t *testing.T) {
	t.Parallel()
	disk := &changingDisk{FS: vfs.NewMem()}
	disk.left.Store(1 << 30)
	s := open(t, estore.Config{Dir: "data", SweepEvery: time.Hour, MinFreeBytes: 1 << 20}.OnFS(disk))
	for i, c := range []struct {
		left uint64
		low  bool
	}{{1 << 30, false}, {1<<20 - 1, true}, {1 << 30, false}} {
		disk.left.Store(c.left)
		for end := time.Now().Add(time.Minute); errors.Is(s.Ping(t.Context()), estore.ErrDiskLow) != c.low; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("with %d bytes left: %v", c.left, s.Ping(t.Context()))
			}
		}
		if _, err := s.Acquire(t.Context(), claim(fmt.Sprint(i))); errors.Is(err, estore.ErrDiskLow) != c.low || (err != nil) != c.low {
			t.Errorf("with %d bytes left: a new key: %v", c.left, err)
		}
	}
}
