package proxy

import (
	"net"
	"net/netip"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/upstream"
)

// Outcome is how a request was dealt with.
type Outcome uint8

// The outcomes. Every request has exactly one.
const (
	Passed             Outcome = iota // no key: forwarded as it was
	Executed                          // forwarded under a lease, and answered by the backend
	ReplayedLocal                     // answered from this process's memory
	ReplayedStore                     // answered from the store
	InProgress                        // 409: the first request is still running
	Mismatch                          // 422: another payload or caller
	Unknown                           // 409: may have executed, and is held
	NotReplayable                     // 409: executed, but its response was too large to keep
	Refused                           // 4xx: the request itself is at fault
	StoreFailed                       // 500: the store could not answer; not forwarded
	LeaseLost                         // 409: the lease was lost before forwarding
	BackendUnreachable                // 502: nothing was sent
	BackendBusy                       // 503: no connection was free; nothing was sent
	BackendCut                        // 502: may have executed
	BackendTimeout                    // 504: may have executed
	FailedOpen                        // the store could not answer: forwarded without a lease
	Duplicate                         // 409: the payload came under another key before
	Overloaded                        // 503 or 429: too much under way; nothing was done
	Expired                           // 410: executed, and its response is not kept any more
	Accepted                          // 202: about to be executed, or being so, without its client
	Joined                            // joined a response that is passed on as it comes
	OutcomeAsked                      // what became of a key was asked for, and told
	lastOutcome
)

// Outcomes lists them.
func Outcomes() []Outcome {
	all := make([]Outcome, lastOutcome)
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// String is the outcome's name in logs and metrics.
func (o Outcome) String() string {
	names := [...]string{
		"passed", "executed", "replayed-local", "replayed-store", "in-progress", "mismatch", "unknown",
		"not-replayable", "refused", "store-failed", "lease-lost", "backend-unreachable", "backend-busy",
		"backend-cut", "backend-timeout", "failed-open", "duplicate", "overloaded", "expired", "accepted", "joined", "outcome-asked",
	}
	if int(o) < len(names) {
		return names[o]
	}
	return "invalid"
}

// Means says what an outcome stands for, for documents.
func (o Outcome) Means() string {
	texts := [...]string{
		"the backend's: there was no key, and it was forwarded as it was",
		"the backend's: it was forwarded under a lease; `ending` says what became of its key",
		"a replay, out of this process's memory",
		"a replay, out of the store",
		"`409`: the first request with the key is still running",
		"`422`: the key was used with another request or by another caller; `differs` says what differs",
		"`409`: the first request may have been executed, and the key is held",
		"`409`, `406` or `502`: it was executed, and its response cannot be replayed",
		"`4xx` or `501`: the request itself is at fault, and nothing was forwarded; or `499`: the client left, and the backend " +
			"may have its request",
		"`500` or `503`: the store could not answer; nothing was forwarded",
		"`409`: the lease was lost before anything was forwarded",
		"`502`: nothing was sent to the backend",
		"`503`: no connection to the backend was free; nothing was sent",
		"`502`: the connection broke; it may have been executed",
		"`504`: the backend did not answer in time; it may have been executed",
		"the backend's: the store could not answer, and it was forwarded without protection (`fail_open`)",
		"`409`: the payload came under another key before (`on_duplicate: reject`)",
		"`503` or `429`: too much was under way; nothing was done",
		"`410`: it was executed, and its response is not kept any more",
		"`202`: it is executed in the background (`respond_async`), which has a line of its own: event `async_ended`",
		"the backend's, to the request that is executed with its key: what had come of it, and then the rest (`in_progress: join`)",
		"the state of a key that its client asked about (`outcomes`)",
	}
	if int(o) < len(texts) {
		return texts[o]
	}
	return ""
}

// Report is what a trace is told of one request. Its byte slices belong to the
// request and end with the call.
type Report struct {
	Outcome Outcome
	Status  int
	Route   string // name of the route; empty for the rules at large
	// RequestID is the client's X-Request-Id, or one made here. TraceID is of the
	// client's traceparent, and may be empty.
	RequestID, TraceID []byte
	// Traceparent is the client's, and Span whatever Trace.Forward keeps there.
	Traceparent []byte
	Span        any
	Method      []byte
	Path        []byte   // without its query, which may hold secrets
	Remote      net.Addr // who connected
	// Client is where the request came from, if that was somebody else and a
	// trusted proxy says so.
	Client  netip.Addr
	Keyed   bool
	Key     idem.Key
	Attempt uint32
	Ending  idem.Ending // Executed and the backend's failures, if Keyed
	// Settlement is what the backend said of an attempt that was in doubt.
	Settlement Settlement
	// NoReceipt: the route says settle, and the backend has not said that it keeps a
	// receipt of this response.
	NoReceipt bool
	Err       error // what went wrong, if anything did
	// Waited is the part spent waiting for a key in progress.
	Waited time.Duration
	// Duration is from the parsed header to the answer's hand-over; Backend is
	// the part spent forwarding, and Store the part in which the store was asked before
	// and after that.
	Duration, Backend, Store time.Duration
	// Differs is what a mismatch is about, one that would have been one included.
	Differs idem.Part
	// Would is what would have become of a request that was only observed: see
	// Rules.Observe. Its Outcome is Passed, or how forwarding it failed; it is not Keyed,
	// though Key is that of its record. WouldEnd is how its attempt would have ended, if that is known yet.
	Would    Would
	WouldEnd idem.Ending
}

// Trace is told what happens. Every field may be nil.
type Trace struct {
	// Done is called when a request's outcome is settled, before its answer is
	// written.
	Done func(*Report)
	// Ended is called when a request has been executed whose client was answered before
	// (Accepted), with what its Report would have been. Done was told of the answer, under
	// the same RequestID.
	Ended func(*Report)
	// Streamed is called when a response has ended that was passed on as it came, while it
	// was recorded. Done was told of its request before.
	Streamed func(*StreamReport)
	// Forward is called before a request is forwarded. What it returns, if that is
	// not empty, is the traceparent that the backend gets.
	Forward func(*Report) string
	// WouldHold is called when a request that was only observed would have left its key
	// with an unknown outcome. The route's name is the caller's to keep.
	WouldHold func(route string)
	// Resolved is called when a Resolver or Receipts ended an unknown key: with a
	// response, or not executed, so that it is free.
	Resolved func(key idem.Key, executed bool)
	// Unsettled is called with 1 when an attempt in doubt is left to be settled in the
	// background, and with -1 when nothing is left to do about it.
	Unsettled func(delta int)
	// SettlerFull is called when this process knows of as many attempts in doubt as it can,
	// and again when there is room.
	SettlerFull func(full bool)
	// Left is called when attempts in doubt stay held in the store and this process does
	// not ask about them: one that it could not know of besides the others, or all that
	// are open when the server ends. A look through the store finds them again.
	Left func(n int, atEnd bool)
	// Asked is called when an endpoint for receipts was asked to void an attempt: with an
	// error if it did not say what became of it. before is how it did until then. news: it
	// answers after errors, or this is the first error of its kind since it last answered.
	Asked func(before *EndpointStatus, err error, news bool)
	// Looked is called after a look through the store for what is in doubt, which found so
	// many. turned: the look before ended the other way, or this is the first error.
	Looked func(found int, took time.Duration, err error, turned bool)
	// Cut is called when a response that is passed on as it comes breaks off on
	// the backend's side, after Done, which was told of the request by the same
	// requestID. Its key is zero if it had none.
	Cut func(requestID string, key idem.Key, err error)
	// TurnedAway is called when a connection is closed since there are too many: why is
	// TooManyClients or TooManyOfAnAddress. id is that of the answer; empty if there was
	// none.
	TurnedAway func(why string, peer net.Addr, id []byte)
	// BackendDown is called when a backend is left out, BackendUp when it is let
	// in again, BackendGone when it is not among an upstream's backends any more.
	BackendDown func(upstream, backend string, why error)
	BackendUp   func(upstream, backend string)
	BackendGone func(upstream, backend string)
	// ResolveFailed is called when a backend's name could not be looked up; its
	// addresses stay.
	ResolveFailed func(upstream, backend string, err error)
}

// backends is the part of it that upstreams tell.
func (t *Trace) backends() *upstream.Trace {
	return &upstream.Trace{Down: t.BackendDown, Up: t.BackendUp, Gone: t.BackendGone, ResolveFailed: t.ResolveFailed}
}
