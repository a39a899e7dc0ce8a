package estore_test

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// fullDisk is a file system that has no room, once it is full.
type fullDisk struct {
	vfs.FS
	full atomic.Bool
}

func (d *fullDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return &fullFile{f, d}, err
}

func (d *fullDisk) ReuseForWrite(oldName, newName string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldName, newName, c)
	return &fullFile{f, d}, err
}

type fullFile struct {
	vfs.File
	disk *fullDisk
}

func (f *fullFile) Write(p []byte) (int, error) {
	if f.disk.full.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(p)
}

// A write that did not reach the disk ends the process: what the engine's memory
// says of it is not to be told to anybody. A lease that is not on the disk would
// be gone after a restart, and its operation executed again.
func TestP1NothingIsAnsweredFromMemoryOnly(t *testing.T) {
	t.Parallel()
	disk := &fullDisk{FS: vfs.NewMem()}
	var exits atomic.Int32
	s, err := estore.New(estore.Config{Dir: "store", MinFreeBytes: 1}.OnFS(disk).OnExit(func(int) { exits.Add(1) }))
	if err != nil {
		t.Fatal(err)
	}
	claim := func(value string) idem.Claim {
		key, err := idem.ParseKey(value)
		if err != nil {
			t.Fatal(err)
		}
		return idem.Claim{Key: key, Owner: idem.NewOwner(), TTL: time.Minute, Retention: time.Hour, HoldOnLapse: true}
	}
	ctx := t.Context()
	running := claim("running")
	if out, err := s.Acquire(ctx, running); err != nil || out.Kind != idem.VerdictAcquired {
		t.Fatalf("%v %v", out.Kind, err)
	}
	disk.full.Store(true)
	lost := claim("lost")
	for try := range 3 { // the second of them would be told that the key is its own
		if out, err := s.Acquire(ctx, lost); !errors.Is(err, idem.ErrUnavailable) {
			t.Errorf("acquire %d: %v %v, want it to be unavailable", try, out.Kind, err)
		}
	}
	for try := range 3 {
		if err := s.Complete(ctx, running.Lease(), &idem.Response{Status: 200}); !errors.Is(err, idem.ErrUnavailable) {
			t.Errorf("complete %d: %v, want it to be unavailable", try, err)
		}
	}
	if _, err := s.Acquire(ctx, claim("next")); !errors.Is(err, idem.ErrRefused) {
		t.Errorf("what is asked afterwards: %v, want it to be refused", err)
	}
	if _, err := s.Get(ctx, lost.Key); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("get: %v", err)
	}
	if exits.Load() == 0 {
		t.Error("the process goes on")
	}
}
