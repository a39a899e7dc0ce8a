package message

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/valyala/fasthttp"
)

// Names of fields that this proxy writes or reads in responses.
const (
	// HeaderReplayed marks a response that comes from the store.
	HeaderReplayed = "Idempotent-Replayed"
	// HeaderPolicy is how a backend overrules, for one response, what its route says
	// of keeping: an RFC 9651 dictionary of no-store and retention (seconds). It is
	// for this proxy, and ends here.
	HeaderPolicy = "Idempotency-Policy"
	// HeaderOutcome is what a backend says of an attempt at a key: see docs/receipts.md.
	// It is for this proxy, and ends here.
	HeaderOutcome = "Idempotency-Outcome"
)

//nolint:gochecknoglobals // constants, of a kind that Go has no word for
var contentLength, replayed, yes = []byte("Content-Length"), []byte(HeaderReplayed), []byte("true")

// CleanResponse removes from the backend's response what concerned the
// connection with the backend only. The fields that stay keep their order, which
// fasthttp's own deletion would not do: where there is something to remove, the
// header is written and read anew.
//
// An announcement of trailers stays if trailers says so: it is about the message
// (RFC 9110 section 6.6.2), and goes only if they do. gone, if set, says which fields
// go besides.
func CleanResponse(resp *fasthttp.Response, trailers bool, gone func(name []byte) bool) error {
	h := &resp.Header
	dirty := false
	for name := range h.All() {
		dirty = dirty || endsHere(name, trailers) || gone != nil && gone(name)
	}
	if !dirty {
		return nil
	}
	var nominated tokens
	nominated.read(connectionTokens(h))
	p := parsers.Get().(*headerParser) //nolint:forcetypeassert // see New
	defer parsers.Put(p)
	p.begin(h.StatusCode(), h.StatusMessage())
	for name, value := range h.All() {
		if endsHere(name, trailers) || nominated.has(name) && !endToEndAlways(name) || gone != nil && gone(name) {
			continue
		}
		p.field(name, value)
	}
	err := p.read(h)
	h.ResetConnectionClose()
	return err
}

// connectionTokens are those of all lines of Connection.
func connectionTokens(h *fasthttp.ResponseHeader) (all []byte) {
	for name, value := range h.All() {
		if EqualFold(name, "Connection") {
			all = append(append(all, value...), ',')
		}
	}
	return all
}

// endsHere: of a response's fields.
func endsHere(name []byte, trailers bool) bool {
	if trailers && EqualFold(name, "Trailer") {
		return false
	}
	return IsHopByHop(name) || EqualFold(name, HeaderPolicy) || EqualFold(name, HeaderOutcome)
}

// endToEndAlways: what frames or describes a message cannot be nominated away.
func endToEndAlways(name []byte) bool {
	return EqualFold(name, "Content-Length") || EqualFold(name, "Content-Type")
}

// Line is a field of a stored response: idem.Field, which this package does not
// know, is one.
type Line interface{ ~struct{ Name, Value []byte } }

// plain is what a Line is.
type plain struct{ Name, Value []byte }

// Replay writes a stored response. Its header is parsed like one that came over a
// wire, which keeps what fasthttp's setters would not take (Date). The body is
// referred to, not copied. head: the request was HEAD, and there is no body. What
// names the request and what marks a replay is this one's, and not the stored one's.
func Replay[L Line](resp *fasthttp.Response, status int, header []L, body []byte, head bool) error {
	return restore(nil, resp, status, header, body, head, true)
}

// ReplayFrom is Replay by a server that has replayed before; known are the headers
// that it has parsed by then.
func ReplayFrom[L Line](known *Heads, resp *fasthttp.Response, status int, header []L, body []byte, head bool) error {
	return restore(known, resp, status, header, body, head, true)
}

// Restore writes a response likewise that no client has got yet: it is no replay.
func Restore[L Line](resp *fasthttp.Response, status int, header []L, body []byte, head bool) error {
	return restore(nil, resp, status, header, body, head, false)
}

func restore[L Line](
	known *Heads, resp *fasthttp.Response, status int, header []L, body []byte, head, marked bool,
) error {
	p := parsers.Get().(*headerParser) //nolint:forcetypeassert // see New
	defer parsers.Put(p)
	p.begin(status, nil)
	counted := head || status == fasthttp.StatusNoContent || status == fasthttp.StatusNotModified
	for _, line := range header {
		f := plain(line)
		if EqualFold(f.Name, HeaderRequestID) || EqualFold(f.Name, HeaderReplayed) {
			continue
		}
		counted = counted || EqualFold(f.Name, "Content-Length") // of a response to HEAD
		p.field(f.Name, f.Value)
	}
	if !counted {
		var digits [20]byte
		p.field(contentLength, strconv.AppendInt(digits[:0], int64(len(body)), 10))
	}
	if marked {
		p.field(replayed, yes)
	}
	if err := known.read(p, &resp.Header); err != nil {
		return err
	}
	resp.Header.ResetConnectionClose()
	if head {
		resp.SkipBody = true
		return nil
	}
	resp.SetBodyRaw(body)
	return nil
}

// NameResponse has a response carry its request's id, unless it has one.
func NameResponse(h *fasthttp.ResponseHeader, id []byte) {
	for name := range h.All() {
		if EqualFold(name, HeaderRequestID) {
			return
		}
	}
	h.AddBytesV(HeaderRequestID, id)
}

// WriteInterim writes an interim response (RFC 9110 section 15.2) to a client's
// connection, without what ends at this hop. It must not be called while another
// response is being written.
func WriteInterim(to io.Writer, h *fasthttp.ResponseHeader) error {
	p := parsers.Get().(*headerParser) //nolint:forcetypeassert // see New
	defer parsers.Put(p)
	p.begin(h.StatusCode(), h.StatusMessage())
	var nominated tokens
	nominated.read(connectionTokens(h))
	for name, value := range h.All() {
		if !IsHopByHop(name) && !EqualFold(name, "Content-Length") && !nominated.has(name) {
			p.field(name, value)
		}
	}
	p.text = append(p.text, "\r\n"...)
	if _, err := to.Write(p.text); err != nil {
		return fmt.Errorf("passing an interim response on: %w", err)
	}
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
		return fmt.Errorf("the response's header: %w", Unquoted(err))
	}
	return nil
}
