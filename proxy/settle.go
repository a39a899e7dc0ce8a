package proxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/upstream"
)

// An attempt of which nobody knows what became is settled on a route of
// on_ambiguous: settle: the backend voids it, or has a receipt of the operation. Then
// the key is free, or completed with the receipt's response. Until the backend has
// answered, the key is held, and the backend is asked again: see settler.

// Settlement is what asking a backend led to.
type Settlement uint8

// The settlements.
const (
	NotSettled Settlement = iota // nothing was in doubt
	SettledExecuted
	SettledVoided
	SettledNotYet // the backend did not answer in time; it is asked again
	lastSettlement
)

// Settlements lists them, but for NotSettled.
func Settlements() (all []Settlement) {
	for s := SettledExecuted; s < lastSettlement; s++ {
		all = append(all, s)
	}
	return all
}

// String is the name in logs and metrics; empty for NotSettled.
func (s Settlement) String() string {
	switch s {
	case SettledExecuted:
		return outcomeExecuted
	case SettledVoided:
		return outcomeVoided
	case SettledNotYet:
		return "unanswered"
	case NotSettled, lastSettlement:
	}
	return ""
}

// settles says that what is in doubt on this route is settled.
func (r *Rules) settles() bool { return r.Policy.OnAmbiguous == idem.AmbiguousSettle }

// inDoubt says of an exchange that it is to be settled. outcome is what the backend
// said of the attempt, if anything.
func (r *Rules) inDoubt(e *upstream.Exchange, status int, outcome string) bool {
	switch {
	case !r.settles(), errors.Is(e.Err, upstream.ErrHeaderTooLarge):
		return false
	case e.Err != nil:
		return e.Sent == idem.MayHaveExecuted
	case outcome == outcomeVoided, outcome == outcomeUnknown:
		return true
	}
	return r.Policy.Statuses.Of(status) == idem.Ambiguous
}

// noReceipt says of a response that it ends an operation without a receipt, on a route
// where the backend is to keep them: should its connection break the next time, the
// backend would void what it has executed.
func (r *Rules) noReceipt(head *message.Head, status int, outcome string) bool {
	return r.settles() && head.MayChange() && status/100 == 2 && outcome != outcomeExecuted
}

// said is what the backend's own answer says of its attempt. Where nobody could be asked
// about what it leaves open, it does not count.
func (r *Rules) said(h *fasthttp.ResponseHeader) (outcome string, err error) {
	if !r.settles() {
		return "", nil
	}
	return saidOutcome(h)
}

// errAnswered is an answer that leaves open what became of the attempt.
var errAnswered = errors.New("the backend answered")

// unsure is why an attempt is in doubt whose response did not break off.
func unsure(status int, outcome string) error {
	if outcome == "" {
		return fmt.Errorf("%w %d", errAnswered, status)
	}
	return fmt.Errorf("%w %d with %s: %s", errAnswered, status, message.HeaderOutcome, outcome)
}

// settle ends an attempt that is in doubt, and answers the client, which waits for it.
// outcome is what the backend said of the attempt, if anything.
func (s *Server) settle(q *request, held *attempts, e *upstream.Exchange, outcome string) {
	if q.report.Err = errors.Join(q.report.Err, e.Err); q.report.Err == nil { // what its header said before it broke off included
		q.report.Err = unsure(q.ctx.Response.StatusCode(), outcome)
	}
	response, err := s.voidWithin(context.Background(), q.rules, held.key(), held.first.Owner())
	switch {
	case err != nil:
		q.report.Settlement = SettledNotYet
		q.report.Ending = held.finish(idem.MayHaveExecuted, nil)
		s.settler.later(held)
		s.fail(q, ofExchange(problemUnsettled, e), errors.Join(q.report.Err, err))
	case response == nil:
		q.report.Settlement = SettledVoided
		q.report.Ending = held.finish(idem.Voided, nil)
		s.again(q, e)
	default:
		q.report.Settlement = SettledExecuted
		response.Header = q.rules.replayedOnly(response.Header)
		q.report.Ending = held.finish(idem.Receipted, q.rules.kept(response))
		s.answerReceipt(q, response)
	}
}

// kept is what is stored of a receipt's response.
func (r *Rules) kept(response *idem.Response) *idem.Response {
	if len(response.Body) <= r.MaxResponseBody {
		return response
	}
	return &idem.Response{Status: response.Status, Header: response.Header, BodyOmitted: true}
}

// answerReceipt gives the client what the backend meant to.
func (s *Server) answerReceipt(q *request, r *idem.Response) {
	q.Hold(len(r.Body))
	q.emptyResponse()
	if err := message.Restore(&q.ctx.Response, r.Status, r.Header, r.Body, q.ctx.IsHead()); err != nil {
		s.fail(q, q.rules.storeProblem(), fmt.Errorf("the receipt's response: %w", err))
		return
	}
	q.report.Outcome, q.report.Status = Executed, r.Status
	s.heldUntilSent(q)
}

// again forwards a request whose attempt was voided once more, as another attempt, as
// often as the route has it; else it answers that nothing was done.
func (s *Server) again(q *request, e *upstream.Exchange) {
	if q.voided >= q.rules.SettleAttempts {
		s.fail(q, ofExchange(problemVoided, e), q.report.Err)
		return
	}
	q.voided++
	q.emptyResponse()
	s.answer(q)
}

// emptyResponse has the response take another one's header and body. fasthttp's Reset would
// also undo what the server is set to: it would then write a Date of its own in place of the
// backend's, and a Content-Type where the backend sent none. The header is left, since
// whoever reads another one into it replaces all of it.
func (q *request) emptyResponse() {
	resp := &q.ctx.Response
	resp.ResetBody()
	resp.SkipBody, resp.ImmediateHeaderFlush = false, false
}

// isResolved says whether the key, whose outcome is unknown, is worth another acquire
// now: the backend has settled it, or its resolver has said what happened.
func (s *Server) isResolved(q *request, key idem.Key) bool {
	if q.rules.Resolver == nil && !q.live.settles {
		return false
	}
	ctx := context.Background()
	record, err := s.engine.Get(ctx, key)
	switch {
	case errors.Is(err, idem.ErrNotFound), err == nil && record.State != idem.Unknown:
		return true // somebody else was faster
	case err != nil:
		q.report.Err = err
		return false
	}
	var ask asking
	rules := q.live.settling(record.Recipe)
	if rules != nil {
		ask = func(ctx context.Context) (*idem.Response, error) {
			return s.voidWithin(ctx, rules, record.Key, record.Owner)
		}
	} else if q.rules.Resolver != nil {
		ask = func(ctx context.Context) (*idem.Response, error) { return q.rules.Resolver.Ask(ctx, record.Key) }
	}
	if ask == nil {
		return false
	}
	if q.report.Err = s.resolve(ctx, &record, q.rules, ask); q.report.Err != nil && rules != nil {
		q.report.Settlement = SettledNotYet
	}
	return q.report.Err == nil
}

// ErrNoReceipts says that no endpoint that is configured has receipts of that record.
var ErrNoReceipts = errors.New("the backend keeps no receipts of this key")

// Receipt asks the backend whether the operation of a record was executed, for an
// operator to see: the response, or nil if it was not so far. Nothing is changed.
func (s *Server) Receipt(ctx context.Context, r *idem.Record) (*idem.Response, error) {
	rules := s.live.Load().settling(r.Recipe)
	if rules == nil {
		return nil, ErrNoReceipts
	}
	return rules.Receipts.Find(ctx, r.Key, r.Owner)
}

// asking asks the backend what became of an attempt: a response if the operation was
// executed, nil if it was not and never will be.
type asking func(context.Context) (*idem.Response, error)

// resolve ends an unknown record by what the backend says, once for all who ask at a
// time. It returns nil if the key is worth another acquire. What was asked about is that
// attempt: if another one's record stands by now, nothing happens to it.
func (s *Server) resolve(ctx context.Context, record *idem.Record, rules *Rules, ask asking) error {
	id := record.Key.ID()
	_, err, _ := s.resolving.Do(string(id[:])+string(record.Owner[:]), func() (any, error) {
		response, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		if response != nil {
			response.Header = rules.replayedOnly(response.Header)
			response = rules.kept(response)
		}
		err = s.engine.Settle(ctx, record.Key, record.Owner, response)
		if errors.Is(err, idem.ErrLeaseLost) { // somebody else was faster
			return nil, nil //nolint:nilnil // nothing to return
		}
		if err == nil && s.config.Trace.Resolved != nil {
			s.config.Trace.Resolved(record.Key, response != nil)
		}
		return nil, err
	})
	return err //nolint:wrapcheck // as above
}
