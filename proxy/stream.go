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
	s.streams.Add(1)
	body := &underWay{ReadCloser: from, watch: w, streams: &s.streams}
	if length < 0 && !q.ctx.Request.Header.IsHTTP11() {
		q.untilClose = body
		return
	}
	q.ctx.Response.SetBodyStream(inPieces{body}, length)
}

// inPieces is a body that is passed on in larger pieces than the server's own buffer
// holds, each as it comes.
type inPieces struct{ io.ReadCloser }

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
