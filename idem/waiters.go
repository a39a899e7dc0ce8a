package idem

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"
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
// refused. Those with one key, payload and caller form a group, in which one
// leads: it alone asks the store, when it is told that the record has changed
// or when the lease must have lapsed. What it learns it shares; should the key
// be free, it takes it and another one leads. So a group costs the store the
// same whether it has two members or ten thousand.
type waiters struct {
	mu     sync.Mutex
	groups map[[16]byte][]*waitGroup // guarded by mu
	count  int                       // guarded by mu
	some   atomic.Bool               // count > 0: spares those who notify the mutex
	most   int
	closed chan struct{}
	once   sync.Once
}

type waitGroup struct {
	id        [16]byte
	print     Fingerprint
	binding   Binding
	wake      chan struct{} // holds one: for whoever leads
	until     time.Time     // when the lease lapses, as the last leader learnt; guarded by waiters.mu
	led       bool          // guarded by waiters.mu
	followers list.List     // of chan shared; guarded by waiters.mu
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

// join enters r's group. turn is nil for who leads it; ok is false if there are
// too many waiters already.
func (w *waiters) join(r *Request, remaining time.Duration) (g *waitGroup, turn *list.Element, ok bool) {
	id := r.Key.ID()
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.closed:
		return nil, nil, false
	default:
	}
	if w.count >= w.most {
		return nil, nil, false
	}
	w.add(1)
	for _, g = range w.groups[id] {
		if g.print == r.Fingerprint && g.binding == r.Binding {
			if !g.led {
				g.led = true
				return g, nil, true
			}
			return g, g.followers.PushBack(make(chan shared, 1)), true
		}
	}
	g = &waitGroup{
		id: id, print: r.Fingerprint, binding: r.Binding, wake: make(chan struct{}, 1),
		until: time.Now().Add(remaining), led: true,
	}
	w.groups[id] = append(w.groups[id], g)
	// The record may have changed between being read and the group's being
	// there to be told: ask once more.
	g.wake <- struct{}{}
	return g, nil, true
}

// follow waits to be told; ok is false if ctx ended first, and the follower has
// left.
func (w *waiters) follow(ctx context.Context, g *waitGroup, turn *list.Element) (s shared, ok bool) {
	told := turn.Value.(chan shared) //nolint:forcetypeassert // see join
	select {
	case s = <-told:
		return s, true
	case <-ctx.Done():
	case <-w.closed:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(-1)
	select {
	case s = <-told: // just so
		if s.lead {
			w.passOn(g)
		}
	default:
		g.followers.Remove(turn)
	}
	return shared{}, false
}

// add counts waiters. mu is held.
func (w *waiters) add(n int) {
	w.count += n
	w.some.Store(w.count > 0)
}

// passOn makes the next follower lead; without one the group ends. mu is held.
func (w *waiters) passOn(g *waitGroup) {
	if next := g.followers.Front(); next != nil {
		g.followers.Remove(next).(chan shared) <- shared{lead: true} //nolint:forcetypeassert // see join
		return
	}
	g.led = false
	rest := w.groups[g.id]
	for i := range rest {
		if rest[i] == g {
			rest[i] = rest[len(rest)-1]
			rest = rest[:len(rest)-1]
			break
		}
	}
	if len(rest) == 0 {
		delete(w.groups, g.id)
		return
	}
	w.groups[g.id] = rest
}

// leave ends a leader's part. What it took (until then in progress again) or
// was refused for lack of time is not for the others, who go on; anything else
// is, and ends the group.
func (w *waiters) leave(g *waitGroup, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(-1)
	g.until = until
	w.passOn(g)
}

func (w *waiters) share(g *waitGroup, s shared) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add(-1 - g.followers.Len())
	for next := g.followers.Front(); next != nil; next = g.followers.Front() {
		g.followers.Remove(next).(chan shared) <- s //nolint:forcetypeassert // see join
	}
	w.passOn(g)
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
	g, turn, ok := e.waiters.join(&r, standing.Remaining)
	if !ok {
		return standing, nil, nil
	}
	e.trace.waiting(1)
	defer e.trace.waiting(-1)
	if turn != nil {
		s, ok := e.waiters.follow(ctx, g, turn)
		if !ok {
			return standing, nil, nil
		}
		if !s.lead {
			s.out.Local = true // no round trip of its own
			return s.out, nil, s.err
		}
	}
	return e.lead(ctx, g, r, standing)
}

// lead waits on behalf of a group.
func (e *Engine) lead(ctx context.Context, g *waitGroup, r Request, standing Outcome) (Outcome, *Attempt, error) {
	w := e.waiters
	until := w.lapse(g)
	for {
		timer := time.NewTimer(time.Until(until) + lapseSlack)
		select {
		case <-g.wake:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			w.leave(g, until)
			return standing, nil, nil
		case <-w.closed:
			timer.Stop()
			w.leave(g, until)
			return standing, nil, nil
		}
		timer.Stop()
		// Not under ctx: an answer that is under way is worth its while.
		out, attempt, err := e.Begin(context.WithoutCancel(ctx), r)
		switch {
		case err != nil:
			w.share(g, shared{err: err})
			return out, nil, err
		case attempt != nil:
			w.leave(g, time.Now().Add(r.Policy.TTL))
			return out, attempt, nil
		case out.Kind != VerdictInProgress:
			w.share(g, shared{out: out})
			return out, nil, nil
		}
		standing, until = out, time.Now().Add(out.Remaining)
	}
}

// StopWaiting ends every Wait, those to come included. Call it when the process
// is about to stop.
func (e *Engine) StopWaiting() { e.waiters.close() }
