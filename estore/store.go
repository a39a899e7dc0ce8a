package estore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/maypok86/otter/v2"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/replays"
)

// Config says where the store lives. Only Dir is required.
type Config struct {
	// Dir is the store's own directory; it is made if it does not exist.
	Dir string
	// Existing has New open a store that is there, and make none: ErrNone.
	Existing bool
	// CacheBytes bounds the responses kept in memory for replays. Default 64
	// MiB. More saves reads of the disk's cache and their copying.
	CacheBytes int64
	// SweepEvery is how often expired records are removed. Default 30 s.
	SweepEvery time.Duration
	// MinFreeBytes is the space on the disk below which nothing new is
	// acquired. Default 128 MiB. A disk that fills up entirely stops the
	// process; being refused early leaves room to finish what is running.
	MinFreeBytes uint64
	// Codec, if set, is applied to responses at rest.
	Codec idem.Codec
	// Timeout bounds how long a call waits for the disk. Default 2 s. What has not
	// been written by then is in doubt ([idem.ErrUnavailable]); as long as it is
	// not, whatever needs the disk is refused at once.
	Timeout time.Duration
	// Logger gets what the storage engine has to say. Default: nowhere.
	Logger zerolog.Logger

	fs     vfs.FS           // tests crash it
	exit   func(int)        // tests outlive it
	wall   func() time.Time // tests set it wrong
	doubts time.Duration    // see clock
}

// ErrInUse says that another process has the directory open.
var ErrInUse = errors.New("another process is using this directory")

// ErrNone says that a directory has no store in it, where one must be there already.
var ErrNone = errors.New("there is no store in this directory")

// ErrDiskLow says that the disk has less space than MinFreeBytes. It comes wrapped
// together with idem.ErrUnavailable.
var ErrDiskLow = errors.New("too little space left on the disk")

// Store implements idem.Store, idem.Inspector and idem.Registry. Make it with New.
type Store struct {
	config   Config
	db       *pebble.DB
	logs     *logs
	reads    reads
	writes   *writes
	known    known
	learning sync.Mutex                     // held by a round of known
	cache    *otter.Cache[id, *idem.Record] // completed and durable only
	clock    clock

	closed  atomic.Bool
	using   sync.RWMutex // held for reading by calls, for writing by Close
	diskLow atomic.Bool
	broken  atomic.Bool // see fail
	running context.Context
	stop    context.CancelFunc
	stopped chan struct{} // by sweepLoop
	learned chan struct{} // by learnLoop

	onChange atomic.Pointer[func(id)]

	values  sync.Pool     // of *[]byte, see settledValue
	numbers atomic.Uint64 // the latest given out, to leases and lists of endings
	shards  [256]shard
	entries sync.Mutex // held by what changes the registry
	backing backing
}

var (
	_ idem.Store     = (*Store)(nil)
	_ idem.Inspector = (*Store)(nil)
	_ idem.Notifier  = (*Store)(nil)
	_ idem.Registry  = (*Store)(nil)
)

// New opens the store in c.Dir, or makes it. Close it.
func New(c Config) (*Store, error) {
	c = c.withDefaults()
	l := newLogs(c.fs, c.Dir)
	db, err := openDB(c, l)
	if err != nil {
		return nil, err
	}
	s := &Store{config: c, db: db, logs: l, reads: newReads(), stopped: make(chan struct{}), learned: make(chan struct{})}
	s.running, s.stop = context.WithCancel(context.Background())
	s.values.New = func() any { return new([]byte) }
	for i := range s.shards {
		s.shards[i].live = make(map[id]*entry)
	}
	s.cache = otter.Must(&otter.Options[id, *idem.Record]{
		MaximumWeight: uint64(c.CacheBytes), //nolint:gosec // defaulted to a positive number
		Weigher: func(_ id, r *idem.Record) uint32 {
			return uint32(replays.Weight(r)) //nolint:gosec // bodies are far below 4 GiB
		},
	})
	if err := s.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s.checkSpace()
	s.writes = newWrites(db, c.Timeout, &s.numbers, s.fail)
	go s.sweepLoop()
	go s.learnLoop()
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.CacheBytes <= 0 {
		c.CacheBytes = 64 << 20
	}
	if c.SweepEvery <= 0 {
		c.SweepEvery = 30 * time.Second
	}
	if c.MinFreeBytes == 0 {
		c.MinFreeBytes = 128 << 20
	}
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	if c.wall == nil {
		c.wall = time.Now
	}
	if c.doubts == 0 {
		c.doubts = defaultDoubt
	}
	if c.fs == nil {
		c.fs = vfs.Default
	}
	if c.exit == nil {
		c.exit = os.Exit
	}
	return c
}

// load reads the clock and the leases that were running. Those start anew: the
// process that held them is gone, what it asked of the backend may not be.
func (s *Store) load() error {
	left, err := s.clock.start(s.db, s.config.wall(), s.config.doubts)
	if err != nil {
		return fmt.Errorf("reading the store's clock: %w", err)
	}
	if left != 0 {
		s.config.Logger.Warn().Str("event", "clock_jump").Time("saved", time.UnixMilli(left)).Time("wall", s.config.wall()).
			Dur("advance", maxAbsence).Dur("doubted_for", s.config.doubts).
			Msg("the wall clock is far ahead of the store's last reading: records will be kept for longer. " +
				"If the wall clock is wrong, correct it and start again while the advance is doubted")
	}
	s.numbers.Store(uint64(max(s.clock.now(), 0)) << numbersPerMs)
	if err := s.loadFormat(); err != nil {
		return fmt.Errorf("opening the store in %s: %w", s.config.Dir, err)
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{leaseSpace}, UpperBound: []byte{leaseSpace + 1}})
	if err != nil {
		return fmt.Errorf("reading the leases: %w", err)
	}
	now := s.clock.now()
	for it.First(); it.Valid(); it.Next() {
		value, err := valueAt(it)
		var r idem.Record
		if err == nil {
			r, err = idem.DecodeRecord(bytes.Clone(value))
		}
		if err != nil {
			return errors.Join(fmt.Errorf("reading a lease in %s: %w", s.config.Dir, err), it.Close())
		}
		r.LeaseUntil = now + (r.LeaseUntil - r.Updated)
		if r.Expires != 0 {
			r.Expires = r.LeaseUntil + r.Retention
		}
		k, number := r.Key.ID(), binary.BigEndian.Uint64(it.Key()[1:])
		s.shard(k).live[k] = &entry{record: r, lease: number}
		s.numbers.Store(max(number, s.numbers.Load()))
	}
	return engineError(it.Close())
}

// numbersPerMs makes room, in bits, for the numbers that a process gives out in a
// millisecond of its life: the next begins beyond them.
const numbersPerMs = 20

// loadFormat makes sure that the directory is one of ours.
func (s *Store) loadFormat() error {
	format, err := checkFormat(s.db)
	if err != nil || format == storeFormat {
		return err
	}
	return migrate(s.db, s.numbers.Load())
}

// enter makes sure that Close waits for the call; leave when it is nil.
func (s *Store) enter() error {
	if !s.using.TryRLock() { // only Close holds it for writing, or waits to
		return idem.ErrClosed
	}
	switch {
	case s.closed.Load():
		s.using.RUnlock()
		return idem.ErrClosed
	case s.broken.Load():
		s.using.RUnlock()
		return refused(errBroken)
	}
	return nil
}

func (s *Store) leave() { s.using.RUnlock() }

// fail ends the process when a write did not reach the disk. The engine has then
// applied it to its memory all the same, and so have we: from here on, what is
// answered from memory (that a key is yours, that it is completed) may not be
// true after a restart. Only a restart tells what the disk holds.
func (s *Store) fail(err error) {
	s.broken.Store(true)
	newEngineLog(s.config.Logger, s.config.exit).Fatalf("the store's disk cannot be written: %v", err)
}

// Ping implements idem.Store.
func (s *Store) Ping(context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if s.diskLow.Load() {
		return refused(fmt.Errorf("%w of %s: less than %d MiB are free", ErrDiskLow, s.config.Dir, s.config.MinFreeBytes>>20))
	}
	return s.writes.refusal()
}

// closeWithin bounds Close where the disk answers: a compaction under way is
// ended first. A store that has more patience than that has it then, too.
const closeWithin = 30 * time.Second

// Close implements idem.Store. It waits for the calls under way. If the disk does
// not answer, it gives up after Config.Timeout: what was acknowledged is on the
// disk, and the directory stays in use until the process ends.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.stop()
	shut := make(chan error, 1)
	go func() { shut <- s.shut() }()
	patience := time.NewTicker(s.config.Timeout)
	defer patience.Stop()
	end := time.After(max(closeWithin, s.config.Timeout))
	for {
		var err error
		select {
		case err = <-shut:
			if err == nil {
				return nil
			}
		case <-patience.C:
			if err = s.writes.refusal(); err == nil {
				continue
			}
		case <-end:
			err = refused(errSlow)
		}
		return fmt.Errorf("closing %s: %w", s.config.Dir, err)
	}
}

func (s *Store) shut() error {
	<-s.stopped
	<-s.learned
	s.using.Lock()
	defer s.using.Unlock()
	s.reads.close()
	_, err := s.write(s.saveClock)
	s.writes.close()
	err = errors.Join(err, s.db.Close())
	s.logs.wait()
	return err
}

// write has changes written, and does not wait for the disk.
func (s *Store) write(changes func(*group) error) (*group, error) {
	g, err := s.writes.join()
	if err != nil {
		return nil, err
	}
	defer s.writes.leave()
	return g, engineError(changes(g))
}
