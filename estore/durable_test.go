package estore_test

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// slowDisk is a file system whose syncs can be held up.
type slowDisk struct {
	vfs.FS
	gate chan struct{} // a sync takes one
}

func (d *slowDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return &slowFile{f, d}, err
}

func (d *slowDisk) ReuseForWrite(oldName, newName string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldName, newName, c)
	return &slowFile{f, d}, err
}

type slowFile struct {
	vfs.File
	disk *slowDisk
}

func (f *slowFile) Sync() error {
	<-f.disk.gate
	return f.File.Sync()
}

func (f *slowFile) SyncData() error {
	<-f.disk.gate
	return f.File.SyncData()
}

func (f *slowFile) SyncTo(length int64) (bool, error) {
	<-f.disk.gate
	return f.File.SyncTo(length)
}

// A response is not replayed before it is on the disk: a crash would otherwise
// take back what a client has seen.
func TestP2NothingIsReplayedBeforeItIsDurable(t *testing.T) {
	t.Parallel()
	disk := &slowDisk{FS: vfs.NewMem(), gate: make(chan struct{})}
	open := make(chan struct{})
	opened := make(chan struct{})
	go func() { // the gate is open ...
		defer close(opened)
		for {
			select {
			case disk.gate <- struct{}{}:
			case <-open:
				return
			}
		}
	}()
	s, err := estore.New(estore.Config{Dir: "data"}.OnFS(disk))
	if err != nil {
		t.Fatal(err)
	}
	c := claim("k")
	c.TTL = time.Millisecond // lapsed, too: it may not be taken over either
	acquire(t, s, c)
	time.Sleep(2 * c.TTL)
	close(open) // ... until here
	<-opened
	completed := make(chan error, 1)
	go func() {
		completed <- s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200})
	}()
	rival := c
	rival.Owner = idem.NewOwner()
	eventuallySettling(t, s, c.Key)
	if out := acquire(t, s, rival); out.Kind != idem.VerdictInProgress {
		t.Errorf("%v while the disk has not answered", out.Kind)
	}
	select {
	case err := <-completed:
		t.Fatalf("completed (%v) while the disk has not answered", err)
	default:
	}
	close(disk.gate)
	if err := <-completed; err != nil {
		t.Fatal(err)
	}
	if out := acquire(t, s, rival); out.Kind != idem.VerdictCompleted {
		t.Errorf("%v after the disk has answered", out.Kind)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func eventuallySettling(t *testing.T, s *estore.Store, k idem.Key) {
	t.Helper()
	for !s.Settling(k) {
		if t.Context().Err() != nil {
			t.Fatal("the completion does not reach the store")
		}
	}
}
