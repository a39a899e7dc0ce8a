package proxy

import "sync/atomic"

// place is that of a request among those under way, while its response is passed on after its
// handler. Who executes a stream and the client that it is executed for share one: it is given
// back when neither is at it any more.
type place struct {
	shares    atomic.Int32
	admission *admission
	quit      func() // leaves the crowd; nil: it is in none
}

// giveUp is due once a share. Nil has been given up.
func (p *place) giveUp() {
	if p == nil || p.shares.Add(-1) > 0 {
		return
	}
	p.admission.leave()
	if p.quit != nil {
		p.quit()
	}
}

// depart is due when a request's handler has ended that let it in. Its place is given back, or
// is its response's from now on. It holds no bytes any more.
func (s *Server) depart(q *request) {
	s.admission.hold(-q.buffered)
	body := q.untilClose
	if body == nil {
		body, _ = q.ctx.Response.BodyStream().(*underWay)
	}
	if body == nil {
		s.admission.leave()
		q.quit()
		return
	}
	body.client = q.ctx.Conn()
	if body.length >= 0 {
		q.ctx.Response.ImmediateHeaderFlush = true // see outlet
	}
	body.own.admission, body.own.quit = &s.admission, q.leave
	body.own.shares.Store(1)
	body.place = &body.own
	if r, ok := body.ReadCloser.(*tapeReader); ok {
		r.share(body.place)
	}
}

// quit leaves the crowd, unless somebody else does it.
func (q *request) quit() {
	if q.leave != nil {
		q.leave()
	}
}

// share has whoever executes the response share the place of the client that it is executed for.
func (r *tapeReader) share(p *place) {
	t := r.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.isFirst && !t.played {
		p.shares.Add(1)
		t.place = p
	}
}

// vacate is due when nothing more is read of the response: before anybody learns that, who may
// come again at once.
func (t *tape) vacate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.played = true
	t.place.giveUp()
	t.place = nil
}
