package estore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// writes brings changes to the disk, in groups. Nobody but its two goroutines
// waits for the storage engine, which knows no timeout: one hands it a group as
// soon as it has taken the one before, and the next fills up meanwhile; the other
// waits until they are on the disk, where one fsync of the engine serves all that
// it was handed before. Who waits for a group waits for a channel, so a disk that
// hangs costs these two goroutines, whatever is asked meanwhile.
type writes struct {
	db      *pebble.DB
	numbers *atomic.Uint64 // see Store
	fail    func(error)    // see Store.fail

	mu      sync.Mutex
	timeout time.Duration // guarded by mu, for tests' sake
	waiting []*group      // guarded by mu; the last may be joined
	closed  bool          // guarded by mu

	unsynced atomic.Int32 // how many groups the engine has been handed and has not synced
	late     atomic.Int32 // how many groups should have been on the disk by now, and reads have ended
	wake     chan struct{}
	syncing  chan *group
	ended    chan struct{}
}

// group is a set of changes that reach the disk together, or not at all.
type group struct {
	batch   *pebble.Batch
	leases  *pebble.Batch // what concerns them; becomes part of batch
	endings []ending      // likewise
	size    int           // guarded by writes.mu; how many have joined
	timer   *time.Timer
	// over is closed when the group is on the disk, and also when it should have
	// been by now.
	over    chan struct{}
	overdue bool        // guarded by writes.mu
	done    atomic.Bool // it is on the disk, or err says why it is not
	err     error       // written before done is set
}

// maxGroup is how large a group grows, in bytes, and more by one record. The engine
// keeps the memory of a batch for the next one only up to a MiB, and doubles it when
// it is too small: with 4 MiB, large responses cost a third more.
const maxGroup = 512 << 10

// fullGroup is how many changes, or bytes of them, make a group that is handed to the engine while it
// syncs another; a smaller one waits for the end of that, and others join it. The
// next sync begins no later for it: what there is by then is in it. Without that,
// most groups are of one change, and cost more than the change does.
const (
	fullGroup      = 16
	fullGroupBytes = 64 << 10
)

// maxSyncing is how many groups the engine has been handed and has not synced,
// more or less; when there are more, groups grow. The engine itself has room for
// 4,095 writes.
const maxSyncing = 256

var (
	errSlow = errors.New("the disk does not answer")
	// errBroken: the log on the disk is not what memory says any more.
	errBroken = errors.New("the store's disk could not be written")
)

func newWrites(db *pebble.DB, timeout time.Duration, numbers *atomic.Uint64, fail func(error)) *writes {
	w := &writes{
		db: db, timeout: timeout, numbers: numbers, fail: fail,
		wake: make(chan struct{}, 1), syncing: make(chan *group, maxSyncing), ended: make(chan struct{}),
	}
	go w.applyLoop()
	go w.syncLoop()
	return w
}

// refusal is not nil while something that should be on the disk is not. What is
// asked then is refused at once, before anything was done.
func (w *writes) refusal() error {
	if w.late.Load() == 0 {
		return nil
	}
	return refused(errSlow)
}

// patience is how long the disk may take.
func (w *writes) patience() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.timeout
}

// refused: nothing was done.
func refused(why error) error {
	return fmt.Errorf("%w: %w: %w", idem.ErrUnavailable, idem.ErrRefused, why)
}

// join returns the group to add changes to, with the lock held; leave it.
func (w *writes) join() (*group, error) {
	if err := w.refusal(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil, idem.ErrClosed
	}
	if n := len(w.waiting); n > 0 && w.waiting[n-1].batch.Len()+w.waiting[n-1].leases.Len() < maxGroup {
		w.waiting[n-1].size++
		return w.waiting[n-1], nil
	}
	g := &group{batch: w.db.NewBatch(), leases: w.db.NewBatch(), size: 1, over: make(chan struct{})}
	g.timer = time.AfterFunc(w.timeout, func() { w.expire(g) })
	w.waiting = append(w.waiting, g)
	return g, nil
}

// leave gives up the lock; the changes go their way. The lock first: who is woken
// needs it.
func (w *writes) leave() {
	w.mu.Unlock()
	w.rouse()
}

func (w *writes) rouse() {
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

func (w *writes) expire(g *group) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !g.done.Load() {
		g.overdue = true
		w.late.Add(1)
		close(g.over)
	}
}

func (w *writes) finish(g *group, err error) {
	g.timer.Stop()
	w.mu.Lock()
	g.err = err
	g.done.Store(true)
	overdue := g.overdue
	w.mu.Unlock()
	if overdue {
		w.late.Add(-1)
	} else {
		close(g.over)
	}
}

// durable says that the group is on the disk.
func (g *group) durable() bool { return g.done.Load() && g.err == nil }

// wait waits until the group is on the disk, but not for longer than the store's
// timeout and ctx allow: it is then in doubt.
func (g *group) wait(ctx context.Context) error {
	select {
	case <-g.over:
	case <-ctx.Done():
	}
	switch {
	case g.done.Load():
		return g.err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: waiting for the disk: %w", idem.ErrUnavailable, ctx.Err())
	}
	return fmt.Errorf("%w: %w", idem.ErrUnavailable, errSlow)
}

// full says that the group need not wait for others. The caller holds writes.mu.
func (g *group) full() bool { return g.size >= fullGroup || g.batch.Len() >= fullGroupBytes }

// next is the next group to write, nil if there is none. last: nor will there be.
func (w *writes) next() (g *group, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		return nil, w.closed
	}
	if len(w.waiting) == 1 && !w.waiting[0].full() && w.unsynced.Load() > 0 && !w.closed {
		return nil, false
	}
	g = w.waiting[0]
	w.waiting[0] = nil
	if w.waiting = w.waiting[1:]; len(w.waiting) == 0 {
		w.waiting = nil
	}
	return g, false
}

// applyLoop hands groups to the engine's log and memory, in their order.
func (w *writes) applyLoop() {
	defer close(w.syncing)
	broken := false
	for {
		g, last := w.next()
		switch {
		case last:
			return
		case g == nil:
			<-w.wake
			continue
		case broken:
			g.err = errBroken
		default:
			g.err = w.apply(g)
			broken = g.err != nil
		}
		w.unsynced.Add(1)
		w.syncing <- g
	}
}

// apply reports what went wrong also when the engine panics because a write
// failed; other panics go on.
func (w *writes) apply(g *group) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		var failed *fs.PathError
		cause, ok := p.(error)
		if !ok || !errors.As(cause, &failed) {
			panic(p)
		}
		err = cause
	}()
	if err := g.gather(w.numbers); err != nil {
		return err
	}
	if err := failpoint.Fail("log-append"); err != nil {
		return err
	}
	return w.db.ApplyNoSyncWait(g.batch, pebble.Sync) //nolint:wrapcheck // syncLoop does
}

// gather makes the changes one batch, in which those of one kind stand together:
// the engine is quick with keys that stand beside the last.
func (g *group) gather(numbers *atomic.Uint64) error {
	err := errors.Join(g.batch.Apply(g.leases, nil), g.leases.Close())
	if n := uint64(len(g.endings)); n > 0 {
		err = errors.Join(err, putEndings(g.batch, g.endings, numbers.Add(n)-n+1))
	}
	return err
}

// dropLease has a lease go, if there is one. Its number was given out once and is
// dropped once, so that the engine may forget both.
func (g *group) dropLease(number uint64) error {
	if number == 0 {
		return nil
	}
	return g.leases.SingleDelete(leaseKey(number), nil) //nolint:wrapcheck // Store.write does
}

// syncLoop waits for the disk.
func (w *writes) syncLoop() {
	defer close(w.ended)
	for g := range w.syncing {
		err := g.err
		if err == nil {
			failpoint.Reach("log-unsynced")
			err = g.batch.SyncWait()
			failpoint.Reach("log-synced")
		}
		if err == nil {
			err = g.batch.Close()
		}
		if err != nil {
			w.fail(err)
		}
		w.unsynced.Add(-1)
		w.rouse()
		w.finish(g, engineError(err))
	}
}

// close waits for what was joined, without a bound.
func (w *writes) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.rouse()
	<-w.ended
}
