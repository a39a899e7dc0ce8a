package proxy

import (
	"bytes"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/upstream"
)

// A request that prefers respond-async (RFC 7240 section 4.1), on a route that allows it,
// is executed as any other, under its lease and the watchdog's guard, but not in its
// handler: a copy of it goes through all that follows in a goroutine of its own. Its
// client gets 202 when the copy is about to be forwarded, and asks later: see outcomes.go.
// Whatever ends before that (a replay, a mismatch, a store that cannot answer) is answered
// as ever, and so is what the backend has answered before the client's patience was over
// (Prefer: respond-async, wait=N).

// background is what a copy and the handler that made it know of each other.
type background struct {
	accepted   chan struct{}  // closed when the copy is about to be forwarded
	attempt    uint32         // that it is then; written once, before accepted is closed, as is recipe
	recipe     idem.Recipe    // by which the attempt's record was made
	done       chan struct{}  // closed when it has been answered, and the handler has its answer
	once       sync.Once      // of accepted
	trailing   *upstream.Body // of a response that is passed through, if trailers follow it; nil for none
	leaveCrowd func()         // due when a copy that is alone has ended; nil for nothing

	mu    sync.Mutex
	alone bool // guarded by mu; the handler has answered 202 and gone
	ended bool // guarded by mu; there is an answer
}

// accept says that the copy is about to be forwarded. It may be repeated.
func (b *background) accept(attempt uint32, recipe idem.Recipe) {
	b.once.Do(func() {
		b.attempt, b.recipe = attempt, recipe
		close(b.accepted)
		failpoint.Reach("accepted")
	})
}

// leave has the copy go on alone; false if its answer is there already.
func (b *background) leave() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alone = !b.ended
	return b.alone
}

// end says that there is an answer, and whether somebody waits for it.
func (b *background) end() (awaited bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	return !b.alone
}

// answerAsync answers a request whose body has been read and that prefers respond-async.
func (s *Server) answerAsync(q *request, begun time.Time) {
	d, err := s.detached(q)
	if err != nil { // a token that has expired since, say
		s.refuse(q, keyProblem(err), err)
		return
	}
	b := d.background
	s.late.Add(1)
	go func() {
		defer s.late.Done()
		s.answer(d)
		if b.end() {
			close(b.done)
			return
		}
		s.endAlone(d, begun)
	}()
	if q.wait > 0 {
		patience := time.NewTimer(q.wait)
		defer patience.Stop()
		select {
		case <-b.done:
		case <-patience.C:
		}
	}
	select {
	case <-b.done:
	case <-b.accepted:
		// From here on the copy counts as the request under way, and holds what the
		// request held. Counted first: there is no moment in which nothing is under way.
		s.admission.requests.Add(1)
		if b.leave() {
			q.leave = nil
			s.answerAccepted(q, b.attempt, b.recipe)
			return
		}
		s.admission.requests.Add(-1)
		<-b.done
	}
	q.takeAnswer(d)
}

// detached is a copy of a request that outlives its handler: nothing in it is the
// connection's. It is never used again.
func (s *Server) detached(q *request) (*request, error) {
	d := requests.New().(*request) //nolint:forcetypeassert // see New
	d.ctx, d.admission, d.live, d.rules = new(fasthttp.RequestCtx), q.admission, q.live, q.rules
	d.ctx.Init2(detachedConnOf(q.ctx), silent{}, false)
	q.ctx.Request.CopyTo(&d.ctx.Request)
	q.ctx.Response.Header.CopyTo(&d.ctx.Response.Header) // nothing but what the server is set to: see emptyResponse
	d.background = &background{accepted: make(chan struct{}), done: make(chan struct{})}
	d.background.leaveCrowd = q.leave
	err := d.identify()
	d.asked.Body = d.ctx.Request.Body()
	if err == nil && d.sought {
		err = d.found()
	}
	if err != nil {
		return nil, err
	}
	d.wait = q.wait
	d.requestID = bytes.Clone(q.named())
	d.report.Method, d.report.Path, d.report.Route = d.ctx.Method(), message.PathOf(&d.ctx.Request.Header), q.report.Route
	d.report.Keyed, d.report.Key = d.keyed, d.key
	d.Hold(len(d.asked.Body))
	return d, nil
}

// endAlone ends a copy whose client has got 202: nobody takes its answer.
func (s *Server) endAlone(d *request, begun time.Time) {
	resp := &d.ctx.Response
	if resp.IsBodyStream() { // too large to keep, it is read to its end, within bounds
		_ = resp.CloseBodyStream()
	}
	if d.untilClose != nil {
		_ = d.untilClose.Close()
	}
	s.admission.hold(-d.buffered)
	s.admission.leave()
	if d.background.leaveCrowd != nil {
		d.background.leaveCrowd()
	}
	if s.config.Trace.Ended != nil {
		s.config.Trace.Ended(d.finish(begun))
	}
}

// takeAnswer has the request answered as its copy was.
func (q *request) takeAnswer(d *request) {
	from, to := &d.ctx.Response, &q.ctx.Response
	from.Header.CopyTo(&to.Header)
	to.SkipBody, to.ImmediateHeaderFlush = from.SkipBody, from.ImmediateHeaderFlush
	if rest := d.background.trailing; rest != nil { // which it says to this header, and no longer to its copy
		rest.Trailers(&to.Header)
	}
	if from.IsBodyStream() {
		to.SetBodyStream(from.BodyStream(), from.Header.ContentLength())
	} else {
		to.SetBodyRaw(from.Body()) // which nobody uses again
	}
	q.untilClose = d.untilClose
	q.buffered += d.buffered
	own := &q.report
	d.report.Method, d.report.Path = own.Method, own.Path
	*own = d.report
}

// detachedConn is what a copy knows of its client's connection.
type detachedConn struct{ local, remote net.Addr }

// Read implements net.Conn.
func (*detachedConn) Read([]byte) (int, error) { return 0, net.ErrClosed }

// Write implements net.Conn.
func (*detachedConn) Write([]byte) (int, error) { return 0, net.ErrClosed }

// Close implements net.Conn.
func (*detachedConn) Close() error { return nil }

// SetDeadline implements net.Conn.
func (*detachedConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (*detachedConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (*detachedConn) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr implements net.Conn.
func (c *detachedConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *detachedConn) RemoteAddr() net.Addr { return c.remote }

// detachedTLS is one of TLS, whose handshake is over.
type detachedTLS struct {
	detachedConn

	state tls.ConnectionState
}

// Handshake is one of the methods that fasthttp knows a connection of TLS by.
func (*detachedTLS) Handshake() error { return nil }

// ConnectionState is the other one.
func (c *detachedTLS) ConnectionState() tls.ConnectionState { return c.state }

func detachedConnOf(ctx *fasthttp.RequestCtx) net.Conn {
	plain := detachedConn{local: ctx.LocalAddr(), remote: ctx.RemoteAddr()}
	if state := ctx.TLSConnectionState(); state != nil {
		return &detachedTLS{plain, *state}
	}
	return &plain
}
