package estore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
)

// The engine's key space, by first byte:
//
//	'l' + id                  a record in progress
//	'r' + id                  a record that is not: completed, unknown, or free
//	                          with its count of attempts
//	'x' + expires, ms + id    when to look whether 'r' + id has expired; may be
//	                          stale, since records are rewritten
//	'e' + name                an entry of the registry
//	'm'                       the clock's latest saved reading, ms
const (
	liveSpace    = 'l'
	settledSpace = 'r'
	expirySpace  = 'x'
	entrySpace   = 'e'
	clockSpace   = 'm'
)

func liveKey(k id) []byte    { return append([]byte{liveSpace}, k[:]...) }
func settledKey(k id) []byte { return append([]byte{settledSpace}, k[:]...) }

func expiryKey(expires int64, k id) []byte {
	b := binary.BigEndian.AppendUint64([]byte{expirySpace}, uint64(expires)) //nolint:gosec // ms since 1970
	return append(b, k[:]...)
}

func parseExpiryKey(b []byte) (expires int64, k id) {
	return int64(binary.BigEndian.Uint64(b[1:9])), id(b[9:25]) //nolint:gosec // ms since 1970
}

// writeLive applies a record in progress to the engine's memory. sync waits for
// the disk.
func (s *Store) writeLive(b *pebble.Batch, k id, r *idem.Record) error {
	if err := b.Set(liveKey(k), r.Append(nil), nil); err != nil {
		return engineError(err)
	}
	return s.commit(b)
}

// commit hands a batch to the engine's memory and log; b.SyncWait waits for the
// disk.
func (s *Store) commit(b *pebble.Batch) error {
	defer s.endIfBroken()
	return engineError(s.db.ApplyNoSyncWait(b, pebble.Sync))
}

// endIfBroken, deferred, ends the process if the engine panicked because a write
// failed: after that it cannot go on, and a restart finds what was acknowledged.
// It says so in the log; other panics go on.
func (s *Store) endIfBroken() {
	p := recover()
	if p == nil {
		return
	}
	var failed *fs.PathError
	if err, ok := p.(error); ok && errors.As(err, &failed) {
		s.fail(err)
	}
	panic(p)
}

// errBroken: the log on the disk is not what memory says any more.
var errBroken = errors.New("the store's disk could not be written")

// fail ends the process when a write did not reach the disk. The engine has then
// applied it to its memory all the same, and so have we: from here on, what is
// answered from memory (that a key is yours, that it is completed) may not be
// true after a restart. Only a restart tells what the disk holds.
func (s *Store) fail(err error) {
	s.broken.Store(true)
	engineLog{s.config.Logger, s.config.exit}.Fatalf("the store's disk cannot be written: %v", err)
}

// writeSettled applies a record that is not in progress any more.
func (s *Store) writeSettled(b *pebble.Batch, k id, before, r *idem.Record) error {
	size := idem.HeadSize + 512
	if r.Response != nil {
		size += r.Response.Size()
	}
	err := b.Set(settledKey(k), r.Append(make([]byte, 0, size)), nil)
	if before.State == idem.InProgress {
		err = errors.Join(err, b.Delete(liveKey(k), nil))
	} else {
		for _, at := range endings(before) {
			err = errors.Join(err, b.Delete(expiryKey(at, k), nil))
		}
	}
	for _, at := range endings(r) {
		err = errors.Join(err, b.Set(expiryKey(at, k), nil, nil))
	}
	if err != nil {
		return engineError(err)
	}
	return s.commit(b)
}

// endings are the times at which something of a settled record is to be removed:
// the response, then the record.
func endings(r *idem.Record) []int64 {
	var times []int64
	if r.State == idem.Completed && r.ReplayUntil != r.Expires && r.Response != nil {
		times = append(times, r.ReplayUntil)
	}
	if r.Expires != 0 {
		times = append(times, r.Expires)
	}
	return times
}

func (s *Store) sync(b *pebble.Batch) error {
	if err := b.SyncWait(); err != nil {
		s.fail(err)
		return engineError(err)
	}
	return engineError(b.Close())
}

// readSettled reads 'r' + k, nil if there is none.
func (s *Store) readSettled(k id) (*idem.Record, error) {
	// An iterator and not Get, which would not use the last level's filters: most
	// look-ups are of new keys, and should not read tables to find that out.
	it, err := s.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return nil, engineError(err)
	}
	key := settledKey(k)
	var r idem.Record
	found := it.SeekPrefixGE(key) && bytes.Equal(it.Key(), key)
	if found {
		r, err = idem.DecodeRecord(bytes.Clone(it.Value()))
	}
	if err := errors.Join(err, engineError(it.Close())); err != nil {
		return nil, fmt.Errorf("reading a record: %w", err)
	}
	if !found {
		return nil, nil //nolint:nilnil // "none" is an answer
	}
	return &r, nil
}

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

func openDB(c Config) (*pebble.DB, error) {
	if err := c.fs.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the store's directory: %w", err)
	}
	// Room for the filters and indexes of a million records, so that a new key
	// is known to be new without reading the disk. The engine takes its two
	// memory tables out of the same budget.
	blocks := pebble.NewCache(blockCache + 2*memTable)
	defer blocks.Unref()
	o := &pebble.Options{
		FS:                 c.fs,
		Cache:              blocks,
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       memTable,
		Logger:             engineLog{c.Logger, c.exit},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	g := &guard{fs: c.fs, dir: c.Dir, log: engineLog{c.Logger, c.exit}, tables: make(map[uint64]struct{})}
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

// engineLog passes on what matters. The engine calls Fatalf when it cannot
// write its log any more; there is then nothing left to promise, and a restart
// is the way to find out what the disk holds.
type engineLog struct {
	log  zerolog.Logger
	exit func(int)
}

func (engineLog) Infof(string, ...any) {}

func (l engineLog) Errorf(format string, args ...any) {
	l.log.Error().Str("event", "store_engine_error").Msgf(format, args...)
}

func (l engineLog) Fatalf(format string, args ...any) {
	l.log.Error().Str("event", "store_engine_failed").Msgf(format, args...)
	l.exit(1)
}

// clock is the store's clock: milliseconds that never go back, neither while
// the process runs (monotonic clock) nor across restarts (the latest saved
// reading, or the wall clock if that is later: the wall clock is asked once, at
// the start, and only how much retention passed while the store was closed
// depends on it).
type clock struct {
	base    int64
	started time.Time
	saved   atomic.Int64
}

func (c *clock) start(db *pebble.DB) error {
	value, closer, err := db.Get([]byte{clockSpace})
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("reading the store's clock: %w", err)
	}
	if err == nil {
		if len(value) == 8 {
			c.saved.Store(int64(binary.BigEndian.Uint64(value))) //nolint:gosec // ms since 1970
		}
		if err := closer.Close(); err != nil {
			return fmt.Errorf("reading the store's clock: %w", err)
		}
	}
	c.started = time.Now()
	c.base = max(c.saved.Load()+1, c.started.UnixMilli())
	return nil
}

func (c *clock) now() int64 { return c.base + time.Since(c.started).Milliseconds() }

func (c *clock) save(db *pebble.DB) error {
	now := c.now()
	c.saved.Store(now)
	err := db.Set([]byte{clockSpace}, binary.BigEndian.AppendUint64(nil, uint64(now)), pebble.NoSync) //nolint:gosec // ms since 1970
	return engineError(err)
}
