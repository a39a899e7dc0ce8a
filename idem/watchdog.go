package idem

import (
	"context"
	"sync"
	"time"
)

// renewBatch bounds one burst of renewals, so that a store is never handed an
// unbounded pipeline.
const renewBatch = 1024

// watchdog renews every lease in flight, from one goroutine.
//
// Leases of one heartbeat become due in the order in which they were last
// proved, so a queue per heartbeat needs neither heap nor timer wheel: new and
// renewed leases go to the back, the due ones are at the front, and each step is
// O(1). The goroutine sleeps until the first of the queues is due, but never
// longer than the shortest heartbeat: a lease added meanwhile cannot be due
// earlier than that, so adding one never has to wake it.
//
// Rejected: a timer or goroutine a lease (50,000 of them wake 5,000 times a
// second and send one command each); a ticker that walks all leases (touches
// 50,000 to find the 500 that are due).
type watchdog struct {
	store Store
	trace *Trace
	stop  chan struct{}
	done  chan struct{}
	kick  chan struct{} // a heartbeat shorter than all before

	mu     sync.Mutex
	queues []*leaseQueue // guarded by mu; one a heartbeat, a handful
}

// leaseQueue is an intrusive doubly linked list, oldest proof first.
type leaseQueue struct {
	heartbeat   time.Duration
	front, back *Attempt
}

func newWatchdog(store Store, trace *Trace) *watchdog {
	w := &watchdog{
		store: store, trace: trace,
		stop: make(chan struct{}), done: make(chan struct{}), kick: make(chan struct{}, 1),
	}
	go w.run()
	return w
}

func (w *watchdog) close() {
	close(w.stop)
	<-w.done
}

// add puts a lease that was just proved under guard.
func (w *watchdog) add(a *Attempt) {
	w.mu.Lock()
	q := w.queueFor(a.policy.Heartbeat)
	q.push(a)
	w.mu.Unlock()
}

// remove takes it off; from here on nothing renews it.
func (w *watchdog) remove(a *Attempt) {
	w.mu.Lock()
	if a.queue != nil {
		a.queue.unlink(a)
	}
	a.ended = true
	w.mu.Unlock()
}

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
	defer close(w.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(w.untilDue(time.Now()))
		select {
		case <-w.stop:
			return
		case <-w.kick:
			continue
		case <-timer.C:
		}
		for batch := w.takeDue(time.Now()); len(batch) > 0; batch = w.takeDue(time.Now()) {
			w.renew(batch)
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
	errs := w.store.Renew(context.Background(), leases)
	w.trace.storeCall(EventRenew, sent, firstError(errs))

	renewed := 0
	for i, a := range batch {
		switch {
		case errs[i] == nil:
			renewed++
			w.prove(a, sent)
		case isLost(errs[i]) && w.giveUp(a):
			w.trace.leaseLost(a, EventRenew)
		}
	}
	w.trace.renewed(renewed)
}

// prove notes when the granted renewal was sent; the lease runs from there.
func (w *watchdog) prove(a *Attempt, sent time.Time) {
	w.mu.Lock()
	a.proved = sent
	w.mu.Unlock()
}

// giveUp stops renewing a lost lease and reports whether that is news: an
// attempt that ended while its renewal was on the way has nothing to lose.
func (w *watchdog) giveUp(a *Attempt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.ended || a.lost {
		return false
	}
	a.lost = true
	if a.queue != nil {
		a.queue.unlink(a)
	}
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
