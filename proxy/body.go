package proxy

import (
	"fmt"
	"io"

	"github.com/valyala/bytebufferpool"
	"github.com/valyala/fasthttp"
)

// readBody reads the request's body whole: nothing is acquired before it has
// arrived.
func (s *Server) readBody(q *request, body *bytebufferpool.ByteBuffer) (*problem, error) {
	limit := q.rules.MaxRequestBody
	s.holds(q, expected(&q.ctx.Request.Header, limit))
	if p, err := readBody(q.ctx, body, limit); p != nil {
		return p, err
	}
	s.holds(q, body.Len()-int(q.buffered))
	q.asked.Body = body.B
	return nil, nil //nolint:nilnil // no problem
}

// holds counts what a request has in memory until it is answered.
func (s *Server) holds(q *request, n int) {
	q.buffered += int64(n)
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

// smallBody is up to which size a body is read before anything is sent, though it
// has no key: it costs less than to send and to read at the same time.
const smallBody = 16 << 10

// readSmallBody does so.
func readSmallBody(ctx *fasthttp.RequestCtx, body *bytebufferpool.ByteBuffer) (*problem, error) {
	if n := ctx.Request.Header.ContentLength(); n < 0 || n > smallBody {
		return nil, nil //nolint:nilnil // no problem
	}
	return readBody(ctx, body, smallBody)
}

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
		err = fmt.Errorf("reading the request body: %w", err)
		return bodyProblem(err), err
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
