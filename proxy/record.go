package proxy

import (
	"errors"
	"io"
	"time"

	"github.com/valyala/bytebufferpool"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/upstream"
)

// StreamReport is what a trace is told of a response that was passed on as it came.
type StreamReport struct {
	RequestID string
	Key       idem.Key
	Attempt   uint32
	Ending    idem.Ending
	Bytes     int  // of its body
	Kept      bool // whether all of it came, and was small enough for that
	Joined    int  // clients besides the first
	Duration  time.Duration
	Err       error // why it broke off
}

// Errors of streams that end before they are complete.
var errDeserted = errors.New("no client has read it for as long as read_on says")

// streams says of a response that it is passed on as it comes: where the route has it, if
// it is of a kind that is kept whatever its body says, and not known to be too large. A
// client of HTTP/1.0 could not tell the end of a body from a cut, and nobody waits for what
// is executed in the background.
func (r *Rules) streams(q *request, rest *upstream.Body, status int) bool {
	return r.Stream && q.background == nil && q.ctx.Request.Header.IsHTTP11() && !q.ctx.IsHead() &&
		rest.Length() <= r.MaxResponseBody && r.Policy.Statuses.Of(status) == idem.Keep
}

// buffer is up to how many bytes of a response are read before it is sent.
func (r *Rules) buffer() int {
	if r.Stream {
		return min(r.StreamAbove, r.MaxResponseBody)
	}
	return r.MaxResponseBody
}

// record passes a response on as it comes, while it is recorded, and reports whether it
// does. A chunked one that has come as a whole already is answered like any other.
func (s *Server) record(q *request, held *attempts, e *upstream.Exchange) bool {
	resp := &q.ctx.Response
	body := bytebufferpool.ByteBuffer{B: resp.SwapBody(nil)[:0]}
	if !e.ReadReady(&body, q.rules.buffer()) {
		if e.Err != nil {
			body.Reset()
		}
		resp.SwapBody(body.B)
		return false
	}
	q.promise(held)
	s.watchCut(q, e.Rest, held.key())
	t := s.tapeOf(q, e.Rest)
	_, _ = t.Write(body.B)
	resp.SwapBody(body.B)                       // which somebody else uses again
	resp.ImmediateHeaderFlush = body.Len() == 0 // else it goes with what there is of the body
	first := t.read(true, nil)
	p := player{
		server: s, tape: t, rest: e.Rest, held: *held, doubt: s.doubtOf(q), begun: time.Now(),
		response: idem.Response{Status: t.status, Header: t.header, Redirect: q.redirect(resp)},
		report:   StreamReport{RequestID: string(q.named()), Key: held.key(), Attempt: held.number()},
	}
	p.held.outlive()
	q.report.Outcome, q.report.Status = Executed, t.status
	s.tapes.enter(p.held.key().ID(), t)
	s.late.Add(1)
	// Not before the client has what there is: a goroutine that is started here would take
	// the processor that is to wake the client. A client that takes nothing holds it up no longer
	// than until the next look at it.
	t.whenIdle(p.play, q.send(first))
	return true
}

// tapeOf is a new one, for a response of which nothing has been sent yet.
func (s *Server) tapeOf(q *request, rest *upstream.Body) *tape {
	resp := &q.ctx.Response
	leash := new(upstream.Leash)
	rest.Hold(leash)
	q.kept.Header = q.rules.appendFields(q.kept.Header[:0], resp)
	t := &tape{
		status: resp.StatusCode(), header: idem.CloneFields(q.kept.Header), length: max(rest.Length(), -1),
		limit: q.rules.MaxResponseBody, readOn: q.rules.ReadOn, deserted: func() { leash.Pull(time.Nanosecond) },
		hold: func(n int) { s.admission.hold(int64(n)) },
	}
	t.asked = q.said
	t.start()
	return t
}

// send has a client read from a tape. It returns who looks after the client.
func (q *request) send(r *tapeReader) *watch {
	w := q.watch(0)
	if w != nil {
		w.whenLeft(r.abandon)
	}
	q.ctx.Response.SetBodyStream(&underWay{ReadCloser: r, watch: w, length: r.length}, r.length)
	return w
}

// player is who writes on a tape.
type player struct {
	server   *Server
	tape     *tape
	rest     *upstream.Body
	held     attempts
	response idem.Response
	doubt    func(*attempts)
	begun    time.Time
	report   StreamReport
}

// play reads the response to its end and ends the attempt, in this order: the store takes
// the response, and only then anybody learns that it is complete. So a client that has a
// whole answer can rely on its replay, as with answers that are sent at once. If the store
// does not answer, the ending waits in the backlog, likewise. One that broke off is
// ambiguous, and its clients are cut off after the attempt has ended, so that a retry meets
// what became of it.
func (p *player) play() {
	s, t := p.server, p.tape
	defer s.late.Done()
	err := p.readAll()
	body, kept := t.kept()
	p.report.Bytes, p.report.Kept, p.report.Err = t.written(), kept && err == nil, err
	if err == nil {
		p.response.Body, p.response.BodyOmitted = body, !kept
		if !kept {
			p.response.Body = nil
		}
		p.report.Ending = p.held.finish(idem.Answered, &p.response)
	} else {
		p.report.Ending = p.held.finish(idem.MayHaveExecuted, nil)
		p.doubt(&p.held)
	}
	s.tapes.leave(p.held.key().ID(), t)
	t.vacate()
	p.report.Joined = t.end(err)
	_ = p.rest.Close()
	p.report.Duration = time.Since(p.begun)
	if s.config.Trace.Streamed != nil {
		s.config.Trace.Streamed(&p.report)
	}
}

// readAll is nil when the response has been read to its end.
func (p *player) readAll() error {
	piece := pieces.Get().(*[32 << 10]byte) //nolint:forcetypeassert // see New
	defer pieces.Put(piece)
	for {
		n, err := p.rest.Read(piece[:])
		if n > 0 {
			_, _ = p.tape.Write(piece[:n])
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && p.tape.isDeserted():
			return errDeserted
		case err != nil:
			return err
		}
	}
}

// canJoin finds the tape of what is executed for an equal request in this process. A store
// said before that the key is in progress; the tape may be of a later attempt by now, which
// another caller may have begun, so it is compared with the request itself. A question about
// an outcome has nothing to compare: it joins nothing.
func (s *Server) canJoin(q *request, key idem.Key) bool {
	if q.rules.Join && q.tape == nil && q.asked.Head != nil {
		if t := s.tapes.find(key.ID(), q.said); t != nil && q.canRead(t) {
			q.tape = t
		}
	}
	return q.tape != nil
}

// canRead says whether the request's client understands a response before it is complete.
func (q *request) canRead(t *tape) bool {
	coding := message.ContentCoding(t.header)
	return q.ctx.Request.Header.IsHTTP11() && (coding == nil || q.head.Accepts(coding))
}

// join answers a request with what another one with its key gets, from the beginning, or
// from behind the event that the client has; false if that cannot be.
func (s *Server) join(q *request, t *tape) bool {
	r := t.read(false, message.RequestValue(&q.ctx.Request.Header, headerLastEventID))
	if r == nil {
		return false
	}
	if err := message.Replay(&q.ctx.Response, t.status, q.rules.ownShares(t.header), nil, false); err != nil {
		_ = r.Close()
		return false
	}
	q.mark()
	q.ctx.Response.ImmediateHeaderFlush = true
	q.send(r)
	q.report.Outcome, q.report.Status = Joined, t.status
	return true
}

// withoutSeen is the body of a replay without the events that its client has.
func (q *request) withoutSeen(header []idem.Field, body []byte) []byte {
	if !q.rules.Stream {
		return body
	}
	after := message.RequestValue(&q.ctx.Request.Header, headerLastEventID)
	if len(after) == 0 || q.ctx.Request.Header.IsHead() || !isEventStream(header) {
		return body
	}
	return body[afterEvent(body, after):]
}
