package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/valyala/bytebufferpool"
	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

// Body reads one response off a connection, and gives the connection
// back, or closes it, when it ends. A connection is used again only if the
// response was read to its end, nothing is left over, and neither side asked for
// it to be closed.
type Body struct {
	client *fasthttp.HostClient
	conn   pooledConn
	reader *bufio.Reader

	maxHeader int
	length    int // as announced; -1 chunked, -2 until the connection closes
	read      int
	done      bool // the whole response has been read
	reuse     bool
	refused   bool                     // by its status
	chunks    message.Chunks           // of a chunked body
	source    *fasthttp.Response       // holds fasthttp's body reader while streaming another one
	header    *fasthttp.ResponseHeader // gets the trailers, if any are passed on
	onCut     func(error)              // while it is passed on as it comes
	upload    *sender                  // the request is still on its way; nil: it is not
}

// ErrHeaderTooLarge says that the backend executed the request, and that its answer's header is
// larger than Config.MaxHeader.
var ErrHeaderTooLarge = message.ErrHeaderTooLarge

// errNoAlert is a response whose end nobody vouches for (RFC 9112 section 9.8): it goes on until
// its connection ends, and anyone on the way can end a connection.
var errNoAlert = fmt.Errorf("its length is not announced, and the TLS connection ended without close_notify: %w",
	io.ErrUnexpectedEOF)

// chunked is the length of such a body.
const chunked = -1

// start reads the header, and the body if it has a known length of at most buffer
// bytes.
func (r *Body) start(req *fasthttp.Request, resp *fasthttp.Response, w *Want, buffer int) error {
	if err := r.readHeader(&resp.Header, w); err != nil {
		return err
	}
	r.reuse = !resp.Header.ConnectionClose()
	r.length = resp.Header.ContentLength()
	status := resp.Header.StatusCode()
	r.refused = status >= fasthttp.StatusBadRequest
	switch {
	case status == fasthttp.StatusSwitchingProtocols:
		r.reuse = false
	case req.Header.IsHead():
		resp.SkipBody = true
		r.bodiless()
	case status == fasthttp.StatusNoContent, status == fasthttp.StatusNotModified:
		r.bodiless()
	case r.length >= 0 && r.length <= buffer && (!r.underWay() || r.upload.body != nil):
		w.hold(r.length)
		if r.length > Large && w.Room != nil {
			resp.SwapBody(w.Room(r.length))
		}
		if err := resp.ReadBody(r.reader, 0); err != nil {
			return noEOF(err)
		}
		r.done = true
	case r.length == chunked:
		r.chunks = message.NewChunks(r.reader)
	default:
		r.source = fasthttp.AcquireResponse()
		r.source.StreamBody = true
		resp.Header.CopyTo(&r.source.Header)
		return noEOF(r.source.ReadBody(r.reader, 0))
	}
	return nil
}

// bodiless ends a response that has no body, whatever its header says (RFC 9112 section 6.3).
// Backends with a fault send one all the same, and it can come late, once the connection is used
// for the next request: it would be read as the response of that one, and stored. So a connection
// on which a body was announced is closed. After HEAD and with 304 the announcement is allowed
// (RFC 9110 section 8.6), and costs a connection.
func (r *Body) bodiless() {
	r.done = true
	r.reuse = r.reuse && r.length <= 0 && r.length != chunked
}

// readHeader reads the final response's header, past interim ones (RFC 9110
// section 15.2).
func (r *Body) readHeader(h *fasthttp.ResponseHeader, w *Want) error {
	for interim := 0; interim <= maxInterim; {
		n, err := message.ReadResponse(r.reader, h, r.maxHeader)
		if err != nil {
			return err
		}
		switch status := h.StatusCode(); {
		case status == fasthttp.StatusSwitchingProtocols && !w.Upgrade:
			return errUpgraded
		case status >= 200, status == fasthttp.StatusSwitchingProtocols:
			return nil
		case w.Interim != nil && status != fasthttp.StatusContinue:
			w.Interim(h)
		}
		interim += n
	}
	return errTooManyInterim
}

// Read implements io.Reader. A response cut short is an error, never io.EOF.
func (r *Body) Read(p []byte) (int, error) {
	if r.done {
		return 0, io.EOF
	}
	n, err := r.next(p)
	r.read += n
	if errors.Is(err, io.EOF) || err == nil && r.length >= 0 && r.read == r.length {
		if r.length >= 0 && r.read < r.length {
			return n, r.cut(io.ErrUnexpectedEOF)
		}
		if r.length < chunked && endedAlone(r.conn.conn) {
			return n, r.cut(errNoAlert)
		}
		r.done = true
		r.chunks.CopyTrailers(r.header)
		return n, io.EOF
	}
	if err != nil {
		err = r.cut(err)
	}
	return n, err
}

func (r *Body) next(p []byte) (int, error) {
	if r.length == chunked {
		return r.chunks.Read(p)
	}
	return r.source.BodyStream().Read(p) //nolint:wrapcheck // it stands in for the body
}

func (r *Body) cut(err error) error {
	if r.onCut != nil {
		if !r.conn.leash.gone() { // else it was not the backend
			r.onCut(err)
		}
		r.onCut = nil
	}
	return err
}

// end gives up the connection; reuse says whether that is thinkable at all.
func (r *Body) end(reuse bool) {
	if r.conn.conn == nil {
		return
	}
	if r.source != nil {
		_ = r.source.CloseBodyStream()
		fasthttp.ReleaseResponse(r.source)
		r.source = nil
	}
	if r.upload != nil {
		reuse = r.upload.finish(r.done, r.refused) == nil && reuse
		fasthttp.ReleaseRequest(r.upload.req)
		r.upload = nil
	}
	reuse = reuse && r.done && r.reuse && r.reader.Buffered() == 0 && nothingLeft(r.conn.conn)
	r.client.ReleaseReader(r.reader)
	r.conn.release(reuse)
	r.conn = pooledConn{}
}

// Close implements io.Closer.
func (r *Body) Close() error {
	r.end(true)
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// UnderWay says that the request's body is still on its way from the client, whose connection
// cannot be used for another one.
func (r *Body) UnderWay() bool { return r.underWay() && r.upload.body == nil }

// Within has the rest come within a time.
func (r *Body) Within(d time.Duration) {
	if b := unwrap(r.conn.conn); b != nil {
		b.endUpload(d)
	}
}

// GiveUp has the response count as cut, for a reason of the caller's.
func (r *Body) GiveUp(why error) { _ = r.cut(why) }

// Length is what was announced; -1 for chunked, -2 for until the connection closes.
func (r *Body) Length() int { return r.length }

// OnCut has f called when the response breaks off on the backend's side.
func (r *Body) OnCut(f func(error)) { r.onCut = f }

// Trailers has those that to announces copied there when the body has ended.
func (r *Body) Trailers(to *fasthttp.ResponseHeader) { r.header = to }

// ReadRest reads a response of unknown length, and reports whether it fitted into
// limit bytes (or failed, which Err then says). If it did not, body is how it
// begins, and Rest goes on behind it.
func (e *Exchange) ReadRest(body *bytebufferpool.ByteBuffer, limit int) bool {
	if e.Rest.length > limit {
		return false
	}
	_, err := body.ReadFrom(&heldReader{io.LimitReader(e.Rest, int64(limit)+1), &e.want})
	switch {
	case err != nil:
		e.Rest.end(false)
		e.Rest = nil
		e.fail(idem.MayHaveExecuted, err)
		return true
	case body.Len() > limit:
		return false
	}
	e.Rest.end(true)
	e.Rest = nil
	return true
}

// ReadReady reads of a response of unknown length what has come already, up to limit bytes,
// and reports whether there is more to come. If there is not, the exchange has ended, or
// failed, as with ReadRest; if there is, body is how the response begins, and Rest goes on
// behind it.
func (e *Exchange) ReadReady(body *bytebufferpool.ByteBuffer, limit int) (more bool) {
	for e.Rest.length == chunked && body.Len() < limit && e.Rest.chunks.Ready() {
		most := min(max(e.Rest.reader.Buffered(), 1), limit-body.Len())
		body.B = slices.Grow(body.B, most)
		n, err := e.Rest.Read(body.B[body.Len() : body.Len()+most])
		body.B = body.B[:body.Len()+n]
		e.want.hold(n)
		switch {
		case errors.Is(err, io.EOF):
			e.Rest.end(true)
			e.Rest = nil
			return false
		case err != nil:
			e.Rest.end(false)
			e.Rest = nil
			e.fail(idem.MayHaveExecuted, err)
			return false
		}
	}
	return true
}

// heldReader has what it reads counted.
type heldReader struct {
	from io.Reader
	want *Want
}

// Read implements io.Reader.
func (h *heldReader) Read(p []byte) (int, error) {
	n, err := h.from.Read(p)
	h.want.hold(n)
	return n, err //nolint:wrapcheck // it stands in for the reader
}
