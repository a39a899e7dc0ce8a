package proxy

import (
	"bufio"
	"errors"
	"io"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// responseStream reads one response off a connection, and gives the connection
// back, or closes it, when it ends. A connection is used again only if the
// response was read to its end, nothing is left over, and neither side asked for
// it to be closed.
type responseStream struct {
	client *fasthttp.HostClient
	conn   *pooledConn
	reader *bufio.Reader

	length int // as announced; -1 chunked, -2 until the connection closes
	read   int
	done   bool // the whole response has been read
	reuse  bool
	source *fasthttp.Response       // holds fasthttp's body reader while streaming
	header *fasthttp.ResponseHeader // gets the trailers, if any are passed on
	onCut  func(error)              // while it is passed on as it comes
}

// start reads the header, and the body if it has a known length of at most
// w.buffer bytes.
func (r *responseStream) start(req *fasthttp.Request, resp *fasthttp.Response, w *want) error {
	if err := r.readHeader(&resp.Header, w); err != nil {
		return err
	}
	r.reuse = !resp.Header.ConnectionClose()
	r.length = resp.Header.ContentLength()
	status := resp.Header.StatusCode()
	switch {
	case status == fasthttp.StatusSwitchingProtocols:
		r.reuse = false
	case req.Header.IsHead():
		resp.SkipBody = true
		r.done = true
	case status == fasthttp.StatusNoContent, status == fasthttp.StatusNotModified:
		r.done = true
	case r.length >= 0 && r.length <= w.buffer:
		if err := resp.ReadBody(r.reader, 0); err != nil {
			return noEOF(err)
		}
		r.done = true
	default:
		r.source = fasthttp.AcquireResponse()
		r.source.StreamBody = true
		resp.Header.CopyTo(&r.source.Header)
		return noEOF(r.source.ReadBody(r.reader, 0))
	}
	return nil
}

// readHeader reads the final response's header, past interim ones (RFC 9110
// section 15.2).
func (r *responseStream) readHeader(h *fasthttp.ResponseHeader, w *want) error {
	for range maxInterim {
		if err := h.Read(r.reader); err != nil {
			return noEOF(err)
		}
		switch status := h.StatusCode(); {
		case status == fasthttp.StatusSwitchingProtocols && !w.upgrade:
			return errUpgraded
		case status >= 200, status == fasthttp.StatusSwitchingProtocols:
			return nil
		case w.interim != nil && status != fasthttp.StatusContinue: // which this hop has seen to
			passInterim(w.interim, h)
		}
	}
	return errTooManyInterim
}

// Read implements io.Reader. A response cut short is an error, never io.EOF.
func (r *responseStream) Read(p []byte) (int, error) {
	if r.done {
		return 0, io.EOF
	}
	n, err := r.source.BodyStream().Read(p)
	r.read += n
	if errors.Is(err, io.EOF) || err == nil && r.length >= 0 && r.read == r.length {
		if r.length >= 0 && r.read < r.length {
			return n, r.cut(io.ErrUnexpectedEOF)
		}
		r.done = true
		copyTrailers(r.header, &r.source.Header)
		return n, io.EOF
	}
	if err != nil {
		err = r.cut(err)
	}
	return n, err
}

func (r *responseStream) cut(err error) error {
	if r.onCut != nil {
		r.onCut(err)
		r.onCut = nil
	}
	return err
}

// end gives up the connection; reuse says whether that is thinkable at all.
func (r *responseStream) end(reuse bool) {
	if r.conn == nil {
		return
	}
	if r.source != nil {
		_ = r.source.CloseBodyStream()
		fasthttp.ReleaseResponse(r.source)
		r.source = nil
	}
	reuse = reuse && r.done && r.reuse && r.reader.Buffered() == 0
	r.client.ReleaseReader(r.reader)
	r.conn.release(reuse)
	r.conn = nil
}

// Close implements io.Closer.
func (r *responseStream) Close() error {
	r.end(true)
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// keyedStream passes on a response that is too large to keep, under the lease,
// and ends the attempt when the response has ended: completed without its body,
// or ambiguous if it was cut. The attempt ends before the client gets the last
// bytes. If the client leaves, the rest is read all the same.
type keyedStream struct {
	*responseStream
	prefix   []byte // what was read before it was known to be too large
	held     attempts
	response *idem.Response
	ended    bool
}

// Read implements io.Reader.
func (k *keyedStream) Read(p []byte) (int, error) {
	if len(k.prefix) > 0 {
		n := copy(p, k.prefix)
		k.prefix = k.prefix[n:]
		return n, nil
	}
	n, err := k.responseStream.Read(p)
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
	}
}

// Close implements io.Closer.
func (k *keyedStream) Close() error {
	if !k.ended {
		_, _ = io.Copy(io.Discard, k)
	}
	return k.responseStream.Close()
}
