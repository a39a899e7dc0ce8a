package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

// Upload is the client's body on its way, which remembers that the client, and
// not the backend, broke it off. Its first error is its last word: fasthttp
// looks over an error that comes along with bytes, and would go on behind it.
type Upload struct {
	// From is the client's body. Stop has a Read of it that waits end with an error.
	From io.Reader
	Stop func()
	// Length is the body's; -1 if it is chunked.
	Length int

	err      error
	came     atomic.Int64
	ended    atomic.Bool             // all of it has come
	from, to *fasthttp.RequestHeader // of the trailers, if there are any
}

// read gives what has come.
func (u *Upload) read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	n, err := u.From.Read(p)
	u.came.Add(int64(n))
	switch {
	case errors.Is(err, io.EOF):
		u.ended.Store(true)
		message.CopyTrailers(u.to, u.from)
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrClientBody, err)
		u.err = err
	}
	return n, err
}

// Announce has the trailers passed on that the client announced (RFC 9110
// section 6.6.2). Others are dropped, as section 6.5.1 allows.
func (u *Upload) Announce(from, to *fasthttp.RequestHeader) {
	if names := from.PeekTrailerKeys(); len(names) > 0 {
		u.from, u.to = from, to
		_ = to.SetTrailerBytes(bytes.Join(names, []byte(", "))) // a name that no trailer may have stays out
	}
}

// sender sends a request whose body is on its way, while the response is awaited,
// and perhaps read: RFC 9112 section 9.3 has both directions of a connection open
// at once, and there are backends that answer while they read.
type sender struct {
	upload  *Upload
	conn    *backendConn
	before  int64 // what was written to it
	req     *fasthttp.Request
	begun   atomic.Bool // the response has
	stopped atomic.Bool
	done    chan struct{} // closed when it has ended
	err     error         // why it broke off; valid when it has ended

	// body is the request's, if it is in memory: see endpoint.whole. Then all ends at deadline,
	// unless that is zero.
	body     []byte
	deadline time.Time
}

// errStopped: it did not break off by itself.
var errStopped = errors.New("the rest of the request is not wanted")

// duplex sends and reads at once.
func (p *endpoint) duplex(e *Exchange, c pooledConn, req *fasthttp.Request, resp *fasthttp.Response) {
	s := &sender{upload: e.want.Upload, conn: unwrap(c.conn), before: written(c.conn), req: req, done: make(chan struct{})}
	e.touched = true
	if err := s.conn.beginUpload(e.want.Timeout); err != nil {
		c.release(false)
		e.fail(idem.NothingSent, err)
		return
	}
	c.leash.hold(s.conn)
	go s.run(p, c, e.want.Timeout)
	p.hear(e, c, s, resp)
}

// settle waits a moment for the end of a request of which all has come: an answer may
// overtake the word that its last bytes were written.
func (s *sender) settle() {
	if !s.upload.ended.Load() {
		return
	}
	s.await(moment)
}

// moment is how long it takes at most until it is known that what was sent was sent.
const moment = 100 * time.Millisecond

// await waits for the request's end for some time.
func (s *sender) await(most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
	}
}

// underWay says whether the request still is.
func (r *Body) underWay() bool { return r.upload != nil && r.upload.underWay() }

func (s *sender) underWay() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// run sends, and then sees to it that reading ends. timeout is the exchange's.
func (s *sender) run(p *endpoint, c pooledConn, timeout time.Duration) {
	defer close(s.done)
	bw := p.client.AcquireWriter(c.conn)
	err := s.write(bw)
	p.client.ReleaseWriter(bw)
	if err == nil {
		s.conn.endUpload(timeout)
		return
	}
	s.err = fmt.Errorf("sending the request: %w", err)
	switch {
	case s.stopped.Load():
		s.err = errStopped
	case errors.Is(err, ErrClientBody): // nobody is there for the answer, or it is about half a request
		s.conn.endUpload(0)
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	default: // see answersEarly
		s.conn.endUpload(lastWord)
		if s.begun.Load() {
			s.conn.endUpload(timeout)
		}
	}
}

//nolint:gochecknoglobals // a pool is made to be shared
var pieces = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// write writes the request. Each piece of the body goes on before another one is
// waited for, which the client's library would not do with one of a known length.
func (s *sender) write(bw *bufio.Writer) error {
	length := s.upload.Length
	s.frame(length)
	if err := s.req.Header.Write(bw); err != nil {
		return fmt.Errorf("the header: %w", err)
	}
	piece := pieces.Get().(*[32 << 10]byte) //nolint:forcetypeassert // see New
	defer pieces.Put(piece)
	for {
		if err := bw.Flush(); err != nil {
			return err //nolint:wrapcheck // the caller says what for
		}
		n, err := s.upload.read(piece[:])
		switch {
		case n > 0 && length < 0:
			_, _ = fmt.Fprintf(bw, "%x\r\n", n) // the flush says of all of them whether they failed
			_, _ = bw.Write(piece[:n])
			_, _ = bw.WriteString("\r\n")
		case n > 0:
			_, _ = bw.Write(piece[:n])
		}
		switch {
		case errors.Is(err, io.EOF) && length >= 0 && s.upload.came.Load() != int64(length):
			return fmt.Errorf("%w: %w", ErrClientBody, io.ErrUnexpectedEOF)
		case errors.Is(err, io.EOF):
			if length < 0 {
				_, _ = bw.WriteString("0\r\n")
				_, _ = bw.Write(s.req.Header.TrailerHeader())
			}
			return bw.Flush() //nolint:wrapcheck // as above
		case err != nil:
			return err
		}
	}
}

// frame writes how the body is framed into the header.
func (s *sender) frame(length int) {
	if length < 0 {
		s.req.Header.SetContentLength(-1)
		return
	}
	var digits [20]byte // a raw header, as message.Head makes it, has it as any other field
	s.req.Header.AddBytesV("Content-Length", strconv.AppendInt(digits[:0], int64(length), 10))
}

// stop has the client's body end now, and nothing more be sent.
func (s *sender) stop() {
	s.stopped.Store(true)
	if s.body != nil {
		s.conn.endBy(time.Unix(1, 0))
		return
	}
	_ = s.conn.SetWriteDeadline(time.Unix(1, 0))
	s.upload.Stop()
}

// finish waits for the request's end, after the response's: as long as the client
// goes on sending and the backend taking, since the backend may want all of it. If
// the response was cut, nothing more is sent; nor if the backend has refused what it has not
// read, and a client waits for the answer until all was sent.
func (s *sender) finish(whole, refused bool) error {
	switch {
	case !whole:
		s.stop()
	case refused && s.body != nil:
		if s.await(moment); s.underWay() {
			s.stop()
		}
	}
	tick := time.NewTicker(lastWord)
	defer tick.Stop()
	for came := s.upload.came.Load(); ; {
		select {
		case <-s.done:
			return s.err
		case <-tick.C:
		}
		now := s.upload.came.Load()
		if now == came {
			s.stop()
			<-s.done
			return s.err
		}
		came = now
	}
}
