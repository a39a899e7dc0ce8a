package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
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

// prepare makes the client's request fit to be sent to the backend: what ends at
// this hop goes, what says where the request came from is added.
func (s *Server) prepare(ctx *fasthttp.RequestCtx, id *identity) {
	req := &ctx.Request
	h := &req.Header
	for _, name := range id.drop {
		h.DelBytes(name)
	}
	h.ResetConnectionClose() // about our connection with the client
	h.SetProtocol("HTTP/1.1")
	h.SetNoDefaultContentType(true)
	req.UseHostHeader = true
	req.URI().DisablePathNormalizing = true
	s.addForwarded(ctx, id)
}

// addForwarded says where the request came from. X-Forwarded-For grows by the
// client's address; X-Forwarded-Proto and -Host are ours to say unless a proxy
// in front is trusted with them. Via is RFC 9110 section 7.6.3.
func (s *Server) addForwarded(ctx *fasthttp.RequestCtx, id *identity) {
	h := &ctx.Request.Header
	var buf [128]byte
	h.SetBytesV("X-Forwarded-For", appendIP(appendList(buf[:0], id.forwardedFor), ctx.RemoteAddr()))
	h.SetBytesV("Via", append(appendList(buf[:0], id.via), "1.1 idemproxy"...))

	proto, host := id.forwardedProto, id.forwardedHost
	if !s.config.TrustForwarded || len(proto) == 0 {
		proto = []byte("http")
		if ctx.IsTLS() {
			proto = []byte("https")
		}
	}
	if !s.config.TrustForwarded || len(host) == 0 {
		host = h.Host()
	}
	h.SetBytesV("X-Forwarded-Proto", proto)
	h.SetBytesV("X-Forwarded-Host", host)
}

// appendList starts a list with what was there.
func appendList(dst, before []byte) []byte {
	if len(before) == 0 {
		return dst
	}
	return append(append(dst, before...), ", "...)
}

func appendIP(dst []byte, addr net.Addr) []byte {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		if ip, ok := tcpIP(tcp); ok {
			return ip.AppendTo(dst)
		}
	}
	return append(dst, "unknown"...) // RFC 7239 6.3
}

// cleanResponse removes from the backend's response what concerned the
// connection with the backend only.
func cleanResponse(h *fasthttp.ResponseHeader) {
	var drop [][]byte
	for name, value := range h.All() {
		switch {
		case equalFold(name, "Connection"):
			for token := range bytes.SplitSeq(value, []byte{','}) {
				if token = bytes.TrimSpace(token); len(token) > 0 && !endToEndAlways(token) {
					drop = append(drop, bytes.Clone(token))
				}
			}
			drop = append(drop, bytes.Clone(name))
		case isHopByHop(name) && !equalFold(name, "Trailer"):
			drop = append(drop, bytes.Clone(name))
		}
	}
	for _, name := range drop {
		delFold(h, name)
	}
	h.ResetConnectionClose()
}

func delFold(h *fasthttp.ResponseHeader, name []byte) {
	var spellings [][]byte
	for n := range h.All() {
		if bytes.EqualFold(n, name) {
			spellings = append(spellings, bytes.Clone(n))
		}
	}
	for _, n := range spellings {
		h.DelBytes(n)
	}
}

// appendFields appends the fields of a cleaned response that a replay repeats:
// all but the framing, which is made anew, and those that the operator excluded.
// A response to HEAD has no body to count, so there Content-Length is kept.
func (s *Server) appendFields(dst []idem.Field, resp *fasthttp.Response) []idem.Field {
	for name, value := range resp.Header.All() {
		if equalFold(name, "Content-Length") && !resp.SkipBody || s.notReplayed(name) || isHopByHop(name) {
			continue
		}
		dst = append(dst, idem.Field{Name: name, Value: value})
	}
	return dst
}

func (s *Server) notReplayed(name []byte) bool {
	for _, n := range s.config.NotReplayed {
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
	if err := p.parse(&resp.Header, r); err != nil {
		return err
	}
	resp.Header.Set(headerReplay, "true")
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

func (p *headerParser) parse(h *fasthttp.ResponseHeader, r *idem.Response) error {
	b := append(p.text[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, " \r\n"...)
	counted := r.Status == fasthttp.StatusNoContent || r.Status == fasthttp.StatusNotModified
	for _, f := range r.Header {
		counted = counted || equalFold(f.Name, "Content-Length") // of a response to HEAD
		b = append(b, f.Name...)
		b = append(b, ": "...)
		b = append(b, f.Value...)
		b = append(b, "\r\n"...)
	}
	if !counted {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(r.Body)), 10)
		b = append(b, "\r\n"...)
	}
	p.text = append(b, "\r\n"...)
	if len(p.text) > p.reader.Size() {
		p.reader = bufio.NewReaderSize(nil, len(p.text))
	}
	p.source.Reset(p.text)
	p.reader.Reset(&p.source)
	if err := h.Read(p.reader); err != nil {
		return fmt.Errorf("the stored header: %w", err)
	}
	return nil
}
