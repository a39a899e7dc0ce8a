package proxy

import (
	"cmp"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/valyala/fasthttp"
)

// stream has a response's body passed on as it comes; length is -1 if nobody knows it.
// w looks after the client meanwhile.
func (s *Server) stream(q *request, from io.ReadCloser, length int, w *watch) {
	body := &underWay{ReadCloser: from, watch: w, length: length}
	if length < 0 && !q.ctx.Request.Header.IsHTTP11() {
		q.untilClose = body
		return
	}
	q.ctx.Response.SetBodyStream(body, length)
}

// underWay is a response's body that is passed on after its request's handler, and has the
// request's place until it is closed.
type underWay struct {
	io.ReadCloser
	watch  *watch // looks after the client; nil: nobody does
	length int    // -1: not known
	once   sync.Once

	place  *place   // see Server.depart, which sets both; nil: it has none
	client net.Conn // nil: nobody is there

	own    place  // so that each is no allocation of its own
	outlet outlet // likewise
}

// vacate gives up the place. It may be repeated, by the same goroutine.
func (u *underWay) vacate() {
	u.place.giveUp()
	u.place = nil
}

// Close implements io.Closer. It may be repeated.
func (u *underWay) Close() (err error) {
	u.once.Do(func() {
		u.watch.end()
		err = u.ReadCloser.Close() // which may read on: see keyedStream
		u.vacate()
	})
	return err //nolint:wrapcheck // it stands in for the body
}

// SupportsBodyWriteTo implements fasthttp.BodyWriterTo.
func (*underWay) SupportsBodyWriteTo() bool { return true }

// WriteTo implements io.WriterTo.
func (u *underWay) WriteTo(w io.Writer) (int64, error) {
	if u.length >= 0 && u.client != nil {
		u.outlet = outlet{body: u, left: u.length}
		w = &u.outlet
	}
	if r, ok := u.ReadCloser.(*tapeReader); ok { // it needs no buffer
		return r.WriteTo(w)
	}
	return inPieces{u.ReadCloser}.WriteTo(w)
}

// outlet is where a body of known length is written to: the client's connection, past the
// server's buffer. That one keeps back what it has room for, until more comes or the body has
// ended; of chunks it keeps nothing back. It is empty, since the header was flushed. A piece is
// all that has come, so that a fast response is written in no more pieces than it is read in.
type outlet struct {
	body *underWay
	left int
}

var errTooMuch = errors.New("the body is longer than its length")

// Write implements io.Writer. The place is given up before the last bytes are written: who has
// them may come again at once.
func (o *outlet) Write(p []byte) (int, error) {
	if o.left -= len(p); o.left < 0 {
		return 0, errTooMuch
	}
	if o.left == 0 {
		o.body.vacate()
	}
	return o.body.client.Write(p) //nolint:wrapcheck // it stands in for the client
}

// inPieces is a body that is passed on in larger pieces than the server's own buffer
// holds, each as it comes.
type inPieces struct{ io.Reader }

//nolint:gochecknoglobals // a pool is made to be shared
var pieces = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// WriteTo implements io.WriterTo.
func (b inPieces) WriteTo(w io.Writer) (int64, error) {
	piece := pieces.Get().(*[32 << 10]byte) //nolint:forcetypeassert // see New
	defer pieces.Put(piece)
	for written := int64(0); ; {
		n, err := b.Read(piece[:])
		if n > 0 {
			n, failed := w.Write(piece[:n])
			written += int64(n)
			err = cmp.Or(failed, err)
		}
		switch {
		case errors.Is(err, io.EOF):
			return written, nil
		case err != nil:
			return written, err //nolint:wrapcheck // it stands in for the body
		}
	}
}

// writeUntilClose answers a client of HTTP/1.0, which knows no chunks (RFC 9112
// section 6.1): the body ends with the connection. fasthttp would chunk it, so the
// connection is taken from it, and the answer is written here. It is the last step
// of a handler.
func (s *Server) writeUntilClose(ctx *fasthttp.RequestCtx, body io.ReadCloser) {
	h := &ctx.Response.Header
	h.SetContentLength(-2)
	h.Del("Transfer-Encoding")
	_ = h.SetTrailer("") // there is no place for them
	h.SetConnectionClose()
	head := append([]byte(nil), h.Header()...)
	var begun atomic.Bool
	s.late.Add(1)
	end := func() {
		_ = body.Close()
		s.late.Done()
	}
	if c := clientOf(ctx.Conn()); c != nil {
		c.whenGone(func() {
			if !begun.Swap(true) { // it went before the server had handed it over
				end()
			}
		})
	}
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(client net.Conn) {
		if begun.Swap(true) {
			return
		}
		defer end()
		if _, err := client.Write(head); err == nil {
			_, _ = io.Copy(client, body) // a client that has left is no fault; a backend's cut is traced by the body
		}
	})
}
