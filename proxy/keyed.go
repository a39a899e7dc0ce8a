package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/valyala/bytebufferpool"
	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// keyed is the product: a request with a key is forwarded once, and answered
// from the record ever after.
func (s *Server) keyed(ctx *fasthttp.RequestCtx, id *identity, r *Request) {
	body := bytebufferpool.Get()
	defer bytebufferpool.Put(body)
	s.holds(id, expected(&ctx.Request.Header, id.rules.MaxRequestBody))
	if p, err := readBody(ctx, body, id.rules.MaxRequestBody); p != nil {
		s.fail(ctx, p, &id.key, r, err)
		return
	}
	s.holds(id, body.Len()-int(id.buffered))
	id.asked.body = body.B
	request := idem.Request{Key: id.key, Policy: &id.rules.Policy, Recipe: id.rules.recipe.id, Under: id.buffers.under}
	request.Fingerprint, request.Binding = id.hashes()
	if id.derived {
		id.derive(&request)
		r.Key = id.key
		defer ctx.Response.Header.Set(headerDerived, "true")
	}
	was, held, err := s.begin(request, id, r)
	r.Attempt = was.Attempt
	switch {
	case err != nil && id.rules.FailOpen && errors.Is(err, idem.ErrUnavailable):
		s.failOpen(ctx, id, r, err)
		return
	case err != nil:
		s.fail(ctx, id.rules.beginProblem(err), &id.key, r, err)
		return
	case held.first == nil:
		s.answerStanding(ctx, &was.Outcome, id, r)
		return
	}
	r.Attempt = held.number()
	if id.rules.DuplicateWindow > 0 && !id.derived && id.known() {
		duplicate, err := s.isDuplicate(&request, id.rules, &held)
		if p := id.rules.duplicateProblem(duplicate, err); p != nil {
			r.Ending = held.finish(idem.NothingSent, nil)
			s.fail(ctx, p, &id.key, r, err)
			return
		}
		if duplicate {
			defer ctx.Response.Header.Set(headerDuplicate, "true")
		}
	}
	// Last: nothing may take time between this and sending.
	if err := held.confirm(context.Background()); err != nil {
		r.Ending = held.finish(idem.NothingSent, nil)
		s.fail(ctx, id.rules.confirmProblem(err), &id.key, r, err)
		return
	}
	s.execute(ctx, &held, id, r)
}

// holds counts what a request has in memory until it is answered.
func (s *Server) holds(id *identity, n int) {
	id.buffered += int64(n)
	s.admission.hold(int64(n))
}

// expected is how much a request's body may take up to limit: it is counted
// before it arrives, since a slow one stays for long.
func expected(h *fasthttp.RequestHeader, limit int) int {
	if n := h.ContentLength(); n >= 0 {
		return min(n, limit)
	} else if n == -1 { // chunked
		return limit
	}
	return 0
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

// execute forwards under the lease, records what came of it, and answers.
func (s *Server) execute(ctx *fasthttp.RequestCtx, held *attempts, id *identity, r *Request) {
	id.attempt = held.number()
	out := s.outgoing(ctx, id, r)
	sent := time.Now()
	e := id.rules.upstream.do(out, &ctx.Response, want{buffer: id.rules.MaxResponseBody, timeout: id.rules.BackendTimeout})
	fasthttp.ReleaseRequest(out)
	if e.err == nil {
		r.Err = overrule(held, &ctx.Response.Header, id.derived)
	}
	e.clean(&ctx.Response, false)
	if e.rest != nil && !readRest(ctx, &e, id.rules.MaxResponseBody) {
		r.Backend = time.Since(sent)
		s.streamLarge(ctx, held, &e, id, r)
		return
	}
	r.Backend = time.Since(sent)
	if e.err != nil {
		r.Ending = held.finish(e.sent, nil)
		s.fail(ctx, exchangeProblem(&e, id.rules.Policy.OnAmbiguous == idem.AmbiguousHold), &id.key, r, e.err)
		return
	}
	s.holds(id, len(ctx.Response.Body()))
	var fields [24]idem.Field
	r.Ending = held.finish(idem.Answered, &idem.Response{
		Status: ctx.Response.StatusCode(), Header: id.rules.appendFields(fields[:0], &ctx.Response),
		Body: ctx.Response.Body(), Redirect: id.redirectOf(&ctx.Response.Header),
	})
	r.Outcome, r.Status = Executed, ctx.Response.StatusCode()
}

// answerStanding answers from what was there before the request.
func (s *Server) answerStanding(ctx *fasthttp.RequestCtx, out *idem.Outcome, id *identity, r *Request) {
	switch out.Kind {
	case idem.VerdictCompleted:
		if out.Response.BodyOmitted {
			s.fail(ctx, &problemNotReplayable, &id.key, r, nil)
			return
		}
		response := out.Response
		if coding := contentEncoding(response); coding != nil && !ctx.IsHead() && !accepts(&ctx.Request.Header, coding) {
			var ok bool
			if response, ok = decoded(response, coding); !ok {
				s.fail(ctx, &problemEncoding, &id.key, r, nil)
				return
			}
		}
		if err := s.replay(ctx, response); err != nil {
			s.fail(ctx, id.rules.storeProblem(), &id.key, r, err)
			return
		}
		r.Outcome, r.Status = ReplayedStore, out.Response.Status
		if out.Local {
			r.Outcome = ReplayedLocal
		}
	case idem.VerdictInProgress:
		s.fail(ctx, &problemInProgress, &id.key, r, nil)
	case idem.VerdictMismatch:
		s.fail(ctx, mismatchProblem(out.Part), &id.key, r, nil)
	case idem.VerdictExpired:
		s.fail(ctx, &problemExpired, &id.key, r, nil)
	case idem.VerdictUnknown:
		s.fail(ctx, &problemUnknown, &id.key, r, r.Err) // of the resolver
	default: // nothing that an acquire answers; refuse
		s.fail(ctx, id.rules.storeProblem(), &id.key, r, nil)
	}
}

// readBody reads the request's body whole: nothing is acquired before it has
// arrived, so a client that leaves while sending leaves nothing behind.
func readBody(ctx *fasthttp.RequestCtx, body *bytebufferpool.ByteBuffer, limit int) (*problem, error) {
	stream := ctx.RequestBodyStream()
	if stream == nil {
		return nil, nil //nolint:nilnil // no problem
	}
	if length := ctx.Request.Header.ContentLength(); length > limit {
		if length <= maxDiscard {
			discard(stream)
		}
		return &problemBodyTooLarge, nil
	}
	n, err := body.ReadFrom(io.LimitReader(stream, int64(limit)+1))
	switch {
	case err != nil:
		return &problemBodyBroken, fmt.Errorf("reading the request body: %w", err)
	case n > int64(limit):
		discard(stream)
		return &problemBodyTooLarge, nil
	case ctx.Request.Header.ContentLength() >= 0 && n < int64(ctx.Request.Header.ContentLength()):
		return &problemBodyBroken, io.ErrUnexpectedEOF
	}
	ctx.Request.SetBodyRaw(body.B)
	return nil, nil //nolint:nilnil // no problem
}

// discard reads what a client goes on sending before it is refused: most clients
// send all before they listen, and would see a broken connection instead of the
// answer. What is longer than maxDiscard does.
func discard(stream io.Reader) { _, _ = io.CopyN(io.Discard, stream, maxDiscard) }

const maxDiscard = 8 << 20

// readRest reads a response of unknown length into memory and reports whether it
// fitted (or failed, which the exchange then says).
func readRest(ctx *fasthttp.RequestCtx, e *exchange, limit int) bool {
	if e.rest.length > limit {
		return false
	}
	body := bytebufferpool.Get()
	defer bytebufferpool.Put(body)
	_, err := body.ReadFrom(io.LimitReader(e.rest, int64(limit)+1))
	switch {
	case err != nil:
		e.rest.end(false)
		e.rest = nil
		e.fail(idem.MayHaveExecuted, err)
		return true
	case body.Len() > limit:
		e.prefix = append([]byte(nil), body.B...)
		return false
	}
	e.rest.end(true)
	e.rest = nil
	ctx.Response.SetBody(body.B)
	return true
}

// streamLarge answers with a response that is too large to keep.
func (s *Server) streamLarge(
	ctx *fasthttp.RequestCtx, held *attempts, e *exchange, id *identity, r *Request,
) {
	kept := &idem.Response{
		Status: ctx.Response.StatusCode(), Header: id.rules.appendFields(nil, &ctx.Response), BodyOmitted: true,
		Redirect: id.redirectOf(&ctx.Response.Header),
	}
	s.watchCut(e.rest, held.key())
	ctx.Response.SetBodyStream(&keyedStream{
		responseStream: e.rest, prefix: e.prefix, held: *held, response: kept.Clone(),
	}, max(e.rest.length, -1))
	r.Outcome, r.Status = Executed, kept.Status
}

// beginProblem is why a request is refused whose key could be neither acquired nor
// compared with what stands.
func (r *Rules) beginProblem(err error) *problem {
	p := r.storeProblem()
	if errors.Is(err, idem.ErrRecipe) {
		status := p.status
		*p = problemRecipe
		p.status = status
	}
	return p
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

// failOpen forwards without a lease, as the operator chose for the route, and
// says so to client, log and metrics.
func (s *Server) failOpen(ctx *fasthttp.RequestCtx, id *identity, r *Request, why error) {
	s.passThrough(ctx, id, r)
	if r.Outcome == Passed {
		r.Outcome, r.Err = FailedOpen, why
		ctx.Response.Header.Set(headerUnprotected, "true")
	}
}
