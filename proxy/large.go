package proxy

import (
	"errors"
	"io"
	"time"

	"github.com/valyala/bytebufferpool"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/upstream"
)

// readRest reads a response of unknown length into memory, and reports whether it
// fitted, or failed. One that did not is passed on as it comes, and is the end of its
// attempt; but of one in doubt, which is settled, no more is read, since nobody gets it.
// It is read into the response's own buffer, and not copied.
func (s *Server) readRest(q *request, held *attempts, e *upstream.Exchange, doubt bool) bool {
	resp := &q.ctx.Response
	body := bytebufferpool.ByteBuffer{B: resp.SwapBody(nil)[:0]}
	switch fits := e.ReadRest(&body, q.rules.MaxResponseBody); {
	case !fits && !doubt:
		s.streamLarge(q, held, e.Rest, body.B)
		return false
	case !fits:
		_ = e.Rest.Close()
		e.Rest = nil
		body.Reset()
	case e.Err != nil:
		body.Reset()
	}
	resp.SwapBody(body.B)
	return true
}

// streamLarge answers with a response that is too large to keep. prefix is how it
// begins.
func (s *Server) streamLarge(q *request, held *attempts, rest *upstream.Body, prefix []byte) {
	resp := &q.ctx.Response
	kept := &idem.Response{
		Status: resp.StatusCode(), Header: q.rules.appendFields(nil, resp), BodyOmitted: true, Redirect: q.redirect(resp),
	}
	q.promise(held)
	s.watchCut(q, rest, held.key())
	body := keyedStream{Body: rest, prefix: prefix, held: *held, response: kept.Clone(), doubt: s.doubtOf(q)}
	body.held.outlive()
	w := q.watch(readOnFor)
	if w != nil {
		rest.Hold(&w.leash)
	}
	s.stream(q, &body, max(rest.Length(), -1), w)
	q.report.Outcome, q.report.Status = Executed, kept.Status
}

// keyedStream passes on a response that is too large to keep, under the lease,
// and ends the attempt when the response has ended: completed without its body,
// or ambiguous if it was cut. The attempt ends before the client gets the last
// bytes. If the client leaves, the rest is read all the same, within bounds.
type keyedStream struct {
	*upstream.Body
	prefix   []byte // what was read before it was known to be too large
	held     attempts
	response *idem.Response
	ended    bool
	doubt    func(*attempts) // called if the attempt is left in doubt
}

// doubtOf has what is left in doubt settled, where the route has it.
func (s *Server) doubtOf(q *request) func(*attempts) {
	if q.rules.settles() {
		return s.settler.later
	}
	return func(*attempts) {}
}

// Read implements io.Reader.
func (k *keyedStream) Read(p []byte) (int, error) {
	if len(k.prefix) > 0 {
		n := copy(p, k.prefix)
		k.prefix = k.prefix[n:]
		return n, nil
	}
	n, err := k.Body.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		k.finish(idem.Answered)
	case err != nil:
		k.finish(idem.MayHaveExecuted)
	}
	return n, err
}

func (k *keyedStream) finish(sent idem.Sent) {
	if !k.ended {
		k.ended = true
		k.held.finish(sent, k.response)
		if sent == idem.MayHaveExecuted {
			k.doubt(&k.held)
		}
	}
}

// What is read of a response at most after its client has left. One that is longer,
// or has no end, is ambiguous.
const (
	readOnFor   = time.Minute
	readOnBytes = 256 << 20
)

var errTooLong = errors.New("its client has left, and it is longer than what is read on of it")

// Close implements io.Closer.
func (k *keyedStream) Close() error {
	if !k.ended {
		k.Within(readOnFor)
		if _, err := io.CopyN(io.Discard, k, readOnBytes); err == nil {
			k.GiveUp(errTooLong)
			k.finish(idem.MayHaveExecuted)
		}
	}
	return k.Body.Close()
}
