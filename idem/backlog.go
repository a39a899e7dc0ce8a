package idem

import (
	"context"
	"errors"
	"time"

	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// An ending that the store could not take is tried again until it takes it or
// proves the lease lost: a response that the backend gave is not forgotten because
// Redis was away for a moment. Until then the watchdog renews its lease.
//
// Each ending rests for a time of its own between two tries, and many are tried
// at once, since stores pipeline what is asked of them at once. While the store is
// away for all of them, those of a lower rank wait until there is none of a
// higher: it is a response that must not come too late. But one whose trouble is
// its own, because the store takes others meanwhile (one shard of a cluster is
// dead), is tried apart and holds up nobody.

const (
	restFirst = 100 * time.Millisecond
	restMost  = time.Second

	// triesAtOnce bounds how many endings are tried at a time; of those whose
	// trouble is their own, as many as triesApart besides.
	triesAtOnce = 1024
	triesApart  = triesAtOnce / 4

	// giveBackShare is which part of PendingBytes the releases of leases that were
	// perhaps never granted may take besides: an outage can make one of each refused
	// request. One that is left out lapses by itself.
	giveBackShare = 8
)

// rank orders the endings that the store could not take.
type rank uint8

const (
	rankResponse rank = iota
	rankHold
	rankRelease
	rankGiveBack
	rankApart // whatever it is, its trouble is its own
	ranks
)

func (e *ending) rank() rank {
	switch {
	case e.givesBack:
		return rankGiveBack
	case e.event == EventComplete:
		return rankResponse
	case e.event == EventHold:
		return rankHold
	}
	return rankRelease
}

// pending is what an attempt is while its ending is in the backlog.
type pending struct {
	resting  bool // neither ready nor being tried
	rank     rank
	failures int
	failed   time.Time // when last
	until    time.Time // it rests until then, not by the number of its failures
}

// backlog is the endings that the store could not take. It is the watchdog's, and
// guarded by its mu.
type backlog struct {
	limit    int64
	bytes    [2]int64 // of give-backs: at 1
	all      map[*Attempt]struct{}
	ofRank   [ranks]int        // of each rank, those in all
	ready    [ranks][]*Attempt // those to be tried, oldest first
	trying   int
	apart    int // trying, of rankApart
	closing  bool
	closed   bool          // nobody looks at it any more
	finished chan struct{} // closed once closing finds it empty
}

func newBacklog(limit int64) backlog {
	return backlog{limit: limit, all: map[*Attempt]struct{}{}, finished: make(chan struct{})}
}

// account is where in bytes a's size is counted, and what bounds it.
func (b *backlog) account(a *Attempt) (bytes *int64, limit int64) {
	if a.end.givesBack {
		return &b.bytes[1], b.limit / giveBackShare
	}
	return &b.bytes[0], b.limit
}

// put adds a, which rests; false if there is no room.
func (b *backlog) put(a *Attempt) bool {
	bytes, limit := b.account(a)
	if b.closed || *bytes+a.end.size() > limit {
		return false
	}
	*bytes += a.end.size()
	b.all[a] = struct{}{}
	if a.pending == nil {
		a.pending = &pending{}
	}
	a.pending.resting, a.pending.rank = true, a.end.rank()
	b.ofRank[a.pending.rank]++
	return true
}

func (b *backlog) remove(a *Attempt) {
	bytes, _ := b.account(a)
	*bytes -= a.end.size()
	delete(b.all, a)
	b.ofRank[a.pending.rank]--
	if b.closing && !b.closed && len(b.all) == 0 {
		b.closed = true
		close(b.finished)
	}
}

func (b *backlog) setRank(a *Attempt, r rank) {
	b.ofRank[a.pending.rank]--
	b.ofRank[r]++
	a.pending.rank = r
}

// wake makes a that rests ready.
func (b *backlog) wake(a *Attempt) {
	if _, there := b.all[a]; there && a.pending.resting {
		a.pending.resting = false
		b.ready[a.pending.rank] = append(b.ready[a.pending.rank], a)
	}
}

// next is what is to be tried now; nil if nothing is, or too much is already.
func (b *backlog) next() *Attempt {
	for r := rankResponse; r < rankApart && b.trying-b.apart < triesAtOnce; r++ {
		if a := b.take(r); a != nil {
			return a
		}
		if b.ofRank[r] > 0 {
			break // the others wait until it has been taken
		}
	}
	if b.apart < triesApart {
		return b.take(rankApart)
	}
	return nil
}

func (b *backlog) take(r rank) *Attempt {
	if len(b.ready[r]) == 0 {
		return nil
	}
	a := b.ready[r][0]
	b.ready[r][0] = nil
	b.ready[r] = b.ready[r][1:]
	b.trying++
	if r == rankApart {
		b.apart++
	}
	return a
}

// offer takes an ending over, or drops it if there is no room. failed is when it
// was asked for in vain, zero if it was not yet.
func (w *watchdog) offer(a *Attempt, failed time.Time) {
	w.mu.Lock()
	fits := w.backlog.put(a)
	if fits {
		if !failed.IsZero() {
			w.failedAgain(a, failed)
		}
		w.rest(a)
	} else {
		a.unguard()
	}
	w.mu.Unlock()
	switch {
	case !fits:
		w.engine.dropped(a, errPendingFull)
	case w.engine.trace.Deferred != nil && !a.end.givesBack:
		w.engine.trace.Deferred(a.lease.Key, a.end.event, a.about())
	}
}

// failedAgain counts a try that was sent then. Its trouble is its own if the store
// took anything since the try before. mu is held.
func (w *watchdog) failedAgain(a *Attempt, sent time.Time) {
	p := a.pending
	since, r := p.failed, a.end.rank()
	if p.failures == 0 {
		since = sent
	}
	if w.tookSince(since) {
		r = rankApart
	}
	w.backlog.setRank(a, r)
	p.failures++
	p.failed = time.Now()
}

// rest has a tried again later. mu is held.
func (w *watchdog) rest(a *Attempt) {
	p := a.pending
	p.resting = true
	d := restMost
	if p.failures < 5 {
		d = min(d, restFirst<<max(p.failures-1, 0))
	}
	if !p.until.IsZero() && !w.backlog.closing {
		d = time.Until(p.until)
	}
	time.AfterFunc(d, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.backlog.wake(a)
		w.burst()
	})
}

// burst tries what is ready, as far as it may. mu is held.
func (w *watchdog) burst() {
	for a := w.backlog.next(); a != nil; a = w.backlog.next() {
		w.work.Go(func() { w.try(a) })
	}
}

func (w *watchdog) try(a *Attempt) {
	sent, err := w.engine.settle(w.ctx, a)
	failpoint.Reach("backlog-answered")
	done := w.tried(a, sent, err)
	switch {
	case !done:
	case err == nil || isLost(err):
		w.engine.recorded(a, err)
	default:
		w.engine.dropped(a, err)
	}
}

// tried notes what a try led to and starts the next ones. done says that a has
// left the backlog by it.
func (w *watchdog) tried(a *Attempt, sent time.Time, err error) (done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := &w.backlog
	b.trying--
	if a.pending.rank == rankApart {
		b.apart--
	}
	defer w.burst()
	if _, there := b.all[a]; !there {
		return false // close has dropped it
	}
	a.pending.until = time.Time{}
	answered := err == nil || isLost(err)
	switch {
	case errors.Is(err, ErrUnavailable):
		w.failedAgain(a, sent)
		w.rest(a)
		return false
	case answered && a.end.givesBack && !b.closing && !a.doubt.settledBy(sent, err):
		a.pending.until = a.doubt.until
		w.rest(a)
		return false
	}
	b.remove(a)
	a.unguard()
	return true
}

// close tries what is left until ctx ends, drops the rest, and ends the guard.
func (w *watchdog) close(ctx context.Context) {
	w.mu.Lock()
	b := &w.backlog
	if b.closing {
		w.mu.Unlock()
		return
	}
	b.closing = true
	for a := range b.all {
		b.wake(a)
	}
	w.burst()
	if len(b.all) == 0 {
		b.closed = true
		close(b.finished)
	}
	w.mu.Unlock()

	select {
	case <-b.finished:
	case <-ctx.Done():
	}
	for _, a := range w.dropAll() {
		w.engine.dropped(a, ctx.Err())
	}
	w.cancel()
	done := make(chan struct{})
	go func() { w.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done(): // the store does not keep to its own
	}
}

// dropAll empties the backlog, for good.
func (w *watchdog) dropAll() (all []*Attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := &w.backlog
	b.closed = true
	for a := range b.all {
		all = append(all, a)
		a.unguard()
	}
	clear(b.all)
	b.ready = [ranks][]*Attempt{}
	return all
}
