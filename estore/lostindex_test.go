package estore_test

import (
	"errors"
	"os"
	"path/filepath"
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
	s, err = estore.New(estore.Config{Dir: dir})
	if err != nil {
		return
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
		fs := vfs.NewMem()
		s := open(t, estore.Config{Dir: "data"}.OnFS(fs))
		running := claim("running")
		acquire(t, s, running)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, estore.Config{Dir: "data", MinFreeBytes: c.least}.OnFS(nearlyFull{fs, c.left}))
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
