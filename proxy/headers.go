package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// isHopByHop: fields that concern one connection only and are not forwarded.
func isHopByHop(name []byte) bool {
	switch len(name) {
	case 2:
		return equalFold(name, "TE") // RFC 9110 10.1.4
	case 6:
		return equalFold(name, "Expect") // RFC 9110 10.1.1: answered here, with 100 Continue
	case 7:
		return equalFold(name, "Trailer") || equalFold(name, "Upgrade") // RFC 9110 6.6.2, 7.8
	case 10:
		return equalFold(name, "Connection") || equalFold(name, "Keep-Alive") // RFC 9110 7.6.1, RFC 2068 19.7.1
	case 16:
		return equalFold(name, "Proxy-Connection") // never standard, still sent
	case 17:
		return equalFold(name, "Transfer-Encoding") // RFC 9112 6.1
	case 18:
		return equalFold(name, "Proxy-Authenticate") // RFC 9110 11.7.1
	case 19:
		return equalFold(name, "Proxy-Authorization") // RFC 9110 11.7.2
	case 25:
		return equalFold(name, "Proxy-Authentication-Info") // RFC 9110 11.7.3
	}
	return false
}

// outgoing is the request as it goes to the backend: the client's fields in
// their order and spelling, without those that end at this hop, and with those
// that say where it came from. The body is the client's, by reference. It is
// made anew, since deleting a field from a fasthttp header reorders the others.
// Release it with fasthttp.ReleaseRequest.
func (s *Server) outgoing(ctx *fasthttp.RequestCtx, id *identity, r *Request) *fasthttp.Request {
	in, out := &ctx.Request, fasthttp.AcquireRequest()
	h := &out.Header
	h.DisableNormalizing()
	h.DisableSpecialHeader()
	h.SetMethodBytes(in.Header.Method())
	h.SetRequestURIBytes(in.Header.RequestURI())
	if host := in.Header.Host(); len(host) > 0 {
		h.AddBytesV("Host", host)
	} else { // an HTTP/1.0 client need not say it; HTTP/1.1 must
		h.Add("Host", id.rules.upstream.host())
	}
	if s.config.Trace.Forward != nil {
		r.Traceparent = id.traceparent
		id.ownTraceparent = s.config.Trace.Forward(r)
	}
	for name, value := range in.Header.AllInOrder() {
		if !id.drops(name) {
			h.AddBytesKV(name, id.oneKey(name, value))
		}
	}
	id.addForwarded(ctx, h)
	id.addUpgrade(h)
	if len(id.requestID) == 0 {
		id.newRequestID()
		h.AddBytesV(headerRequestID, id.requestID)
	}
	if id.ownTraceparent != "" {
		h.Add("Traceparent", id.ownTraceparent)
	} else if len(id.traceparent) == 0 && s.config.Traceparent != PassTraceparent {
		id.newTraceparent(s.config.Traceparent)
		h.AddBytesV("Traceparent", id.traceparent)
	}
	if id.attempt > 0 {
		var digits [10]byte
		h.AddBytesV(headerAttempt, strconv.AppendUint(digits[:0], uint64(id.attempt), 10))
	}
	if stream := ctx.RequestBodyStream(); stream != nil {
		id.upload.Reader = stream
		if !id.keyed {
			id.upload.announce(&in.Header, h)
		}
		out.SetBodyStream(&id.upload, max(in.Header.ContentLength(), -1))
	} else {
		out.SetBodyRaw(in.Body())
	}
	return out
}

// upload is the client's body on its way, which remembers that the client, and
// not the backend, broke it off. Its first error is its last word: fasthttp
// looks over an error that comes along with bytes, and would go on behind it.
type upload struct {
	io.Reader
	err      error
	from, to *fasthttp.RequestHeader // of the trailers, if there are any
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	n, err := u.Reader.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		copyTrailers(u.to, u.from)
	case err != nil:
		err = fmt.Errorf("%w: %w", errClientBody, err)
		u.err = err
	}
	return n, err
}

// announce has the trailers passed on that the client announced (RFC 9110
// section 6.6.2). Others are dropped, as section 6.5.1 allows.
func (u *upload) announce(from, to *fasthttp.RequestHeader) {
	if names := from.PeekTrailerKeys(); len(names) > 0 {
		u.from, u.to = from, to
		_ = to.SetTrailerBytes(bytes.Join(names, []byte(", "))) // a name that no trailer may have stays out
	}
}

// trailers are what both headers of fasthttp have.
type trailers interface {
	PeekTrailerKeys() [][]byte
	PeekBytes(name []byte) []byte
	SetBytesKV(name, value []byte)
}

// copyTrailers copies the trailers that to announces. It does nothing for a nil
// to.
func copyTrailers[H interface {
	comparable
	trailers
}](to, from H) {
	var none H
	if to == none {
		return
	}
	for _, name := range to.PeekTrailerKeys() {
		if value := from.PeekBytes(name); value != nil {
			to.SetBytesKV(name, value)
		}
	}
}

//nolint:gochecknoglobals // constants, of a kind that Go has no word for
var (
	schemeHTTP, schemeHTTPS = []byte("http"), []byte("https")
	contentLength           = []byte("Content-Length")
	replayed, yes           = []byte(headerReplay), []byte("true")
)

// cleanResponse removes from the backend's response what concerned the
// connection with the backend only. The fields that stay keep their order, which
// fasthttp's own deletion would not do: where there is something to remove, the
// header is written and read anew.
//
// An announcement of trailers stays if trailers says so: it is about the message
// (RFC 9110 section 6.6.2), and goes only if they do.
func cleanResponse(resp *fasthttp.Response, trailers bool) error {
	h := &resp.Header
	var nominated []byte
	dirty := false
	for name, value := range h.All() {
		if equalFold(name, "Connection") {
			nominated = append(append(nominated, value...), ',')
		}
		dirty = dirty || endsHere(name, trailers)
	}
	if !dirty {
		return nil
	}
	p := parsers.Get().(*headerParser) //nolint:forcetypeassert // see New
	defer parsers.Put(p)
	p.begin(h.StatusCode(), h.StatusMessage())
	for name, value := range h.All() {
		if endsHere(name, trailers) || listHas(nominated, name) && !endToEndAlways(name) {
			continue
		}
		p.field(name, value)
	}
	err := p.read(h)
	h.ResetConnectionClose()
	return err
}

// endsHere: of a response's fields.
func endsHere(name []byte, trailers bool) bool {
	if trailers && equalFold(name, "Trailer") {
		return false
	}
	return isHopByHop(name) || equalFold(name, headerPolicy)
}

// endToEndAlways: what frames or describes a message cannot be nominated away.
func endToEndAlways(name []byte) bool {
	return equalFold(name, "Content-Length") || equalFold(name, "Content-Type")
}

// appendFields appends the fields of a cleaned response that a replay repeats:
// all but the framing, which is made anew, and those that the operator excluded.
// A response to HEAD has no body to count, so there Content-Length is kept.
func (r *Rules) appendFields(dst []idem.Field, resp *fasthttp.Response) []idem.Field {
	for name, value := range resp.Header.All() {
		if equalFold(name, "Content-Length") && !resp.SkipBody || r.notReplayed(name) || isHopByHop(name) {
			continue
		}
		dst = append(dst, idem.Field{Name: name, Value: value})
	}
	return dst
}

func (r *Rules) notReplayed(name []byte) bool {
	for _, n := range r.NotReplayed {
		if equalFold(name, n) {
			return true
		}
	}
	return false
}

// replay writes a stored response. Its header is parsed like one that came over
// a wire, which keeps what fasthttp's setters would not take (Date).
func (s *Server) replay(ctx *fasthttp.RequestCtx, r *idem.Response) error {
	resp := &ctx.Response
	p := parsers.Get().(*headerParser) //nolint:forcetypeassert // see New
	defer parsers.Put(p)
	p.begin(r.Status, nil)
	counted := r.Status == fasthttp.StatusNoContent || r.Status == fasthttp.StatusNotModified
	for _, f := range r.Header {
		counted = counted || equalFold(f.Name, "Content-Length") // of a response to HEAD
		p.field(f.Name, f.Value)
	}
	if !counted {
		var digits [20]byte
		p.field(contentLength, strconv.AppendInt(digits[:0], int64(len(r.Body)), 10))
	}
	p.field(replayed, yes)
	if err := p.read(&resp.Header); err != nil {
		return err
	}
	resp.Header.ResetConnectionClose()
	if ctx.IsHead() {
		resp.SkipBody = true
		return nil
	}
	resp.SetBodyRaw(r.Body)
	return nil
}

// headerParser reads a stored header.
type headerParser struct {
	text   []byte
	source bytes.Reader
	reader *bufio.Reader
}

//nolint:gochecknoglobals // a pool is made to be shared
var parsers = sync.Pool{New: func() any { return &headerParser{reader: bufio.NewReaderSize(nil, 4<<10)} }}

func (p *headerParser) begin(status int, reason []byte) {
	b := append(p.text[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(append(b, ' '), reason...)
	p.text = append(b, "\r\n"...)
}

func (p *headerParser) field(name, value []byte) {
	b := append(append(p.text, name...), ": "...)
	p.text = append(append(b, value...), "\r\n"...)
}

// read parses what was written into h.
func (p *headerParser) read(h *fasthttp.ResponseHeader) error {
	p.text = append(p.text, "\r\n"...)
	if len(p.text) > p.reader.Size() {
		p.reader = bufio.NewReaderSize(nil, len(p.text))
	}
	p.source.Reset(p.text)
	p.reader.Reset(&p.source)
	if err := h.Read(p.reader); err != nil {
		return fmt.Errorf("the response's header: %w", err)
	}
	return nil
}
