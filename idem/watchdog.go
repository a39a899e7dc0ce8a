package idem

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// renewBatch bounds one burst of renewals, so that a store is never handed an
// unbounded pipeline.
const renewBatch = 1024

// burstsAtOnce bounds how many bursts of renewals are under way: a part of the
// store that does not answer keeps those that hold one of its leases waiting, and
// the others must not wait for them.
const burstsAtOnce = 8

// watchdog guards every lease from its grant until the store has taken its
// ending: it renews it, and offers the ending again if the store could not take
// it (see backlog.go).
//
// Leases of one heartbeat become due in the order in which they were last
// proved, so a queue per heartbeat needs neither heap nor timer wheel: new and
// renewed leases go to the back, the due ones are at the front, and each step is
// O(1). One goroutine sleeps until the first of the queues is due, but never
// longer than the shortest heartbeat: a lease added meanwhile cannot be due
// earlier than that, so adding one never has to wake it.
//
// Rejected: a timer or goroutine a lease (50,000 of them wake 5,000 times a
// second and send one command each); a ticker that walks all leases (touches
// 50,000 to find the 500 that are due).
type watchdog struct {
	engine *Engine
	ctx    context.Context //nolint:containedctx // of what is asked in the background: ends with close
	cancel context.CancelFunc
	work   sync.WaitGroup
	kick   chan struct{} // a heartbeat shorter than all before
	bursts chan struct{} // holds one for each burst of renewals under way

	begun time.Time
	taken atomic.Int64 // see took

	mu      sync.Mutex
	queues  []*leaseQueue // guarded by mu; one a heartbeat, a handful
	backlog backlog       // guarded by mu
}

// leaseQueue is an intrusive doubly linked list, oldest proof first.
type leaseQueue struct {
	heartbeat   time.Duration
	front, back *Attempt
}

func newWatchdog(e *Engine, pendingBytes int64) *watchdog {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watchdog{
		engine: e, ctx: ctx, cancel: cancel, begun: time.Now(),
		kick: make(chan struct{}, 1), bursts: make(chan struct{}, burstsAtOnce), backlog: newBacklog(pendingBytes),
	}
	w.work.Go(w.run)
	return w
}

// add puts a lease that was just proved under guard.
func (w *watchdog) add(a *Attempt) {
	w.mu.Lock()
	q := w.queueFor(a.policy.Heartbeat)
	q.push(a)
	w.mu.Unlock()
}

// finishing says that a's ending is on its way: what a renewal finds from here on
// is no news.
func (w *watchdog) finishing(a *Attempt) {
	w.mu.Lock()
	a.ended = true
	w.mu.Unlock()
}

// remove takes a lease off; from here on nothing renews it.
func (w *watchdog) remove(a *Attempt) {
	w.mu.Lock()
	a.unguard()
	w.mu.Unlock()
}

// unguard is remove with mu held.
func (a *Attempt) unguard() {
	if a.queue != nil {
		a.queue.unlink(a)
	}
}

// took notes that the store did what was asked of it at sent.
func (w *watchdog) took(sent time.Time) { w.taken.Store(int64(sent.Sub(w.begun))) }

// tookSince says whether the store did anything that was asked of it after t.
func (w *watchdog) tookSince(t time.Time) bool { return w.taken.Load() > int64(t.Sub(w.begun)) }

func (w *watchdog) queueFor(heartbeat time.Duration) *leaseQueue {
	for _, q := range w.queues {
		if q.heartbeat == heartbeat {
			return q
		}
	}
	q := &leaseQueue{heartbeat: heartbeat}
	w.queues = append(w.queues, q)
	select {
	case w.kick <- struct{}{}:
	default:
	}
	return q
}

func (w *watchdog) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(w.untilDue(time.Now()))
		select {
		case <-w.ctx.Done():
			return
		case <-w.kick:
			continue
		case <-timer.C:
		}
		for batch := w.takeDue(time.Now()); len(batch) > 0; batch = w.takeDue(time.Now()) {
			select {
			case <-w.ctx.Done():
				return
			case w.bursts <- struct{}{}:
			}
			w.work.Go(func() {
				w.renew(batch)
				<-w.bursts
			})
		}
	}
}

// untilDue is how long nothing needs to be renewed.
func (w *watchdog) untilDue(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	wait := time.Hour
	for _, q := range w.queues {
		wait = min(wait, q.heartbeat)
		if q.front != nil {
			wait = min(wait, q.front.queuedAt.Add(q.heartbeat).Sub(now))
		}
	}
	return max(wait, 0)
}

// takeDue takes up to renewBatch leases that are due, or will be within an
// eighth of their heartbeat: better a little early and all in one burst. They
// go to the back at once, as if proved, so that a store that fails is asked
// again a heartbeat later, and not in a loop.
func (w *watchdog) takeDue(now time.Time) []*Attempt {
	w.mu.Lock()
	defer w.mu.Unlock()
	var due []*Attempt
	for _, q := range w.queues {
		horizon := now.Add(-q.heartbeat + q.heartbeat/8)
		for a := q.front; a != nil && len(due) < renewBatch && !a.queuedAt.After(horizon); a = q.front {
			q.unlink(a)
			a.queuedAt = now
			q.pushBack(a)
			due = append(due, a)
		}
	}
	return due
}

func (w *watchdog) renew(batch []*Attempt) {
	leases := make([]Lease, len(batch))
	for i, a := range batch {
		leases[i] = a.lease
	}
	sent := time.Now()
	errs := w.engine.store.Renew(w.ctx, leases)
	w.engine.trace.storeCall(EventRenew, sent, firstError(errs))

	renewed := 0
	for i, a := range batch {
		switch {
		case errs[i] == nil:
			renewed++
			w.prove(a, sent)
		case isLost(errs[i]) && w.giveUp(a):
			w.engine.lost(a, EventRenew)
		}
	}
	if renewed > 0 {
		w.took(sent)
	}
	w.engine.trace.renewed(renewed)
}

// prove notes when the granted renewal was sent; the lease runs from there. Of
// two that were under way at a time, the later counts.
func (w *watchdog) prove(a *Attempt, sent time.Time) {
	w.mu.Lock()
	if sent.After(a.proved) {
		a.proved = sent
	}
	w.mu.Unlock()
}

// giveUp stops renewing a lost lease and reports whether that is news: of an
// attempt that has ended, the ending says what became of it. It is asked all the
// same, since the owner of an unknown key may still say what happened.
func (w *watchdog) giveUp(a *Attempt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.unguard()
	if a.ended || a.lost {
		return false
	}
	a.lost = true
	return true
}

// giveUpEnded is giveUp for an attempt that was ended: its ending was refused.
func (w *watchdog) giveUpEnded(a *Attempt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	news := !a.lost
	a.lost = true
	return news
}

func (q *leaseQueue) push(a *Attempt) {
	a.queuedAt = a.proved
	q.pushBack(a)
}

func (q *leaseQueue) pushBack(a *Attempt) {
	a.queue, a.prev, a.next = q, q.back, nil
	if q.back == nil {
		q.front = a
	} else {
		q.back.next = a
	}
	q.back = a
}

func (q *leaseQueue) unlink(a *Attempt) {
	if a.prev == nil {
		q.front = a.next
	} else {
		a.prev.next = a.next
	}
	if a.next == nil {
		q.back = a.prev
	} else {
		a.next.prev = a.prev
	}
	a.queue, a.prev, a.next = nil, nil, nil
}

func firstError(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
