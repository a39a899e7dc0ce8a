package estore

import (
	"context"
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
)

// Config says where the store lives. Only Dir is required.
type Config struct {
	// Dir is the store's own directory; it is made if it does not exist.
	Dir string
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
	// Logger gets what the storage engine has to say. Default: nowhere.
	Logger zerolog.Logger

	fs   vfs.FS    // tests crash it
	exit func(int) // tests outlive it
}

// ErrInUse says that another process has the directory open.
var ErrInUse = errors.New("another process is using this directory")

// ErrDiskLow says that the disk has less space than MinFreeBytes. It comes wrapped
// together with idem.ErrUnavailable.
var ErrDiskLow = errors.New("too little space left on the disk")

// Store implements idem.Store and idem.Inspector. Make it with New.
type Store struct {
	config Config
	db     *pebble.DB
	cache  *otter.Cache[id, *idem.Record] // completed and durable only
	clock  clock

	closed  atomic.Bool
	using   sync.RWMutex // held for reading by calls, for writing by Close
	diskLow atomic.Bool
	broken  atomic.Bool // see fail
	stop    chan struct{}
	stopped chan struct{}

	onChange atomic.Pointer[func(id)]

	shards  [256]shard
	entries sync.Mutex // held by what changes the registry
}

var (
	_ idem.Store     = (*Store)(nil)
	_ idem.Inspector = (*Store)(nil)
	_ idem.Notifier  = (*Store)(nil)
	_ idem.Registry  = (*Store)(nil)
)

type id = [16]byte

// shard serialises what happens to the keys that hash to it. What is only read
// or applied to the engine's memory happens under mu; waiting for the disk does
// not.
type shard struct {
	mu   sync.Mutex
	live map[id]*entry // guarded by mu; every record in progress or on its way to disk
}

// entry is a record that is not (only) on disk.
type entry struct {
	record idem.Record
	// settling is closed when the record has left progress durably; until then
	// others see it as in progress. Nil while it is in progress.
	settling chan struct{}
}

// New opens the store in c.Dir, or makes it. Close it.
func New(c Config) (*Store, error) {
	c = c.withDefaults()
	db, err := openDB(c)
	if err != nil {
		return nil, err
	}
	s := &Store{config: c, db: db, stop: make(chan struct{}), stopped: make(chan struct{})}
	for i := range s.shards {
		s.shards[i].live = make(map[id]*entry)
	}
	s.cache = otter.Must(&otter.Options[id, *idem.Record]{
		MaximumWeight: uint64(c.CacheBytes), //nolint:gosec // defaulted to a positive number
		Weigher: func(_ id, r *idem.Record) uint32 {
			return uint32(r.Response.Size()) + entryOverhead //nolint:gosec // bodies are far below 4 GiB
		},
	})
	if err := s.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s.checkSpace()
	go s.sweepLoop()
	return s, nil
}

// entryOverhead is what a cached record takes besides its response.
const entryOverhead = idem.HeadSize + 560

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
	if err := s.clock.start(s.db); err != nil {
		return err
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{liveSpace}, UpperBound: []byte{liveSpace + 1}})
	if err != nil {
		return fmt.Errorf("reading the leases: %w", err)
	}
	now := s.clock.now()
	for it.First(); it.Valid(); it.Next() {
		r, err := idem.DecodeRecord(append([]byte(nil), it.Value()...))
		if err != nil {
			return errors.Join(fmt.Errorf("reading a lease in %s: %w", s.config.Dir, err), it.Close())
		}
		r.LeaseUntil = now + (r.LeaseUntil - r.Updated)
		if r.Expires != 0 {
			r.Expires = r.LeaseUntil + r.Retention
		}
		k := r.Key.ID()
		s.shard(k).live[k] = &entry{record: r}
	}
	return engineError(it.Close())
}

func (s *Store) shard(k id) *shard { return &s.shards[k[0]] }

// enter makes sure that Close waits for the call; leave when it is nil.
func (s *Store) enter() error {
	s.using.RLock()
	if s.closed.Load() {
		s.using.RUnlock()
		return idem.ErrClosed
	}
	if s.broken.Load() {
		s.using.RUnlock()
		return fmt.Errorf("%w: %w", idem.ErrUnavailable, errBroken)
	}
	return nil
}

func (s *Store) leave() { s.using.RUnlock() }

// Acquire implements idem.Store. A new lease costs one shared fsync, everything
// else no wait for the disk.
func (s *Store) Acquire(_ context.Context, c idem.Claim) (idem.Outcome, error) {
	if err := s.enter(); err != nil {
		return idem.Outcome{}, err
	}
	defer s.leave()
	k := c.Key.ID()
	sh := s.shard(k)
	sh.mu.Lock()
	current, cached, err := s.current(sh, k)
	if err != nil {
		sh.mu.Unlock()
		return idem.Outcome{}, err
	}
	if e := sh.live[k]; e != nil && e.settling != nil {
		// What is still on its way to the disk may not be replayed, and its
		// lease may not lapse under it.
		unsettled := *current
		unsettled.LeaseUntil = s.clock.now() + settlingLease.Milliseconds()
		current = &unsettled
	}
	next, out := current.Acquire(c, s.clock.now())
	out.Local = cached
	if next == nil || out.Kind == idem.VerdictYours {
		if next != nil {
			sh.live[k].record = *next
		}
		sh.mu.Unlock()
		return out, nil
	}
	if s.diskLow.Load() {
		sh.mu.Unlock()
		return idem.Outcome{}, fmt.Errorf("%w: %w", idem.ErrUnavailable, ErrDiskLow)
	}
	b := s.db.NewBatch()
	if err := s.writeLive(b, k, next); err != nil {
		sh.mu.Unlock()
		return idem.Outcome{}, err
	}
	sh.live[k] = &entry{record: *next}
	sh.mu.Unlock()
	return out, s.sync(b)
}

// settlingLease is what an asker is told to wait while a record is on its way to
// the disk.
const settlingLease = time.Second

// current is the record of k as it stands, nil if there is none. The caller
// holds the shard.
func (s *Store) current(sh *shard, k id) (r *idem.Record, cached bool, err error) {
	if e := sh.live[k]; e != nil {
		return &e.record, false, nil
	}
	now := s.clock.now()
	if r, ok := s.cache.GetIfPresent(k); ok && now < r.ReplayUntil {
		return r, true, nil
	}
	r, err = s.readSettled(k)
	if err != nil || r == nil || r.Ended(now) {
		return nil, false, err
	}
	if r.StateAt(now) != idem.Completed {
		r.Response = nil
		return r, false, nil
	}
	if r.Response, err = idem.OpenResponse(s.config.Codec, r.Key, r.Response); err != nil {
		return nil, false, fmt.Errorf("reading a record: %w", err)
	}
	s.cache.Set(k, r)
	return r, false, nil
}

// Renew implements idem.Store; it never waits.
func (s *Store) Renew(ctx context.Context, leases []idem.Lease) []error {
	errs := make([]error, len(leases))
	for i, l := range leases {
		errs[i] = s.apply(ctx, idem.EventRenew, l, nil)
	}
	return errs
}

// Complete implements idem.Store; it waits for one shared fsync.
func (s *Store) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	if err := idem.CheckResponse(r); err != nil {
		return err
	}
	return s.apply(ctx, idem.EventComplete, l, r)
}

// Release implements idem.Store; it waits for one shared fsync.
func (s *Store) Release(ctx context.Context, l idem.Lease) error {
	return s.apply(ctx, idem.EventRelease, l, nil)
}

// Hold implements idem.Store; it waits for one shared fsync.
func (s *Store) Hold(ctx context.Context, l idem.Lease) error {
	return s.apply(ctx, idem.EventHold, l, nil)
}

// apply takes a record through an event.
func (s *Store) apply(ctx context.Context, e idem.Event, l idem.Lease, response *idem.Response) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	response, err := idem.SealResponse(s.config.Codec, l.Key, response)
	if err != nil {
		return fmt.Errorf("sealing a response: %w", err)
	}
	k := l.Key.ID()
	sh := s.shard(k)
	if err := sh.lockSettled(ctx, k); err != nil {
		return err
	}
	current, _, err := s.current(sh, k)
	if err != nil {
		sh.mu.Unlock()
		return err
	}
	next, err := current.Apply(e, l, response, s.clock.now())
	if err != nil || next == nil {
		sh.mu.Unlock()
		return err
	}
	if next.State == idem.InProgress { // only a live record is renewed
		sh.live[k].record = *next
		sh.mu.Unlock()
		return nil
	}
	return s.settle(sh, k, current, next)
}

// lockSettled locks the shard when nothing of k is on its way to the disk.
func (sh *shard) lockSettled(ctx context.Context, k id) error {
	for {
		sh.mu.Lock()
		e := sh.live[k]
		if e == nil || e.settling == nil {
			return nil
		}
		settling := e.settling
		sh.mu.Unlock()
		select {
		case <-settling:
		case <-ctx.Done():
			return fmt.Errorf("%w: waiting for the disk: %w", idem.ErrUnavailable, ctx.Err())
		}
	}
}

// settle moves a record out of progress and waits for the disk. Until then
// others see the record as it was. The caller holds the shard; settle unlocks.
func (s *Store) settle(sh *shard, k id, current, next *idem.Record) error {
	b := s.db.NewBatch()
	if err := s.writeSettled(b, k, current, next); err != nil {
		sh.mu.Unlock()
		return err
	}
	was := *current
	was.State, was.Response = idem.InProgress, nil
	e := &entry{record: was, settling: make(chan struct{})}
	sh.live[k] = e
	s.cache.Invalidate(k)
	sh.mu.Unlock()

	err := s.sync(b)

	sh.mu.Lock()
	delete(sh.live, k)
	sh.mu.Unlock()
	close(e.settling)
	return err
}

// Ping implements idem.Store.
func (s *Store) Ping(context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if s.diskLow.Load() {
		return fmt.Errorf("%w: %w", idem.ErrUnavailable, ErrDiskLow)
	}
	return nil
}

// Close implements idem.Store. It waits for the calls under way.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	close(s.stop)
	<-s.stopped
	s.using.Lock()
	defer s.using.Unlock()
	err := s.clock.save(s.db)
	if err := errors.Join(err, s.db.Close()); err != nil {
		return fmt.Errorf("closing %s: %w", s.config.Dir, err)
	}
	return nil
}

// Get implements idem.Inspector.
func (s *Store) Get(_ context.Context, key idem.Key) (idem.Record, error) {
	if err := s.enter(); err != nil {
		return idem.Record{}, err
	}
	defer s.leave()
	k := key.ID()
	sh := s.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	current, _, err := s.current(sh, k)
	if err != nil {
		return idem.Record{}, err
	}
	return current.Inspect(s.clock.now())
}

// Resolve implements idem.Inspector.
func (s *Store) Resolve(ctx context.Context, key idem.Key, r *idem.Response) error {
	err := s.apply(ctx, idem.ResolveEvent(r), idem.Lease{Key: key}, r)
	s.changed(key.ID())
	return err
}

// OnChange implements idem.Notifier: nobody else writes here but the operator.
func (s *Store) OnChange(f func(id [16]byte)) { s.onChange.Store(&f) }

func (s *Store) changed(k id) {
	if f := s.onChange.Load(); f != nil {
		(*f)(k)
	}
}

// Purge implements idem.Inspector.
func (s *Store) Purge(ctx context.Context, key idem.Key) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	k := key.ID()
	sh := s.shard(k)
	if err := sh.lockSettled(ctx, k); err != nil {
		return err
	}
	defer sh.mu.Unlock()
	defer s.changed(k)
	current, _, err := s.current(sh, k)
	s.cache.Invalidate(k)
	if err == nil && current == nil {
		err = idem.ErrNotFound
	}
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	if err := errors.Join(b.Delete(liveKey(k), nil), b.Delete(settledKey(k), nil)); err != nil {
		return engineError(err)
	}
	// Rare enough to wait for the disk under the lock.
	if err := s.db.Apply(b, pebble.Sync); err != nil {
		s.fail(err)
		return engineError(err)
	}
	delete(sh.live, k)
	return engineError(b.Close())
}
