package idem

import (
	"context"
	"errors"
	"time"
)

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

// Means says what follows of an ending, for documents.
func (e Ending) Means() string {
	switch e {
	case Stored:
		return "the response is kept: retries get it"
	case Released:
		return "the key is free: a retry executes"
	case Held:
		return "it may have been executed: the key is held, and retries get 409 until it is resolved"
	case Lost:
		return "the lease was somebody else's by then, or the record gone: nothing was written"
	case Deferred:
		return "the store did not answer: it is offered again in the background; the event `ending_recorded` or `ending_dropped` " +
			"says how that ended"
	case Open:
		return "a response that is too large to keep was still being passed on when the line was written; `inspect` says " +
			"how it ended"
	}
	return ""
}

// Finish ends the attempt with what the forward proved and, if it was Answered,
// the response, which the caller must not change until Finish returns. The lease
// stays under the watchdog's guard until the store has taken the ending. Finish
// takes no context: an ending must reach the store even if the client has left.
func (a *Attempt) Finish(sent Sent, r *Response) Ending {
	e := a.engine
	a.end = a.ending(sent, r)
	e.watchdog.finishing(a)
	e.trace.leaseEnded()
	asked, err := e.settle(context.Background(), a)
	if errors.Is(err, ErrUnavailable) {
		a.end.keep()
		a.asked, a.asker = a.about(), nil
		e.watchdog.offer(a, asked)
		return Deferred
	}
	e.watchdog.remove(a)
	switch {
	case err == nil:
		return a.end.result()
	case !isLost(err): // otherwise that was reported, and what stands is another attempt's, or nothing
		e.dropped(a, err)
	}
	return Lost
}

// about is what a trace is told of who asked.
func (a *Attempt) about() any {
	if a.asker != nil {
		return a.asker.Asked()
	}
	return a.asked
}

// ending is what is asked of the store at the end of an attempt.
type ending struct {
	response *Response // of EventComplete
	event    Event
	cause    ReleaseCause // of EventRelease
	// givesBack: the release of a lease that was perhaps never granted. What
	// becomes of it is nobody's news.
	givesBack bool
}

// ending decides: the one place where what happened becomes what is recorded.
func (a *Attempt) ending(sent Sent, r *Response) ending {
	end := a.policy.ending(sent, r)
	if end.event == EventComplete && a.noStore && sent != Receipted {
		return ending{event: EventRelease, cause: CauseNotKept}
	}
	return end
}

// Would says how an attempt would end, if the store took it: for who only observes.
func (p *Policy) Would(sent Sent, r *Response) Ending {
	end := p.ending(sent, r)
	return end.result()
}

func (p *Policy) ending(sent Sent, r *Response) ending {
	switch sent {
	case NothingSent:
		return ending{event: EventRelease, cause: CauseNothingSent}
	case MayHaveExecuted:
		return p.ambiguous()
	case Receipted:
		return ending{event: EventComplete, response: r}
	case Voided:
		return ending{event: EventRelease, cause: CauseVoided}
	case Answered:
	}
	switch p.Statuses.Of(r.Status) {
	case TryAgain:
		return ending{event: EventRelease, cause: CauseTryAgain}
	case Ambiguous:
		return p.ambiguous()
	case Keep:
	}
	return ending{event: EventComplete, response: r}
}

func (p *Policy) ambiguous() ending {
	if p.OnAmbiguous.Holds() {
		return ending{event: EventHold}
	}
	return ending{event: EventRelease, cause: CauseAmbiguous}
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

// keep gives the ending bytes of its own, so that it can outlive the request.
func (e *ending) keep() {
	if e.response != nil {
		e.response = e.response.Clone()
	}
}

// size is about what keeping it costs, its attempt included.
func (e *ending) size() int64 {
	const overhead = 512
	if e.response == nil {
		return overhead
	}
	return overhead + int64(e.response.Size())
}

// settle asks the store once and reports what became of the ending, unless the
// store could not be asked. It returns when it asked.
func (e *Engine) settle(ctx context.Context, a *Attempt) (sent time.Time, err error) {
	sent = time.Now()
	switch a.end.event {
	case EventComplete:
		lease := a.lease
		if a.retention > 0 {
			lease.Retention = a.retention
		}
		err = e.store.Complete(ctx, lease, a.end.response)
	case EventHold:
		err = e.store.Hold(ctx, a.lease)
	default:
		err = e.store.Release(ctx, a.lease)
	}
	e.trace.storeCall(a.end.event, sent, err)
	switch {
	case err == nil:
		e.watchdog.took(sent)
		e.waiters.notify(a.lease.Key.ID())
		e.ended(a)
	case isLost(err) && e.watchdog.giveUpEnded(a):
		e.lost(a, a.end.event)
	}
	return sent, err
}

// lost reports a lease that is not ours any more. Whoever waits here asks the store what stands
// instead: a store tells no process of changes to a record that the process itself has just written
// (Redis: tracking with NOLOOP), so what another one did to it may never have been told.
func (e *Engine) lost(a *Attempt, at Event) {
	e.trace.leaseLost(a, at)
	e.waiters.notify(a.lease.Key.ID())
}

// ended reports an ending that was taken. A release also has its acquires
// released that may still be on their way.
func (e *Engine) ended(a *Attempt) {
	if a.end.givesBack {
		return
	}
	key := a.lease.Key
	switch a.end.event {
	case EventComplete:
		if e.trace.Stored != nil {
			e.trace.Stored(key, a.end.response.Size())
		}
	case EventHold:
		if e.trace.Held != nil {
			e.trace.Held(key, a.about())
		}
	default:
		if e.trace.Released != nil {
			e.trace.Released(key, a.end.cause)
		}
		e.releaseLate(a)
	}
}

// recorded reports what became of an ending that the store could not take at first. If the
// lease was lost meanwhile, nothing was given up: what stands is another attempt's, or nothing.
func (e *Engine) recorded(a *Attempt, err error) {
	if e.trace.Recorded == nil || a.end.givesBack {
		return
	}
	result := a.end.result()
	if err != nil {
		result = Lost
	}
	e.trace.Recorded(a.lease.Key, result, a.about())
}

// dropped reports an ending that was given up.
func (e *Engine) dropped(a *Attempt, err error) {
	if a.end.givesBack {
		return
	}
	e.drops.Add(1)
	if e.trace.Dropped != nil {
		e.trace.Dropped(a.lease.Key, a.end.event, err, a.about())
	}
}

func isLost(err error) bool { return errors.Is(err, ErrLeaseLost) }
