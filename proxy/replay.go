package proxy

import (
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

// answerStanding answers from what was there before the request.
func (s *Server) answerStanding(q *request, was *standing) {
	q.report.Attempt = was.Attempt
	switch was.Kind {
	case idem.VerdictCompleted:
		s.answerStored(q, &was.Outcome)
	case idem.VerdictInProgress:
		if q.background != nil && was.key == q.key { // its first answer may have got lost
			s.answerAccepted(q, was.Attempt, was.Recipe)
			return
		}
		switch {
		case !s.canJoin(q, was.key):
		case s.join(q, q.tape):
			return
		case q.tape.isOver(): // since it was found: the store knows what came of it
			q.tape = nil
			s.answer(q)
			return
		}
		s.fail(q, &problemInProgress, nil)
	case idem.VerdictMismatch:
		q.report.Differs = was.Part
		s.fail(q, mismatchProblem(was.Part), nil)
	case idem.VerdictExpired:
		s.fail(q, &problemExpired, nil)
	case idem.VerdictUnknown:
		s.fail(q, q.unknownProblem(), q.report.Err) // of who was asked
	default: // nothing that an acquire answers; refuse
		s.fail(q, q.rules.storeProblem(), nil)
	}
}

// answerStored replays.
func (s *Server) answerStored(q *request, out *idem.Outcome) {
	response := out.Response
	if response.BodyOmitted {
		s.fail(q, &problemNotReplayable, nil)
		return
	}
	header, body := q.rules.ownShares(response.Header), response.Body
	if coding := message.ContentCoding(header); coding != nil && !q.ctx.IsHead() && !q.head.Accepts(coding) {
		var ok bool
		if header, body, ok = message.Decode(header, body, coding, s.admission.room()); !ok {
			s.fail(q, &problemEncoding, nil)
			return
		}
		q.Hold(len(body))
	} else if !out.Local { // in this process's memory it is there once for all
		q.Hold(len(body))
	}
	body = q.withoutSeen(header, body)
	if err := message.ReplayFrom(s.headsFor(q), &q.ctx.Response, response.Status, header, body, q.ctx.IsHead()); err != nil {
		s.fail(q, q.rules.inStoreStatus(problemUnreadable), err)
		return
	}
	q.mark()
	q.report.Outcome, q.report.Status = ReplayedStore, response.Status
	if out.Local {
		q.report.Outcome = ReplayedLocal
	}
	s.heldUntilSent(q)
}

// headsFor are the headers that the server has parsed. Only responses that are as
// fasthttp's server handed them over share them. One that is made in the background, or
// that was used for another attempt, is parsed: should it ever have other settings, they
// must not reach the responses of others.
func (s *Server) headsFor(q *request) *message.Heads {
	if q.background != nil || q.voided > 0 {
		return nil
	}
	return &s.heads
}

// ownShares leaves out what a response, recorded by other settings, says of origins.
func (r *Rules) ownShares(all []idem.Field) []idem.Field {
	isShared := func(f idem.Field) bool { return isShare(f.Name) }
	if r.sharing == nil || !slices.ContainsFunc(all, isShared) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), isShared)
}

// appendFields appends the fields of a cleaned response that a replay repeats:
// all but the framing, which is made anew, and those that the operator excluded.
// A response to HEAD, and a 304, have no body to count, so there Content-Length is
// kept (RFC 9110 section 8.6).
func (r *Rules) appendFields(dst []idem.Field, resp *fasthttp.Response) []idem.Field {
	framed := !resp.SkipBody && resp.StatusCode() != fasthttp.StatusNotModified
	for name, value := range resp.Header.All() {
		if framed && message.EqualFold(name, "Content-Length") || r.notReplayed(name) || message.IsHopByHop(name) {
			continue
		}
		dst = append(dst, idem.Field{Name: name, Value: value})
	}
	return dst
}

func (r *Rules) notReplayed(name []byte) bool {
	for _, n := range r.NotReplayed {
		if message.EqualFold(name, n) {
			return true
		}
	}
	return false
}
