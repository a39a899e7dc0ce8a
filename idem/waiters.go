package idem

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// Notifier is a store whose records other processes change, too, or an
// operator does.
type Notifier interface {
	// OnChange has f called when the record of that ID, which this process has
	// asked for before, may have changed other than through this process's
	// Complete, Release or Hold; the zero ID stands for any record. f does not
	// block. A store has one such f.
	OnChange(f func(id [16]byte))
}

// waiters are the requests that wait for a key in progress instead of being
// refused. Those with one key, payload and caller form a group, in which the
// first leads: it alone asks the store, when it is told that the record has
// changed or when the lease must have lapsed. What it learns it shares; should
// the key be free, it takes it and the next one leads. So a group costs the store
// the same whether it has two members or ten thousand.
type waiters struct {
	mu     sync.Mutex
	groups map[[16]byte][]*waitGroup // guarded by mu; none is empty
	count  int                       // guarded by mu; the members of all groups
	some   atomic.Bool               // there are groups: spares those who notify the mutex
	most   int
	closed chan struct{}
	once   sync.Once
}

type waitGroup struct {
	id      [16]byte
	print   Fingerprint
	binding Binding
	recipe  Recipe
	wake    chan struct{} // holds one: for whoever leads
	until   time.Time     // when the lease lapses, as the last leader learnt; guarded by waiters.mu
	members list.List     // of *waiter; the first leads; guarded by waiters.mu
}

// waiter is a member of a group until it is taken out, by itself or by the leader
// that tells it what became of the key.
type waiter struct {
	group *waitGroup
	place *list.Element // nil once it is taken out; guarded by waiters.mu
	told  chan shared   // holds one: a follower is told once
}

// shared is what a follower is told: to lead, or what the leader got.
type shared struct {
	lead bool
	out  Outcome
	err  error
}

func newWaiters(most int) *waiters {
	return &waiters{groups: map[[16]byte][]*waitGroup{}, most: most, closed: make(chan struct{})}
}

// notify wakes the leaders of a key; the zero ID wakes all.
//
// Who joins while this sees nobody asks the store afterwards, and so learns of
// the change.
func (w *waiters) notify(id [16]byte) {
	if !w.some.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if id != [16]byte{} {
		wakeAll(w.groups[id])
		return
	}
	for _, groups := range w.groups {
		wakeAll(groups)
	}
}

func wakeAll(groups []*waitGroup) {
	for _, g := range groups {
		select {
		case g.wake <- struct{}{}:
		default: // it is going to ask anyway
		}
	}
}

// join enters r's group; nil if there are too many waiters already. leads says
// that there was nobody in it.
func (w *waiters) join(r *Request, remaining time.Duration) (m *waiter, leads bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.closed:
		return nil, false
	default:
	}
	if w.count >= w.most {
		return nil, false
	}
	g := w.groupOf(r, remaining)
	m = &waiter{group: g, told: make(chan shared, 1)}
	leads = g.members.Len() == 0
	m.place = g.members.PushBack(m)
	w.count++
	return m, leads
}

// groupOf is r's group, a new one if need be. mu is held.
func (w *waiters) groupOf(r *Request, remaining time.Duration) *waitGroup {
	id := r.Key.ID()
	for _, g := range w.groups[id] {
		if g.print == r.Fingerprint && g.binding == r.Binding && g.recipe == r.Recipe {
			return g
		}
	}
	g := &waitGroup{
		id: id, print: r.Fingerprint, binding: r.Binding, recipe: r.Recipe, wake: make(chan struct{}, 1),
		until: time.Now().Add(remaining),
	}
	w.groups[id] = append(w.groups[id], g)
	w.some.Store(true)
	// The record may have changed between being read and the group's being
	// there to be told: ask once more.
	g.wake <- struct{}{}
	return g
}

// follow waits to be told; ok is false if ctx ended first, and the follower has
// left.
func (w *waiters) follow(ctx context.Context, m *waiter) (s shared, ok bool) {
	select {
	case s = <-m.told:
		return s, true
	case <-ctx.Done():
	case <-w.closed:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.takeOut(m) {
		return shared{}, false
	}
	return <-m.told, true // just so
}

// takeOut has m wait no more, and says whether it still did: the only place where
// a group loses a member. If m led, the next one leads; the last one takes the
// group with it. mu is held.
func (w *waiters) takeOut(m *waiter) bool {
	if m.place == nil {
		return false
	}
	g := m.group
	led := g.members.Front() == m.place
	g.members.Remove(m.place)
	m.place = nil
	w.count--
	next := g.members.Front()
	switch {
	case next == nil:
		w.drop(g)
	case led:
		next.Value.(*waiter).told <- shared{lead: true} //nolint:forcetypeassert // see join
	}
	return true
}

// drop forgets a group. mu is held.
func (w *waiters) drop(g *waitGroup) {
	rest := slices.DeleteFunc(w.groups[g.id], func(other *waitGroup) bool { return other == g })
	if w.groups[g.id] = rest; len(rest) == 0 {
		delete(w.groups, g.id)
	}
	w.some.Store(len(w.groups) > 0)
}

// leave ends a leader's part. What it took (until then in progress again) or
// was refused for lack of time is not for the others, who go on; anything else
// is, and ends the group.
func (w *waiters) leave(m *waiter, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m.group.until = until
	w.takeOut(m)
}

// share tells all followers of m, who leads, and ends the group: from the back,
// so that nobody is told to lead it.
func (w *waiters) share(m *waiter, s shared) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for m.place != nil {
		last := m.group.members.Back().Value.(*waiter) //nolint:forcetypeassert // see join
		w.takeOut(last)
		if last != m {
			last.told <- s
		}
	}
}

func (w *waiters) lapse(g *waitGroup) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return g.until
}

// close sends everybody home: with what stood when they came.
func (w *waiters) close() { w.once.Do(func() { close(w.closed) }) }

// lapseSlack is how much later than it must have lapsed a lease is asked for.
const lapseSlack = 5 * time.Millisecond

// Wait is for a request whose Begin found the key in progress: it waits until
// ctx ends for what becomes of it, and returns as Begin does. A waiter gets the
// response as soon as there is one, whichever process executed; if the key
// becomes free, exactly one waiter gets the attempt. If ctx ends first, if there
// are too many waiters or after StopWaiting, the key is still in progress.
func (e *Engine) Wait(ctx context.Context, r Request, standing Outcome) (Outcome, *Attempt, error) {
	m, leads := e.waiters.join(&r, standing.Remaining)
	if m == nil {
		return standing, nil, nil
	}
	e.trace.waiting(1)
	defer e.trace.waiting(-1)
	if !leads {
		s, ok := e.waiters.follow(ctx, m)
		if !ok {
			return standing, nil, nil
		}
		if !s.lead {
			s.out.Local = true // no round trip of its own
			return s.out, nil, s.err
		}
	}
	return e.lead(ctx, m, r, standing)
}

// lead waits on behalf of a group.
func (e *Engine) lead(ctx context.Context, m *waiter, r Request, standing Outcome) (Outcome, *Attempt, error) {
	w := e.waiters
	until := w.lapse(m.group)
	for {
		timer := time.NewTimer(time.Until(until) + lapseSlack)
		select {
		case <-m.group.wake:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			w.leave(m, until)
			return standing, nil, nil
		case <-w.closed:
			timer.Stop()
			w.leave(m, until)
			return standing, nil, nil
		}
		timer.Stop()
		// Not under ctx: an answer that is under way is worth its while.
		out, attempt, err := e.Begin(context.WithoutCancel(ctx), r)
		switch {
		case err != nil:
			w.share(m, shared{err: err})
			return out, nil, err
		case attempt != nil:
			failpoint.Reach("leader-leaves")
			w.leave(m, time.Now().Add(r.Policy.TTL))
			return out, attempt, nil
		case out.Kind != VerdictInProgress:
			w.share(m, shared{out: out})
			return out, nil, nil
		}
		standing, until = out, time.Now().Add(out.Remaining)
	}
}

// StopWaiting ends every Wait, those to come included. Call it when the process
// is about to stop.
func (e *Engine) StopWaiting() { e.waiters.close() }
