package idem

import "time"

// ReleaseCause says why a key was freed without a response.
type ReleaseCause uint8

// Why a key was freed.
const (
	CauseNothingSent ReleaseCause = iota // the backend never saw the request
	CauseTryAgain                        // the backend said that it did nothing
	CauseAmbiguous                       // it may have executed; policy says release
	CauseNotKept                         // it executed; the backend said not to keep its response
	CauseVoided                          // the backend has voided the attempt: it was not executed
	lastCause
)

// ReleaseCauses lists them.
func ReleaseCauses() []ReleaseCause {
	all := make([]ReleaseCause, lastCause)
	for i := range all {
		all[i] = ReleaseCause(i)
	}
	return all
}

// String is the cause's name in logs and metrics.
func (c ReleaseCause) String() string {
	switch c {
	case CauseNothingSent:
		return "nothing-sent"
	case CauseTryAgain:
		return "try-again"
	case CauseAmbiguous:
		return "ambiguous"
	case CauseNotKept:
		return "not-kept"
	case CauseVoided:
		return "voided"
	case lastCause:
	}
	return "invalid"
}

// Trace is how the domain tells the outside what happens, in the manner of
// httptrace.ClientTrace: every field may be nil. The funcs are called from many
// goroutines, on the path of requests, and must be quick.
type Trace struct {
	// StoreCall is called after each store operation. A renewal batch is one
	// call. d includes waiting for the store's answer.
	StoreCall func(op Event, d time.Duration, err error)
	// Acquired is called with every outcome of an acquire.
	Acquired func(k Key, o Outcome)
	// LeaseStarted and LeaseEnded bracket the time a lease is in flight here.
	LeaseStarted func()
	LeaseEnded   func()
	// Waiting is called with 1 when a request begins to wait for a key in
	// progress, and with -1 when it ends.
	Waiting func(delta int)
	// Renewed is called with the number of leases that a burst renewed.
	Renewed func(n int)
	// LeaseLost is called when the store says that the lease is not ours (any
	// more); at is what was being asked of it.
	LeaseLost func(k Key, attempt uint32, at Event)
	// Stored is called when a response is in the store.
	Stored func(k Key, bytes int)
	// Released is called when a key was freed.
	Released func(k Key, cause ReleaseCause)
	// Held is called when a key was left unknown. asked, here and below, is what the
	// request's [Asker] said; nil if there was none.
	Held func(k Key, asked any)
	// Deferred is called when the store could not take an ending, which is now
	// offered again in the background; Recorded when the store has taken it, or has said
	// that the lease is lost (Lost); Dropped when it was given up.
	Deferred func(k Key, e Event, asked any)
	Recorded func(k Key, end Ending, asked any)
	Dropped  func(k Key, e Event, err error, asked any)
}

func (t *Trace) storeCall(op Event, since time.Time, err error) {
	if t.StoreCall != nil {
		t.StoreCall(op, time.Since(since), err)
	}
}

func (t *Trace) leaseStarted() {
	if t.LeaseStarted != nil {
		t.LeaseStarted()
	}
}

func (t *Trace) leaseEnded() {
	if t.LeaseEnded != nil {
		t.LeaseEnded()
	}
}

func (t *Trace) waiting(delta int) {
	if t.Waiting != nil {
		t.Waiting(delta)
	}
}

func (t *Trace) renewed(n int) {
	if t.Renewed != nil && n > 0 {
		t.Renewed(n)
	}
}

func (t *Trace) leaseLost(a *Attempt, at Event) {
	if t.LeaseLost != nil {
		t.LeaseLost(a.lease.Key, a.number, at)
	}
}
