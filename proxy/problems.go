package proxy

import (
	"errors"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/upstream"
)

// Which problem an error is.

// keyProblem is the answer to an error of identify.
func keyProblem(err error) *problem {
	for _, known := range []struct {
		err error
		is  *problem
	}{
		{errKeyMissing, &problemKeyMissing},
		{errCallerUnknown, &problemCallerUnknown},
		{idem.ErrKeyFormat, &problemKeyFormat},
		{caller.ErrToken, &problemToken},
		{caller.ErrScopeAbsent, &problemScope},
		{caller.ErrScopeChars, &problemScope},
		{caller.ErrScopeLong, &problemScope},
		{caller.ErrScopeTwice, &problemScope},
	} {
		if errors.Is(err, known.err) {
			return known.is
		}
	}
	if p := sourceProblem(err); p != nil {
		return p
	}
	return &problemKeyInvalid
}

// framingProblem is the answer to an error of message.Sound.
func framingProblem(err error) *problem {
	if errors.Is(err, message.ErrVersion) {
		return &problemVersion
	}
	return &problemRequestInvalid
}

// mismatchProblem says which part differs.
func mismatchProblem(part idem.Part) *problem {
	if part == idem.PartIdentity {
		return &problemMismatchIdentity
	}
	return &problemMismatchPayload
}

// beginProblem is why a request is refused whose key could be neither acquired nor
// compared with what stands. unread: how that was made could not be looked up now.
func (r *Rules) beginProblem(err error, unread bool) *problem {
	switch {
	case errors.Is(err, idem.ErrRecipe) && !unread:
		return r.inStoreStatus(problemRecipe)
	case cannotBeRead(err):
		return r.inStoreStatus(problemUnreadable)
	}
	return r.storeProblem()
}

// cannotBeRead says that the next try will meet the same record, which cannot be read. One of a
// later release's layout may come to a proxy that can.
func cannotBeRead(err error) bool {
	return (errors.Is(err, idem.ErrUnopened) || errors.Is(err, idem.ErrCorrupt)) && !errors.Is(err, idem.ErrVersion)
}

// inStoreStatus is p in the status that failures of the store have.
func (r *Rules) inStoreStatus(p problem) *problem {
	p.status = r.FailStatus
	return &p
}

func (r *Rules) confirmProblem(err error) *problem {
	if errors.Is(err, idem.ErrLeaseLost) {
		return &problemLeaseLost
	}
	return r.storeProblem()
}

// storeProblem is how a request is refused that could not be made safe.
func (r *Rules) storeProblem() *problem {
	p := problemStore
	p.status = r.FailStatus
	if p.status == fasthttp.StatusServiceUnavailable {
		p.retryAfter = "1"
	}
	return &p
}

// duplicateProblem is why a request is refused after its payload was looked up,
// nil if it is not.
func (r *Rules) duplicateProblem(duplicate bool, err error) *problem {
	switch {
	case err != nil:
		return r.storeProblem()
	case duplicate && r.RejectDuplicates:
		return &problemDuplicate
	}
	return nil
}

// exchangeProblem is the answer to an exchange that failed; held says that the
// key was left unknown.
func exchangeProblem(e *upstream.Exchange, held bool) *problem {
	switch {
	case errors.Is(e.Err, upstream.ErrClientBody):
		return bodyProblem(e.Err)
	case errors.Is(e.Err, upstream.ErrClientGone):
		return &problemClientGone
	case errors.Is(e.Err, upstream.ErrHeaderTooLarge):
		return &problemHeaderTooLarge
	case errors.Is(e.Err, upstream.ErrNoConn), errors.Is(e.Err, upstream.ErrQueueFull):
		return &problemBusy
	case e.Sent == idem.NothingSent:
		return &problemUnreachable
	case held:
		return ofExchange(problemHeld, e)
	case e.Timeout:
		return &problemTimeout
	}
	return &problemCut
}

// keyedProblem is exchangeProblem for a request that had its key: one that is held is
// worth a retry where a resolver is asked.
func (r *Rules) keyedProblem(e *upstream.Exchange) *problem {
	p := exchangeProblem(e, r.Policy.OnAmbiguous == idem.AmbiguousHold)
	if p.name == problemHeld.name && r.Resolver != nil {
		return ofExchange(problemResolvable, e)
	}
	return p
}

// unknownProblem is the answer while nobody knows what became of the key. Who was asked
// may know it by the next retry, but for a resolver that cannot be told of the key.
func (q *request) unknownProblem() *problem {
	var p problem
	switch {
	case q.report.Settlement == SettledNotYet:
		p = problemUnsettled
	case q.rules.Resolver != nil && !errors.Is(q.report.Err, errScopeField):
		p = problemResolvable
	default:
		return &problemUnknown
	}
	p.outcome, p.status = Unknown, fasthttp.StatusConflict
	return &p
}

// unguardedProblem is exchangeProblem for a request that was forwarded without a lease: if
// it may have been executed, nothing keeps the next one from being executed.
func (q *request) unguardedProblem(e *upstream.Exchange) *problem {
	p := exchangeProblem(e, false)
	if p == &problemCut || p == &problemTimeout {
		return ofExchange(problemCutNoKey, e)
	}
	return p
}

// ofExchange is a problem that has the status and outcome of how an exchange failed.
func ofExchange(p problem, e *upstream.Exchange) *problem {
	if e.Timeout {
		p.outcome, p.status = BackendTimeout, fasthttp.StatusGatewayTimeout
	}
	return &p
}

// bodyProblem is the answer to a body that the client broke off, or was too slow
// with.
func bodyProblem(err error) *problem {
	if isTimeout(err) {
		return &problemSlow
	}
	return &problemBodyBroken
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
