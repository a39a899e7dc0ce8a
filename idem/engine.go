package idem

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// Engine takes requests through a store: it begins an attempt, keeps its lease
// alive while the backend works, and ends it. It is safe for concurrent use.
type Engine struct {
	store    Store
	trace    Trace
	within   time.Duration
	watchdog *watchdog
	waiters  *waiters
	drops    atomic.Int64
}

// Config is what an engine needs.
type Config struct {
	// Store keeps the records; the engine does not close it.
	Store Store
	// Trace is told what happens; the zero value tells nobody.
	Trace Trace
	// PendingBytes bounds the responses kept in memory while the store cannot
	// take them (64 MiB if zero). What does not fit is dropped and reported.
	PendingBytes int64
	// MaxWaiters bounds the requests in Wait (10,000 if zero).
	MaxWaiters int
	// AcquireWithin is how long after it was asked the store may still grant a
	// lease (5 s if zero); not below the store's own timeout.
	AcquireWithin time.Duration
}

// NewEngine starts an engine and its watchdog. Close it.
func NewEngine(c Config) *Engine {
	if c.PendingBytes == 0 {
		c.PendingBytes = 64 << 20
	}
	if c.MaxWaiters == 0 {
		c.MaxWaiters = 10_000
	}
	if c.AcquireWithin == 0 {
		c.AcquireWithin = 5 * time.Second
	}
	e := &Engine{store: c.Store, trace: c.Trace, within: c.AcquireWithin, waiters: newWaiters(c.MaxWaiters)}
	if n, ok := c.Store.(Notifier); ok {
		n.OnChange(e.waiters.notify)
	}
	e.watchdog = newWatchdog(e, c.PendingBytes)
	return e
}

// Close offers what the store has not taken yet until ctx ends, drops what is
// left, and stops renewing. It returns how many endings were dropped meanwhile,
// each of which was reported. It never takes longer than ctx, whatever the store
// does. Call it when no attempt is under way: one that ends later is still
// stored, if the store takes it at once. It may be repeated.
func (e *Engine) Close(ctx context.Context) (dropped int) {
	before := e.drops.Load()
	e.watchdog.close(ctx)
	return int(e.drops.Load() - before)
}

// Request is what the engine must know of a request.
type Request struct {
	Key         Key
	Fingerprint Fingerprint
	Binding     Binding
	// Recipe is how Fingerprint, Binding and Hints were made.
	Recipe Recipe
	// Hints explain a mismatch; the zero value does not.
	Hints Hints
	// Under makes them by another recipe, for comparing with a record that was made
	// by it; false if it cannot. Nil: it never can. It is called before Begin or
	// Wait returns, if at all.
	Under  func(Recipe) (Hashes, bool)
	Policy *Policy
	// Asker says who asks, for what is told of the attempt's end. Nil: nobody does.
	Asker Asker
	// Owner, if not zero, is the token of the attempt: that of the attempt which has
	// another name of the same operation.
	Owner Owner
}

// Hashes are what a request is compared by, as one recipe makes them.
type Hashes struct {
	Fingerprint Fingerprint
	Binding     Binding
	Hints       Hints
}

// Asker is who sent a request.
type Asker interface {
	// Asked is what a [Trace] is given of it. It is called before the attempt's Finish
	// returns, if at all; what it returns may outlive the request.
	Asked() any
}

// Begin acquires the key. The attempt is nil unless the outcome is Acquired (or
// Yours, after a first answer that got lost); then it is under the watchdog's
// guard and must be ended by exactly one Finish.
//
// An error means that the store could not answer, and that nothing may be
// executed. Should the store have granted the lease all the same, or grant it
// late, it is given back in the background.
func (e *Engine) Begin(ctx context.Context, r Request) (Outcome, *Attempt, error) {
	owner := r.Owner
	if owner == (Owner{}) {
		owner = r.Hints.NewOwner()
	}
	claim := Claim{
		Key: r.Key, Owner: owner, Fingerprint: r.Fingerprint, Binding: r.Binding, Recipe: r.Recipe, Hints: r.Hints,
		TTL: r.Policy.TTL, Retention: r.Policy.Retention, Remember: r.Policy.Remember,
		HoldOnLapse: r.Policy.OnAmbiguous.Holds(), Within: e.within,
	}
	var d doubt
	out, sent, err := e.claim(ctx, &r, &claim, &d)
	if err != nil {
		e.giveBack(&claim, r.Policy, d)
		return Outcome{}, nil, err
	}
	if e.trace.Acquired != nil {
		e.trace.Acquired(r.Key, out)
	}
	if out.Kind != VerdictAcquired && out.Kind != VerdictYours {
		e.giveBack(&claim, r.Policy, d)
		return out, nil, nil
	}
	a := e.attempt(&claim, r.Policy, sent)
	a.number, a.asker = out.Attempt, r.Asker
	if out.Kind == VerdictYours {
		d.acquires-- // the one that was granted is not on its way any more
	}
	a.mayComeLate(d)
	failpoint.Reach("lease-unguarded")
	e.watchdog.add(a)
	e.trace.leaseStarted()
	return out, a, nil
}

// claim asks until there is an answer that was compared by the right recipe, and
// says when what was answered was sent.
func (e *Engine) claim(ctx context.Context, r *Request, c *Claim, d *doubt) (out Outcome, sent time.Time, err error) {
	out, sent, err = e.acquire(ctx, c, d)
	if errors.Is(err, ErrUnavailable) && ctx.Err() == nil && time.Since(sent) < askAgainWithin {
		// Safe to ask again: the store recognises the owner token.
		out, sent, err = e.acquire(ctx, c, d)
	}
	for try := 0; err == nil && out.Kind == VerdictOtherRecipe; try++ {
		// What stands was made by other settings: it is compared by those.
		var by Hashes
		var known bool
		if r.Under != nil && try < 3 { // it may end, and another one begin, in between
			by, known = r.Under(out.Recipe)
		}
		if !known {
			return Outcome{}, sent, ErrRecipe
		}
		c.Recipe, c.Fingerprint, c.Binding, c.Hints = out.Recipe, by.Fingerprint, by.Binding, by.Hints
		out, sent, err = e.acquire(ctx, c, d)
	}
	out.Recipe = c.Recipe
	return out, sent, err
}

func (e *Engine) attempt(c *Claim, p *Policy, sent time.Time) *Attempt {
	lease := c.Lease()
	lease.Key = lease.Key.Clone() // it may outlive the request
	return &Attempt{engine: e, lease: lease, policy: *p, proved: sent}
}

// askAgainWithin is how soon an acquire must have failed to be repeated at once:
// a broken connection says so immediately, and its successor may work; a store
// that let the time-out pass would let another one pass.
const askAgainWithin = 100 * time.Millisecond

func (e *Engine) acquire(ctx context.Context, c *Claim, d *doubt) (Outcome, time.Time, error) {
	sent := time.Now()
	out, err := e.store.Acquire(ctx, *c)
	if !out.Local {
		e.trace.storeCall(EventAcquire, sent, err)
	}
	if errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrRefused) {
		d.acquires++
		d.until = sent.Add(e.within + lateMargin)
	}
	return out, sent, err
}

// doubt is what a Begin does not know of its acquires: how many were not
// answered, and until when they may still arrive and be granted.
type doubt struct {
	acquires int
	until    time.Time
}

// lateMargin is how much longer than a claim's Within it is taken to be on its
// way: the store's clock may be that much off.
const lateMargin = time.Second

// settledBy says whether nothing can be granted any more, given that a release
// sent then was answered so: it found what was granted, and no other is on its
// way, or all of them have had their time.
func (d doubt) settledBy(sent time.Time, err error) bool {
	return !sent.Before(d.until) || err == nil && d.acquires == 1
}

// giveBack releases what the store may have granted without saying so, if
// anything.
func (e *Engine) giveBack(c *Claim, p *Policy, d doubt) {
	if d.acquires > 0 {
		e.watchdog.offer(e.attempt(c, p, time.Time{}).givingBack(d), time.Time{})
	}
}

// releaseLate gives back what may still be granted under a's owner after a was
// released.
func (e *Engine) releaseLate(a *Attempt) {
	if a.doubt == nil {
		return
	}
	late := &Attempt{engine: e, lease: a.lease, policy: a.policy, pending: &pending{until: a.doubt.until}}
	e.watchdog.offer(late.givingBack(doubt{acquires: a.doubt.acquires + 1, until: a.doubt.until}), time.Time{})
}

// mayComeLate has the attempt know of acquires that may still be granted. It keeps a
// copy, so that nothing is allocated where there are none.
func (a *Attempt) mayComeLate(d doubt) {
	if d.acquires > 0 {
		kept := d
		a.doubt = &kept
	}
}

// givingBack makes a the release of a lease that was perhaps never granted.
func (a *Attempt) givingBack(d doubt) *Attempt {
	a.doubt, a.lost = &d, true // it never was ours for sure: losing it is no news
	a.end = ending{event: EventRelease, cause: CauseNothingSent, givesBack: true}
	return a
}

// Attempt is one lease in flight: the right to execute a key's operation once.
type Attempt struct {
	engine *Engine
	lease  Lease // the claim's; renewals copy it, so it is not written to
	policy Policy
	doubt  *doubt // acquires besides the one that was granted, if any
	number uint32

	// Until Finish, these are the request's own.
	asker     Asker         // nil once asked is known
	noStore   bool          // see DoNotStore
	retention time.Duration // see Retain
	end       ending        // what is asked in the end, written before anybody else sees it
	asked     any           // the asker's, written likewise

	// The rest is guarded by the watchdog's mu.
	proved     time.Time // when the last granted acquire or renewal was sent
	queuedAt   time.Time
	queue      *leaseQueue
	prev, next *Attempt
	ended      bool // finished: late renewals do not matter
	lost       bool // reported as lost
	pending    *pending
}

// Number counts the executions started under the key, from 1.
func (a *Attempt) Number() uint32 { return a.number }

// Owner is the token that no other attempt has.
func (a *Attempt) Owner() Owner { return a.lease.Owner }

// Key is the key that is held.
func (a *Attempt) Key() Key { return a.lease.Key }

// Retention is how long a response is kept: what Retain said, or the policy.
func (a *Attempt) Retention() time.Duration {
	if a.retention > 0 {
		return a.retention
	}
	return a.policy.Retention
}

// Retain keeps the response for d (above 0) instead of the policy's retention.
// Before Finish only.
func (a *Attempt) Retain(d time.Duration) { a.retention = d }

// DoNotStore has a response that would be kept release the key instead, so that
// the next request with it executes again. Before Finish only.
func (a *Attempt) DoNotStore() { a.noStore = true }

// Outlive has the attempt end after its request: its asker is not asked any more.
func (a *Attempt) Outlive() { a.asked, a.asker = a.about(), nil }

// Confirm says whether the request may be forwarded now. It costs nothing as
// long as the lease was proved less than a heartbeat ago; a process that was
// stopped since (SIGSTOP, a frozen machine, a long pause) asks the store first.
// On an error nothing may be forwarded, and Finish with NothingSent is still
// due.
func (a *Attempt) Confirm(ctx context.Context) error {
	w := a.engine.watchdog
	w.mu.Lock()
	fresh := !a.lost && time.Since(a.proved) < a.policy.Heartbeat
	w.mu.Unlock()
	if fresh {
		return nil
	}
	sent := time.Now()
	err := a.engine.store.Renew(ctx, []Lease{a.lease})[0]
	a.engine.trace.storeCall(EventRenew, sent, err)
	if err == nil {
		w.prove(a, sent)
	} else if isLost(err) && w.giveUp(a) {
		a.engine.lost(a, EventRenew)
	}
	return err
}

// ErrNoOperator says that the store has no operator's side.
var ErrNoOperator = errors.New("the store cannot be inspected")

// Settle ends what owner's attempt left unknown: with the response if the operation was
// executed, and with nil if it was not and never will be. It is one atomic step; if
// another attempt's record stands, or none, it is ErrLeaseLost and nothing has happened.
func (e *Engine) Settle(ctx context.Context, k Key, owner Owner, r *Response) error {
	lease := Lease{Key: k, Owner: owner}
	event, err := EventRelease, error(nil)
	sent := time.Now()
	if r != nil {
		event, err = EventComplete, e.store.Complete(ctx, lease, r)
	} else {
		err = e.store.Release(ctx, lease)
	}
	e.trace.storeCall(event, sent, err)
	if err == nil {
		e.waiters.notify(k.ID())
	}
	return err
}

// List shows all records, as [Inspector] has it.
func (e *Engine) List(ctx context.Context, visit func(*Record) bool) error {
	i, ok := e.store.(Inspector)
	if !ok {
		return ErrNoOperator
	}
	return i.List(ctx, visit)
}

// Get reads a record, as [Inspector] has it.
func (e *Engine) Get(ctx context.Context, k Key) (Record, error) {
	i, ok := e.store.(Inspector)
	if !ok {
		return Record{}, ErrNoOperator
	}
	return i.Get(ctx, k)
}

// ReleaseFrom takes the lease of k away from owner, who was looked up with Get:
// the next request executes, also if the one under way goes on. It is one atomic
// step; if the record has changed since it was looked at, or is not in progress any
// more, it is ErrLeaseLost and nothing has happened. The count of attempts goes on.
func (e *Engine) ReleaseFrom(ctx context.Context, k Key, owner Owner) error {
	i, ok := e.store.(Inspector)
	if !ok {
		return ErrNoOperator
	}
	err := i.Take(ctx, k, owner)
	if err == nil {
		e.waiters.notify(k.ID())
	}
	return err
}
