package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/valyala/bytebufferpool"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/upstream"
)

// keyed is the product: a request with a key is forwarded once, and answered
// from the record ever after.
func (s *Server) keyed(q *request) {
	var begun time.Time
	if q.async {
		begun = time.Now()
	}
	body := bytebufferpool.Get()
	defer q.doneWith(body)
	// First, so that a client that leaves while sending leaves nothing behind.
	if p, err := s.readBody(q, body, q.rules.MaxRequestBody); p != nil {
		s.fail(q, p, err)
		return
	}
	if q.async {
		s.answerAsync(q, begun)
		return
	}
	s.answer(q)
	if q.derived {
		q.ctx.Response.Header.Set(headerDerived, "true")
	}
}

// answer answers a request whose body has been read, from the record or by forwarding
// it.
func (s *Server) answer(q *request) {
	ask := q.ask()
	was, held, err := s.begin(q, ask)
	switch {
	case err != nil && q.rules.FailOpen && errors.Is(err, idem.ErrUnavailable):
		s.failOpen(q, err)
	case err != nil:
		s.fail(q, q.rules.beginProblem(err, q.unread), err)
	case held.first == nil: // the key was there before
		s.answerStanding(q, &was)
	default:
		s.once(q, &ask, &held)
	}
}

// once forwards under the lease, unless something speaks against it at the last
// moment. Whatever happens, the attempt ends.
func (s *Server) once(q *request, ask *idem.Request, held *attempts) {
	duplicate, err := s.isDuplicate(q, ask, held)
	if p := q.rules.duplicateProblem(duplicate, err); p != nil {
		q.report.Ending = held.finish(idem.NothingSent, nil)
		s.fail(q, p, err)
		return
	}
	// Last: nothing may take time between this and sending.
	if err := held.confirm(context.Background()); err != nil {
		q.report.Ending = held.finish(idem.NothingSent, nil)
		s.fail(q, q.rules.confirmProblem(err), err)
		return
	}
	failpoint.Reach("confirmed")
	if q.background != nil && held.key() == q.key { // else it would ask about another operation: see followed
		q.background.accept(held.number(), held.recipe)
	}
	s.execute(q, held)
	if duplicate {
		q.ctx.Response.Header.Set(headerDuplicate, "true")
	}
}

// execute forwards, records what came of it, and answers.
func (s *Server) execute(q *request, held *attempts) {
	resp := &q.ctx.Response
	out := s.outgoing(q, held, false)
	sent := time.Now()
	e := q.rules.upstream.Do(out, resp, upstream.Want{
		Buffer: q.rules.buffer(), Timeout: q.rules.BackendTimeout, Memory: q, Room: room,
	})
	q.unsent = e.Unsent()
	failpoint.Reach("backend-answered")
	var outcome string
	q.report.Err = nil // an attempt that was voided may have left one
	if e.Err == nil {
		outcome, q.report.Err = q.rules.said(&resp.Header)
		q.report.Err = errors.Join(q.report.Err, overrule(held, &resp.Header, q.derived))
	}
	doubt := q.rules.inDoubt(&e, resp.StatusCode(), outcome)
	q.report.NoReceipt = e.Err == nil && !doubt && q.rules.noReceipt(&q.head, resp.StatusCode(), outcome)
	e.Clean(resp, false, q.rules.unshared())
	passed := e.Rest != nil && !doubt && q.rules.streams(q, e.Rest, resp.StatusCode()) && s.record(q, held, &e) ||
		e.Rest != nil && !s.readRest(q, held, &e, doubt)
	q.report.Backend = time.Since(sent)
	switch {
	case passed:
	case doubt || q.rules.inDoubt(&e, resp.StatusCode(), ""): // known at once, or since the rest of the response broke off
		s.settle(q, held, &e, outcome)
	case errors.Is(e.Err, upstream.ErrHeaderTooLarge): // executed, and there is nothing to keep of the answer
		q.report.Ending = held.finish(idem.Answered, &idem.Response{Status: resp.StatusCode(), BodyOmitted: true})
		s.fail(q, &problemHeaderTooLarge, e.Err)
	case e.Err != nil:
		q.report.Ending = held.finish(e.Sent, nil)
		s.fail(q, q.rules.keyedProblem(&e), e.Err)
	default:
		q.kept = idem.Response{
			Status: resp.StatusCode(), Header: q.rules.appendFields(q.kept.Header[:0], resp),
			Body: resp.Body(), Redirect: q.redirect(resp),
		}
		q.report.Ending = held.finish(idem.Answered, &q.kept)
		q.report.Outcome, q.report.Status = Executed, resp.StatusCode()
		q.promise(held)
		s.heldUntilSent(q)
	}
}

// ask is what the engine is asked, once the body has been read.
func (q *request) ask() idem.Request {
	r := idem.Request{Key: q.key, Policy: &q.rules.Policy, Recipe: q.rules.recipe.ID, Under: q.under, Asker: q}
	by := q.hashes()
	r.Fingerprint, r.Binding, r.Hints = by.Fingerprint, by.Binding, by.Hints
	q.said = tapeAsked{fingerprint: by.Fingerprint, binding: by.Binding, recipe: r.Recipe}
	q.holdUndone()
	if q.derived {
		r.Key, r.Policy = operation.DerivedKey(&r), &q.rules.derived
		q.key, q.report.Keyed, q.report.Key = r.Key, true, r.Key
	}
	return r
}
