package proxy

import (
	"bytes"
	"net"

	"github.com/valyala/bytebufferpool"
	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/upstream"
)

// passBuffer is up to which size a response without a key is read whole before
// it is passed on; anything longer, or of unknown length, streams.
const passBuffer = 64 << 10

// passThrough forwards a request without a key. It may be sent once only, too: a
// client that wants safe retries sends a key.
func (s *Server) passThrough(q *request) {
	resp := &q.ctx.Response
	body := bytebufferpool.Get()
	defer bytebufferpool.Put(body)
	if p, err := s.readSmallBody(q, body); p != nil {
		s.fail(q, p, err)
		return
	}
	w := upstream.Want{Buffer: passBuffer, Timeout: q.rules.BackendTimeout, Memory: q}
	// A key needs a response to keep.
	w.Upgrade = !q.keyed && !q.derived && q.head.WantsUpgrade()
	if s.config.EarlyHints && q.ctx.Request.Header.IsHTTP11() {
		// Past the writer of the final response: see Config.EarlyHints for why that is
		// safe. That a client has left is noticed elsewhere.
		w.Interim = func(h *fasthttp.ResponseHeader) { _ = message.WriteInterim(q.ctx.Conn(), h) }
	}
	seen := s.observe(q)
	out := s.outgoing(q, nil, w.Upgrade)
	seen.looksAt(q.upload)
	w.Upload = q.upload
	var looks *watch
	if !q.keyed && !q.derived { // what has a key is executed, whoever waits for it
		looks = q.watch(0)
	}
	w.Leash = looks.held()
	e := q.rules.upstream.Do(out, resp, w)
	q.unsent = e.Unsent() // of one that failed open
	protocol := bytes.Clone(message.ResponseValue(&resp.Header, "Upgrade"))
	seen.hears(&resp.Header, &e)
	e.Clean(resp, true, q.rules.unshared())
	seen.answered(q, &e, resp.StatusCode())
	if e.Rest == nil || resp.StatusCode() == fasthttp.StatusSwitchingProtocols {
		looks.end()
	}
	if e.Err != nil {
		s.fail(q, q.unguardedProblem(&e), e.Err)
		return
	}
	if e.Rest != nil && resp.StatusCode() == fasthttp.StatusSwitchingProtocols {
		s.tunnel(q.ctx, e.Rest, protocol)
	} else if e.Rest != nil {
		if len(resp.Header.PeekTrailerKeys()) > 0 && q.ctx.Request.Header.IsHTTP11() { // HTTP/1.0 has none
			e.Rest.Trailers(&resp.Header)
			if q.background != nil {
				q.background.trailing = e.Rest
			}
		}
		if e.Rest.UnderWay() {
			resp.SetConnectionClose()
		}
		resp.ImmediateHeaderFlush = true
		s.watchCut(q, e.Rest, idem.Key{})
		s.stream(q, seen.follows(e.Rest), max(e.Rest.Length(), -1), looks)
	}
	q.report.Outcome, q.report.Status = Passed, resp.StatusCode()
}

// watchCut has a streamed response traced if it breaks off.
func (s *Server) watchCut(q *request, b *upstream.Body, key idem.Key) {
	if s.config.Trace.Cut != nil {
		id := string(q.named()) // the request has ended by then
		b.OnCut(func(err error) { s.config.Trace.Cut(id, key, err) })
	}
}

// tunnel answers 101 as the backend did, and then moves bytes both ways.
func (s *Server) tunnel(ctx *fasthttp.RequestCtx, b *upstream.Body, protocol []byte) {
	h := &ctx.Response.Header
	h.Add("Connection", "Upgrade")
	h.AddBytesV("Upgrade", protocol)
	ctx.Response.SkipBody = true
	client, t := ctx.Conn(), b.Tunnel() // a hijacked one, whose Close does nothing, reads ahead of the client's
	if c := clientOf(client); c != nil {
		c.tunnel.Store(true)
		c.whenGone(t.Abandon) // before the tunnel begins: the answer could not be written
	}
	if c, ok := client.(interface{ leave() net.Conn }); ok {
		client = c.leave()
	}
	ctx.Hijack(func(ahead net.Conn) { s.tunnels.Run(t, client, ahead) })
}

// failOpen forwards without a lease, as the operator chose for the route, and
// says so to client, log and metrics.
func (s *Server) failOpen(q *request, why error) {
	s.passThrough(q)
	if q.report.Outcome == Passed {
		q.report.Outcome, q.report.Err = FailedOpen, why
		q.ctx.Response.Header.Set(headerUnprotected, "true")
	}
}

// answerHere answers a TRACE or OPTIONS that was to come as far as this proxy.
func (q *request) answerHere() {
	resp := &q.ctx.Response
	q.report.Outcome, q.report.Status = Passed, fasthttp.StatusOK
	if q.ctx.IsTrace() {
		resp.Header.SetContentType("message/http")
		resp.SetBodyRaw(q.head.AppendEcho(nil, q.guarded()))
	}
}
