package idem

import (
	"context"
	"errors"
	"time"
)

// Engine takes requests through a store: it begins an attempt, keeps its lease
// alive while the backend works, and ends it. It is safe for concurrent use.
type Engine struct {
	store    Store
	trace    Trace
	watchdog *watchdog
	settler  *settler
	waiters  *waiters
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
}

// NewEngine starts an engine and its two background goroutines, the watchdog
// and the settler. Close it.
func NewEngine(c Config) *Engine {
	if c.PendingBytes == 0 {
		c.PendingBytes = 64 << 20
	}
	if c.MaxWaiters == 0 {
		c.MaxWaiters = 10_000
	}
	e := &Engine{store: c.Store, trace: c.Trace, waiters: newWaiters(c.MaxWaiters)}
	if n, ok := c.Store.(Notifier); ok {
		n.OnChange(e.waiters.notify)
	}
	e.watchdog = newWatchdog(e.store, &e.trace)
	e.settler = newSettler(e, c.PendingBytes)
	return e
}

// Close stops renewing, offers what the store has not taken yet until ctx ends,
// and reports as dropped what is left. Call it when no attempt is under way.
func (e *Engine) Close(ctx context.Context) {
	e.settler.close(ctx)
	e.watchdog.close()
}

// Request is what the engine must know of a request.
type Request struct {
	Key         Key
	Fingerprint Fingerprint
	Binding     Binding
	// Recipe is how Fingerprint and Binding were made.
	Recipe Recipe
	// Under makes both by another recipe, for comparing with a record that was made
	// by it; false if it cannot. Nil: it never can. It is called before Begin or
	// Wait returns, if at all.
	Under  func(Recipe) (Fingerprint, Binding, bool)
	Policy *Policy
}

// Begin acquires the key. The attempt is nil unless the outcome is Acquired (or
// Yours, after a first answer that got lost); then it is under the watchdog's
// guard and must be ended by exactly one Finish.
//
// An error means that the store could not answer, and that nothing may be
// executed. Should the store have granted the lease all the same, it is given
// back in the background.
func (e *Engine) Begin(ctx context.Context, r Request) (Outcome, *Attempt, error) {
	claim := Claim{
		Key: r.Key, Owner: NewOwner(), Fingerprint: r.Fingerprint, Binding: r.Binding, Recipe: r.Recipe,
		TTL: r.Policy.TTL, Retention: r.Policy.Retention, Remember: r.Policy.Remember,
		HoldOnLapse: r.Policy.OnAmbiguous == AmbiguousHold,
	}
	sent := time.Now()
	out, err := e.acquire(ctx, claim)
	if errors.Is(err, ErrUnavailable) && ctx.Err() == nil && time.Since(sent) < askAgainWithin {
		// Safe to ask again: the store recognises the owner token.
		sent = time.Now()
		out, err = e.acquire(ctx, claim)
	}
	for try := 0; err == nil && out.Kind == VerdictOtherRecipe; try++ {
		// What stands was made by other settings: it is compared by those.
		var known bool
		if r.Under != nil && try < 3 { // it may end, and another one begin, in between
			claim.Fingerprint, claim.Binding, known = r.Under(out.Recipe)
		}
		if !known {
			return Outcome{}, nil, ErrRecipe
		}
		claim.Recipe = out.Recipe
		sent = time.Now()
		out, err = e.acquire(ctx, claim)
	}
	if err != nil {
		if errors.Is(err, ErrUnavailable) {
			a := e.attempt(&claim, r.Policy, sent)
			a.lost = true // it never was ours for sure: losing it is no news
			e.settler.offer(&ending{attempt: a, event: EventRelease, cause: CauseNothingSent, orphan: true})
		}
		return Outcome{}, nil, err
	}
	if e.trace.Acquired != nil {
		e.trace.Acquired(r.Key, out)
	}
	if out.Kind != VerdictAcquired && out.Kind != VerdictYours {
		return out, nil, nil
	}
	a := e.attempt(&claim, r.Policy, sent)
	a.number = out.Attempt
	e.watchdog.add(a)
	e.trace.leaseStarted()
	return out, a, nil
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

func (e *Engine) acquire(ctx context.Context, c Claim) (Outcome, error) {
	sent := time.Now()
	out, err := e.store.Acquire(ctx, c)
	if !out.Local {
		e.trace.storeCall(EventAcquire, sent, err)
	}
	return out, err
}

// Attempt is one lease in flight: the right to execute a key's operation once.
type Attempt struct {
	engine *Engine
	lease  Lease
	policy Policy
	number uint32
	// noStore: see DoNotStore.
	noStore bool

	// The rest is guarded by the watchdog's mu.
	proved     time.Time // when the last granted acquire or renewal was sent
	queuedAt   time.Time
	queue      *leaseQueue
	prev, next *Attempt
	ended      bool // finished: late renewals do not matter
	lost       bool // reported as lost
}

// Number counts the executions started under the key, from 1.
func (a *Attempt) Number() uint32 { return a.number }

// Key is the key that is held.
func (a *Attempt) Key() Key { return a.lease.Key }

// Retain keeps the response for d instead of the policy's retention. Before
// Finish only.
func (a *Attempt) Retain(d time.Duration) { a.lease.Retention = d }

// DoNotStore has a response that would be kept release the key instead, so that
// the next request with it executes again. Before Finish only.
func (a *Attempt) DoNotStore() { a.noStore = true }

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
		a.engine.trace.leaseLost(a, EventRenew)
	}
	return err
}

// ErrNoOperator says that the store has no operator's side.
var ErrNoOperator = errors.New("the store cannot be inspected")

// Resolve ends an unknown key, as [Inspector] has it.
func (e *Engine) Resolve(ctx context.Context, k Key, r *Response) error {
	i, ok := e.store.(Inspector)
	if !ok {
		return ErrNoOperator
	}
	return i.Resolve(ctx, k, r)
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
// step; if the record has changed since it was looked at, it is ErrLeaseLost and
// nothing has happened. The count of attempts goes on.
func (e *Engine) ReleaseFrom(ctx context.Context, k Key, owner Owner) error {
	err := e.store.Release(ctx, Lease{Key: k, Owner: owner})
	if err == nil {
		e.waiters.notify(k.ID())
	}
	return err
}

// Ending is what became of an attempt.
type Ending uint8

// The endings. Open is the zero value: the attempt has not ended. After Lost,
// the store refused: somebody else's record stands, or none; after Deferred, it
// has not answered yet and is asked again in the background.
const (
	Open Ending = iota
	Stored
	Released
	Held
	Lost
	Deferred
)

// String is the ending's name in logs and metrics.
func (e Ending) String() string {
	switch e {
	case Open:
		return "open"
	case Stored:
		return "stored"
	case Released:
		return "released"
	case Held:
		return "held"
	case Lost:
		return "lost"
	case Deferred:
		return "deferred"
	}
	return "invalid"
}

// Finish ends the attempt with what the forward proved and, if it was Answered,
// the response, which the caller must not change until Finish returns. The lease
// is off the watchdog when Finish begins to talk to the store. Finish takes no
// context: an ending must reach the store even if the client has left.
func (a *Attempt) Finish(sent Sent, r *Response) Ending {
	a.engine.watchdog.remove(a)
	a.engine.trace.leaseEnded()
	end := a.ending(sent, r)
	err := a.engine.settle(end)
	switch {
	case err == nil:
		return end.result()
	case errors.Is(err, ErrUnavailable):
		a.engine.settler.offer(end.keep())
		return Deferred
	}
	a.engine.dropped(end, err)
	return Lost
}

// ending is what is asked of the store at the end of an attempt.
type ending struct {
	attempt  *Attempt
	event    Event
	cause    ReleaseCause // of EventRelease
	response *Response    // of EventComplete
	// orphan: the release of a lease that was perhaps never granted. What
	// becomes of it is nobody's news.
	orphan bool
}

// ending decides: the one place where what happened becomes what is recorded.
func (a *Attempt) ending(sent Sent, r *Response) *ending {
	end := a.policy.ending(sent, r)
	if end.event == EventComplete && a.noStore {
		end = &ending{event: EventRelease, cause: CauseNotKept}
	}
	end.attempt = a
	return end
}

func (p *Policy) ending(sent Sent, r *Response) *ending {
	switch sent {
	case NothingSent:
		return &ending{event: EventRelease, cause: CauseNothingSent}
	case MayHaveExecuted:
		return p.ambiguous()
	case Answered:
	}
	switch p.Statuses.Of(r.Status) {
	case TryAgain:
		return &ending{event: EventRelease, cause: CauseTryAgain}
	case Ambiguous:
		return p.ambiguous()
	case Keep:
	}
	return &ending{event: EventComplete, response: r}
}

func (p *Policy) ambiguous() *ending {
	if p.OnAmbiguous == AmbiguousHold {
		return &ending{event: EventHold}
	}
	return &ending{event: EventRelease, cause: CauseAmbiguous}
}

func (e *ending) result() Ending {
	switch e.event {
	case EventComplete:
		return Stored
	case EventHold:
		return Held
	default:
		return Released
	}
}

// keep is the ending with bytes of its own, fit to outlive the request.
func (e *ending) keep() *ending {
	if e.response != nil {
		e.response = e.response.Clone()
	}
	return e
}

func (e *ending) size() int64 {
	const overhead = 512
	if e.response == nil {
		return overhead
	}
	return overhead + int64(e.response.Size())
}

// settle asks the store once and reports what became of it, unless it could not
// be asked.
func (e *Engine) settle(end *ending) error {
	a, ctx, sent := end.attempt, context.Background(), time.Now()
	var err error
	switch end.event {
	case EventComplete:
		err = e.store.Complete(ctx, a.lease, end.response)
	case EventHold:
		err = e.store.Hold(ctx, a.lease)
	default:
		err = e.store.Release(ctx, a.lease)
	}
	e.trace.storeCall(end.event, sent, err)
	switch {
	case err == nil:
		e.waiters.notify(a.lease.Key.ID())
		e.ended(end)
	case isLost(err) && e.watchdog.giveUpEnded(a):
		e.trace.leaseLost(a, end.event)
	}
	return err
}

func (e *Engine) ended(end *ending) {
	if end.orphan {
		return
	}
	key := end.attempt.lease.Key
	switch end.event {
	case EventComplete:
		if e.trace.Stored != nil {
			e.trace.Stored(key, end.response.Size())
		}
	case EventHold:
		if e.trace.Held != nil {
			e.trace.Held(key)
		}
	default:
		if e.trace.Released != nil {
			e.trace.Released(key, end.cause)
		}
	}
}

func (e *Engine) dropped(end *ending, err error) {
	if e.trace.Dropped != nil && !end.orphan {
		e.trace.Dropped(end.attempt.lease.Key, end.event, err)
	}
}

func isLost(err error) bool { return errors.Is(err, ErrLeaseLost) }
