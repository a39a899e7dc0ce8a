package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"time"

	"github.com/valyala/fasthttp"
)

// fitting is up to which size a request's body is sent before the response is read: sockets have
// room for it, whatever the backend does meanwhile. A larger one is sent while the response is
// read. A backend that answers as it reads would read no further otherwise, once nobody takes
// what it answers.
const fitting = 64 << 10

// wholePiece is how much of a larger one is sent at a time, so that it is seen to go on.
const wholePiece = 64 << 10

// whole sends a request whose body is in memory, and reads at once.
func (p *endpoint) whole(e *Exchange, c pooledConn, req *fasthttp.Request, resp *fasthttp.Response) {
	body := req.Body()
	s := &sender{
		upload: &Upload{Length: len(body)}, body: body, deadline: e.deadline,
		conn: unwrap(c.conn), req: req, before: written(c.conn), done: make(chan struct{}),
	}
	if !e.framed { // another backend that gets the request gets the same header
		s.frame(len(body))
		e.framed = true
	}
	c.leash.hold(s.conn)
	s.conn.beginWhole()
	go s.runWhole(p, c)
	p.hear(e, c, s, resp)
}

// runWhole sends, and then sees to it that reading ends.
func (s *sender) runWhole(p *endpoint, c pooledConn) {
	defer close(s.done)
	bw := p.client.AcquireWriter(c.conn)
	err := s.writeWhole(bw)
	p.client.ReleaseWriter(bw)
	switch {
	case err == nil:
		s.conn.endWhole(s.deadline)
		return
	case s.stopped.Load():
		s.err = errStopped
		return
	}
	s.err = fmt.Errorf("sending the request: %w", err)
	if written(c.conn) == s.before { // there is nothing to answer
		s.conn.endBy(time.Unix(1, 0))
		return
	}
	s.conn.endWhole(earlier(time.Now().Add(lastWord), s.deadline)) // see lastWord
	if s.begun.Load() {
		s.conn.goOn(s.deadline)
	}
}

func (s *sender) writeWhole(bw *bufio.Writer) error {
	if err := s.req.Header.Write(bw); err != nil {
		return fmt.Errorf("the header: %w", err)
	}
	for rest := s.body; len(rest) > 0; {
		piece := rest[:min(len(rest), wholePiece)]
		if s.stopped.Load() {
			return errStopped
		}
		if _, err := bw.Write(piece); err != nil {
			return err //nolint:wrapcheck // the caller says what for
		}
		s.upload.came.Add(int64(len(piece)))
		rest = rest[len(piece):]
	}
	s.upload.ended.Store(true)
	return bw.Flush() //nolint:wrapcheck // as above
}

// hear reads the response while the request is sent.
func (p *endpoint) hear(e *Exchange, c pooledConn, s *sender, resp *fasthttp.Response) {
	b := p.newBody(c, resp)
	b.upload = s
	err := b.start(s.req, resp, &e.want, e.want.Buffer)
	s.begun.Store(true)
	if s.body != nil && err == nil {
		s.conn.goOn(s.deadline) // it may have had a moment only
	}
	s.settle()
	if err == nil {
		if b.done && s.body != nil || !b.underWay() {
			b.reuse = s.finish(true, b.refused) == nil && b.reuse
			b.upload = nil
		}
		e.answered(b)
		return
	}
	s.stop()
	<-s.done
	b.upload = nil
	b.end(false)
	if why := s.err; why != nil && !errors.Is(why, errStopped) && !errors.Is(err, ErrHeaderTooLarge) { // which came first
		e.fail(sentSince(c, s.before), why)
		return
	}
	e.fail(sentSince(c, s.before), fmt.Errorf("reading the response: %w", err))
}

// Unsent is closed when nobody needs the request's body any more, which is in memory; nil if
// nobody does already.
func (e *Exchange) Unsent() <-chan struct{} {
	if e.Rest == nil || e.Rest.upload == nil || e.Rest.upload.body == nil {
		return nil
	}
	return e.Rest.upload.done
}

// beginWhole has no time count between two reads while the request is sent.
func (b *backendConn) beginWhole() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.uploading = true
}

// endWhole is due when the request was sent: the rest of the exchange ends at deadline.
func (b *backendConn) endWhole(deadline time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.uploading { // else somebody has given it another one: see Within
		b.uploading = false
		b.limit(deadline)
	}
}

// goOn has the exchange end at deadline.
func (b *backendConn) goOn(deadline time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit(deadline)
}

// limit is goOn with mu held.
func (b *backendConn) limit(deadline time.Time) {
	b.deadline = earlier(deadline, b.last)
	till := b.deadline
	if !b.uploading {
		till = b.next(b.readTimeout)
	}
	_ = b.SetReadDeadline(till) // if it cannot be set, reading fails too
	_ = b.SetWriteDeadline(b.deadline)
}
