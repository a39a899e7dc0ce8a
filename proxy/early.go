package proxy

import (
	"errors"
	"io"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

// Answers that are given before a request has arrived.

// handleExpect decides about a body before its client sends it (RFC 9110 section
// 10.1.1): whoever is refused by the header alone is told so at once, and is not
// asked for the body first.
func (s *Server) handleExpect(ctx *fasthttp.RequestCtx) (status int) {
	start := time.Now()
	q := s.receive(ctx)
	if s.enter(q) {
		refused := s.settled(q) || s.tooMuch(q)
		s.admission.leave()
		if !refused {
			q.release()
			return fasthttp.StatusContinue
		}
	}
	s.conclude(q, start)
	return ctx.Response.StatusCode()
}

// tooMuch refuses a request that may not be as large as it says, or that has others
// beside it which are as many as may be.
func (s *Server) tooMuch(q *request) bool {
	if (q.keyed || q.derived || q.sought) && q.ctx.Request.Header.ContentLength() > q.rules.MaxRequestBody {
		s.fail(q, &problemBodyTooLarge, nil)
		return true
	}
	leave, refusal := s.crowded(q)
	if refusal != nil {
		s.fail(q, refusal, nil)
		return true
	}
	if leave != nil {
		leave()
	}
	return false
}

// handleError answers what fasthttp could not read as a request.
func (s *Server) handleError(ctx *fasthttp.RequestCtx, err error) {
	p := problemRequestInvalid
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF): // after the header, or nobody would listen
		p = problemBodyBroken
	case errors.As(err, &small):
		p = problemRequestHeader
	case isTimeout(err):
		p = problemSlow
	}
	reason, id := reasonOf(err), []byte(nil)
	if c, ok := ctx.Conn().(lookedAt); ok {
		if fault := c.fault(); fault != nil {
			err = fault
			reason = err.Error()
		}
		id = c.requestID(ctx.ConnRequestNum() + 1) // which counts those that were handled
	}
	if len(id) == 0 {
		id = idOf(&ctx.Request.Header)
	}
	if len(id) == 0 {
		id = new(message.RequestID).New()
	}
	if plain := plainBelow(err); plain != nil {
		s.answerPlain(plain, id)
		err = errPlain
	} else {
		writeProblem(ctx, &p, instance{reason: reason})
		message.NameResponse(&ctx.Response.Header, id)
		switch { // the library's words, and what it would have us set, are not for operators
		case small != nil:
			err = errHeaderTooLarge
		case reason != "":
			err = errors.New(reason)
		}
	}
	if s.config.Trace.Done != nil {
		s.config.Trace.Done(&Report{
			Outcome: Refused, Status: p.status, Err: message.Unquoted(err), Remote: ctx.RemoteAddr(), RequestID: id,
		})
	}
}

// lookedAt is a connection whose requests were looked at as they came: see strictConn.
type lookedAt interface {
	fault() error
	requestID(n uint64) []byte
}

// idOf is the X-Request-Id of a header that is not read any further; nil for none that
// can be repeated.
func idOf(h *fasthttp.RequestHeader) []byte {
	id := message.RequestValue(h, message.HeaderRequestID)
	if !message.IsShortID(id) {
		return nil
	}
	return id
}
