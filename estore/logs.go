package estore

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logs gives the engine log files that have been written before, with zeros. A sync
// of what is appended to a new file changes the file's own data, too, which the file
// system writes in an order with everybody else's: it waits for tables that are being
// written, for tens of milliseconds where it else takes one. The engine uses its logs
// again for that reason, but it has none yet when a store opens, and those of its
// first seconds are small.
//
// The spare is made in the background when the engine has asked for its second log,
// so that a store that does little has none; without one there is a file as it was
// before. What is in a spare is no log: after a crash it is a spare, or it is made
// again.
type logs struct {
	vfs.FS
	dir string

	making  sync.WaitGroup
	started atomic.Bool // the first log, which is small, is there

	mu    sync.Mutex
	ready bool // guarded by mu; there is a spare
	busy  bool // guarded by mu; one is being made
}

const (
	spareName = "spare-log"
	// logSize is more than a log has when its memory table is full.
	logSize = memTable + 1<<20
	zeroed  = 256 << 10 // at once
)

func newLogs(fs vfs.FS, dir string) *logs {
	l := &logs{FS: fs, dir: dir}
	if info, err := fs.Stat(l.spare()); err == nil {
		l.ready = info.Size() >= logSize
	}
	return l
}

func (l *logs) spare() string { return l.PathJoin(l.dir, spareName) }

// Create gives a log the spare, if there is one.
func (l *logs) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if l.isLog(name) {
		if f := l.take(name, c); f != nil {
			return f, nil
		}
	}
	return l.FS.Create(name, c) //nolint:wrapcheck // the engine does
}

// ReuseForWrite gives a log the spare rather than one that is too small.
func (l *logs) ReuseForWrite(before, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if l.isLog(name) {
		if info, err := l.Stat(before); err == nil && info.Size() < logSize {
			if f := l.take(name, c); f != nil {
				_ = l.Remove(before) // the engine does not need it, and removes it with its next start
				return f, nil
			}
		}
	}
	return l.FS.ReuseForWrite(before, name, c) //nolint:wrapcheck // the engine does
}

// isLog: those of a backup are copies.
func (l *logs) isLog(name string) bool {
	return strings.HasSuffix(name, ".log") && l.PathDir(name) == l.PathDir(l.spare())
}

// take is the spare under that name, nil if there is none; the next is made.
func (l *logs) take(name string, c vfs.DiskWriteCategory) vfs.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	var f vfs.File // not a file of the engine's log before it is renamed, and all of it is on the disk
	if l.ready {
		l.ready = false
		var err error
		if f, err = l.FS.ReuseForWrite(l.spare(), name, c); err != nil {
			f = nil
		}
	}
	if second := l.started.Swap(true); second && !l.busy && !l.ready {
		l.busy = true
		l.making.Go(l.make)
	}
	return f
}

// make makes a spare. What fails is left alone: the disk is full, or the engine will
// tell of it.
func (l *logs) make() {
	err := l.zeros(l.spare() + ".new")
	if err == nil {
		err = l.Rename(l.spare()+".new", l.spare())
	} else {
		_ = l.Remove(l.spare() + ".new")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready, l.busy = err == nil, false
}

func (l *logs) zeros(name string) error {
	f, err := l.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err //nolint:wrapcheck // nobody is told
	}
	block := make([]byte, zeroed)
	for written := 0; written < logSize && err == nil; written += zeroed {
		if _, err = f.Write(block); err == nil {
			err = f.SyncData() // a little at a time: who waits for the disk is not to wait for all of it
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// wait waits until no spare is being made.
func (l *logs) wait() { l.making.Wait() }
