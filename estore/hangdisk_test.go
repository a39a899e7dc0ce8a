package estore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
)

// hangingDisk is a file system whose syncs, or reads, do not return for a while.
type hangingDisk struct {
	vfs.FS
	syncs, reads gate
}

// gate holds up whoever passes while it is shut.
type gate struct {
	mu      sync.Mutex
	opened  chan struct{} // guarded by mu; nil while it is open
	waiting chan struct{} // guarded by mu; closed when the first waits
	once    *sync.Once
}

func (g *gate) pass() {
	g.mu.Lock()
	opened, waiting, once := g.opened, g.waiting, g.once
	g.mu.Unlock()
	if opened != nil {
		once.Do(func() { close(waiting) })
		<-opened
	}
}

// shut shuts the gate. hung is closed when somebody waits at it; open ends that,
// and may be repeated.
func (g *gate) shut() (hung <-chan struct{}, open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	opened := make(chan struct{})
	g.opened, g.waiting, g.once = opened, make(chan struct{}), &sync.Once{}
	return g.waiting, sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.opened = nil
		close(opened)
	})
}

func (d *hangingDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return &hangingFile{f, d}, err
}

func (d *hangingDisk) ReuseForWrite(oldName, newName string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldName, newName, c)
	return &hangingFile{f, d}, err
}

func (d *hangingDisk) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.Open(name, o...)
	if err != nil {
		return nil, err
	}
	return &hangingFile{f, d}, nil
}

type hangingFile struct {
	vfs.File
	disk *hangingDisk
}

func (f *hangingFile) Sync() error {
	f.disk.syncs.pass()
	return f.File.Sync()
}

func (f *hangingFile) SyncData() error {
	f.disk.syncs.pass()
	return f.File.SyncData()
}

func (f *hangingFile) SyncTo(length int64) (bool, error) {
	f.disk.syncs.pass()
	return f.File.SyncTo(length)
}

func (f *hangingFile) ReadAt(p []byte, at int64) (int, error) {
	f.disk.reads.pass()
	return f.File.ReadAt(p, at)
}

// onHanging is a store on a disk that can hang.
func onHanging(t *testing.T) (*estore.Store, *hangingDisk) {
	t.Helper()
	disk := &hangingDisk{FS: vfs.NewMem()}
	return open(t, estore.Config{Dir: "data", Timeout: time.Hour, SweepEvery: time.Hour}.OnFS(disk)), disk
}

// hang lets the disk hang, with a store that is not patient. back ends that, and
// returns when the store serves again; it may be repeated.
func hang(t *testing.T, s *estore.Store, disk *hangingDisk) (back func()) {
	t.Helper()
	s.Patience(10 * time.Millisecond)
	// What was begun with the patience of before, such as the first round of what is
	// known, would be waited for with that patience.
	for s.Settled(t.Context()) != nil {
		eventuallyServes(t, s)
	}
	_, open := disk.syncs.shut()
	return sync.OnceFunc(func() {
		s.Patience(time.Hour)
		open()
		eventuallyServes(t, s)
	})
}
