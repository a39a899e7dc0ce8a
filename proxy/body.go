package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/valyala/bytebufferpool"
	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/upstream"
)

// bodyDeadline gives a body its own time, counted from the end of the header. Of one
// whose length is known, fasthttp reads the first bytes before the handler can see
// to their pace. A small body has the header's time, unless its own is shorter: it
// mostly came along with the header, and is not worth setting a timer for.
func (c *Config) bodyDeadline(h *fasthttp.RequestHeader) (r fasthttp.RequestConfig) {
	n := h.ContentLength()
	switch {
	case n == -1:
		r.ReadTimeout = c.BodyTimeout
	case n > small, n > 0 && c.BodyTimeout < c.HeaderTimeout:
		p := pace{all: c.BodyTimeout, grace: c.HeaderTimeout, rate: c.BodyMinRate, came: int64(min(n, readAhead))}
		r.ReadTimeout = p.till().Sub(p.begun)
	}
	return r
}

// readAhead is how much fasthttp reads of a body before it calls the handler.
const readAhead = 8 << 10

// small is what fits into a packet with its header.
const small = 1 << 10

// readBody reads the request's body whole: nothing is acquired before it has
// arrived. Its bytes count as they come, not as they are announced: who sends
// nothing takes nothing from others. A client that is too slow gets 408.
func (s *Server) readBody(q *request, body *bytebufferpool.ByteBuffer, limit int) (*problem, error) {
	stream, length := q.ctx.RequestBodyStream(), q.ctx.Request.Header.ContentLength()
	if stream == nil {
		return nil, nil //nolint:nilnil // no problem
	}
	if client := clientOf(q.ctx.Conn()); client != nil {
		client.pace = pace{
			on: true, begun: time.Now(), all: s.config.BodyTimeout, grace: s.config.HeaderTimeout, rate: s.config.BodyMinRate,
		}
		defer func() { client.pace.on = false }()
	}
	if length > limit {
		if length <= maxDiscard {
			discard(stream)
		}
		return &problemBodyTooLarge, nil
	}
	q.counted = counted{stream: stream, request: q, left: limit + 1}
	n, err := body.ReadFrom(&q.counted)
	switch {
	case errors.Is(err, errNoRoom):
		return &problemOverloaded, errNoRoom
	case err != nil:
		err = fmt.Errorf("reading the request body: %w", message.Unquoted(err))
		return bodyProblem(err), err
	case n > int64(limit):
		discard(stream)
		return &problemBodyTooLarge, nil
	case length >= 0 && n < int64(length):
		return &problemBodyBroken, io.ErrUnexpectedEOF
	}
	q.ctx.Request.SetBodyRaw(body.B)
	q.asked.Body = body.B
	return nil, nil //nolint:nilnil // no problem
}

// counted reads a body up to a limit, counts it, and reads no further when there is
// no room.
type counted struct {
	stream  io.Reader
	request *request
	left    int
}

// errNoRoom: see Config.MaxBuffered.
var errNoRoom = errors.New("as many bytes are in memory as may be")

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.EOF
	}
	n, err := c.stream.Read(p[:min(len(p), c.left)])
	c.left -= n
	c.request.Hold(n)
	if n > 0 && c.request.admission.full() {
		return 0, errNoRoom
	}
	return n, err //nolint:wrapcheck // it stands in for the reader
}

// Hold implements upstream.Memory: it counts what a request has in memory until it
// is answered.
func (q *request) Hold(n int) {
	q.buffered += int64(n)
	q.admission.hold(int64(n))
}

// doneWith is due when the handler needs a body no more. One that is still being sent to a backend
// that answers meanwhile is kept, and counts, until it was.
func (q *request) doneWith(body *bytebufferpool.ByteBuffer) {
	n := int64(len(body.B))
	if q.unsent == nil || n == 0 {
		bytebufferpool.Put(body)
		return
	}
	q.buffered -= n
	go func(a *admission, sent <-chan struct{}) {
		<-sent
		a.hold(-n)
		bytebufferpool.Put(body)
	}(q.admission, q.unsent)
}

// holdUndone counts what the body has become without its content codings.
func (q *request) holdUndone() {
	if n := q.asked.Undone(); n != q.undone {
		q.Hold(n - q.undone)
		q.undone = n
	}
}

// largeBody is from which size a response counts until its client has taken it: up
// to that, sockets have room for it.
const largeBody = upstream.Large

// heldUntilSent has the response's body counted until it was written, which happens
// after the handler.
func (s *Server) heldUntilSent(q *request) {
	resp := &q.ctx.Response
	body := resp.Body()
	n := len(body)
	if n <= largeBody || resp.SkipBody || q.buffered < int64(n) {
		return
	}
	q.buffered -= int64(n)
	held := &heldBody{admission: &s.admission, n: int64(n)}
	if own := resp.SwapBody(nil); len(own) > 0 { // in a buffer that would be used again
		body, held.own = own, own
	}
	held.Reset(body)
	resp.SetBodyStream(held, n)
}

// heldBody is a body that counts until it is closed.
type heldBody struct {
	bytes.Reader
	admission *admission
	n         int64
	own       []byte // what it is read from, if nobody else has that
}

// Close implements io.Closer. It may be repeated.
func (b *heldBody) Close() error {
	b.admission.hold(-b.n)
	b.n = 0
	b.Reset(nil)
	giveRoom(b.own)
	b.own = nil
	return nil
}

// mostRoom is up to which size the room of a response is kept for another one.
const mostRoom = 1 << 20

//nolint:gochecknoglobals // a pool is made to be shared
var rooms sync.Pool

// room is room for n bytes.
func room(n int) []byte {
	if b, ok := rooms.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:0]
	}
	return make([]byte, 0, n)
}

func giveRoom(b []byte) {
	if cap(b) > largeBody && cap(b) <= mostRoom {
		rooms.Put(&b)
	}
}

// smallBody is up to which size a body is read before anything is sent, though it
// has no key: it costs less than to send and to read at the same time.
const smallBody = 16 << 10

// readSmallBody does so.
func (s *Server) readSmallBody(q *request, body *bytebufferpool.ByteBuffer) (*problem, error) {
	if n := q.ctx.Request.Header.ContentLength(); n < 0 || n > smallBody {
		return nil, nil //nolint:nilnil // no problem
	}
	return s.readBody(q, body, smallBody)
}

// discard reads what a client goes on sending before it is refused: most clients
// send all before they listen, and would see a broken connection instead of the
// answer. What is longer than maxDiscard does.
func discard(stream io.Reader) { _, _ = io.CopyN(io.Discard, stream, maxDiscard) }

const maxDiscard = 8 << 20
