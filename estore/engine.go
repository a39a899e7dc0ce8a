package estore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/idemproxy/idemproxy/idem"
)

// engineError: whatever the engine reports, the state of the key is not known.
func engineError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: storage engine: %w", idem.ErrUnavailable, err)
}

const (
	blockCache = 64 << 20
	memTable   = 16 << 20
)

func openDB(c Config, l *logs) (*pebble.DB, error) {
	if c.Existing && !isThere(c) {
		return nil, fmt.Errorf("opening the store in %s: %w", c.Dir, ErrNone)
	}
	if err := restored(c.fs, c.Dir); err != nil {
		return nil, fmt.Errorf("opening the store in %s: %w", c.Dir, err)
	}
	if err := c.fs.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the store's directory: %w", err)
	}
	// Room for the filters and indexes of a million records, so that a new key
	// is known to be new without reading the disk. The engine takes its two
	// memory tables out of the same budget.
	blocks := pebble.NewCache(blockCache + 2*memTable)
	defer blocks.Unref()
	log := newEngineLog(c.Logger, c.exit)
	o := &pebble.Options{
		FS:                 l,
		Cache:              blocks,
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       memTable,
		Logger:             log,
	}
	o.Experimental.ValueSeparationPolicy = valuesApart
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	g := &guard{fs: c.fs, dir: c.Dir, log: log, tables: make(map[uint64]struct{})}
	err := g.check(o)
	var db *pebble.DB
	if err == nil {
		o.EventListener = g.listener()
		db, err = pebble.Open(c.Dir, o)
	}
	if err == nil {
		if err = g.start(db); err != nil {
			err = errors.Join(err, db.Close())
		}
	}
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EACCES) && lockHeld(c.Dir),
		strings.Contains(err.Error(), "lock held by current process"):
		return nil, fmt.Errorf("opening the store in %s: %w", c.Dir, ErrInUse)
	}
	return nil, fmt.Errorf("opening the store in %s: %w", c.Dir, err)
}

// isThere says whether the directory has a store in it. It writes nothing. A directory
// that cannot be read is left to who opens it: that says why.
func isThere(c Config) bool {
	found, err := pebble.Peek(c.Dir, c.fs)
	return err == nil && found.Exists || err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
}

// valuesApart has all records but the smallest written once, into files of values,
// when they leave the memory table. Compactions then move keys and not records: that
// is half of the processor's time for responses of 16 KiB. A file of values is written
// anew when a third of it belongs to records that are gone, and not, as the engine has
// it by default, because a table refers to ten: that is for scans, which nobody makes.
func valuesApart() pebble.ValueSeparationPolicy {
	return pebble.ValueSeparationPolicy{
		Enabled: true, MinimumSize: 256, MaxBlobReferenceDepth: 500,
		RewriteMinimumAge: 5 * time.Minute, TargetGarbageRatio: 0.33,
	}
}

// lockHeld: some systems answer EACCES where others answer EAGAIN; a directory
// that cannot be written to answers it too, but has no lock file to open.
func lockHeld(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR, 0) //nolint:gosec // the operator names it
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}
