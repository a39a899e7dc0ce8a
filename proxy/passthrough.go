package proxy

import (
	"bytes"
	"errors"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// passBuffer is up to which size a response without a key is read whole before
// it is passed on; anything longer, or of unknown length, streams.
const passBuffer = 64 << 10

// passThrough forwards a request without a key. It may be sent once only, too: a
// client that wants safe retries sends a key.
func (s *Server) passThrough(ctx *fasthttp.RequestCtx, id *identity, r *Request) {
	id.upgrading = id.wantsUpgrade(&ctx.Request.Header)
	out := s.outgoing(ctx, id, r)
	w := want{buffer: passBuffer, timeout: id.rules.BackendTimeout, upgrade: id.upgrading}
	if s.config.EarlyHints && ctx.Request.Header.IsHTTP11() {
		w.interim = ctx
	}
	e := id.rules.upstream.do(out, &ctx.Response, w)
	fasthttp.ReleaseRequest(out)
	protocol := bytes.Clone(ctx.Response.Header.Peek("Upgrade"))
	e.clean(&ctx.Response, true)
	if id.upload.err != nil {
		s.fail(ctx, &problemBodyBroken, nil, r, id.upload.err)
		return
	}
	if e.err != nil {
		s.fail(ctx, exchangeProblem(&e, false), nil, r, e.err)
		return
	}
	if e.rest != nil && ctx.Response.StatusCode() == fasthttp.StatusSwitchingProtocols {
		s.tunnel(ctx, e.rest, protocol)
	} else if e.rest != nil {
		if len(ctx.Response.Header.PeekTrailerKeys()) > 0 {
			e.rest.header = &ctx.Response.Header
		}
		ctx.Response.ImmediateHeaderFlush = true
		s.watchCut(e.rest, idem.Key{})
		ctx.Response.SetBodyStream(e.rest, max(e.rest.length, -1))
	}
	r.Outcome, r.Status = Passed, ctx.Response.StatusCode()
}

// watchCut has a streamed response traced if it breaks off.
func (s *Server) watchCut(r *responseStream, key idem.Key) {
	if s.config.Trace.Cut != nil {
		r.onCut = func(err error) { s.config.Trace.Cut(key, err) }
	}
}

// exchangeProblem is the answer to an exchange that failed; held says that the
// key was left unknown.
func exchangeProblem(e *exchange, held bool) *problem {
	switch {
	case errors.Is(e.err, errNoConn), errors.Is(e.err, errQueueFull):
		return &problemBusy
	case e.sent == idem.NothingSent:
		return &problemUnreachable
	case held:
		p := problemHeld
		if e.timeout {
			p.outcome, p.status = BackendTimeout, fasthttp.StatusGatewayTimeout
		}
		return &p
	case e.timeout:
		return &problemTimeout
	}
	return &problemCut
}
