package upstream

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

// Upstream is one or more backends that do the same work. How a request goes
// over a connection is written here, since the promise of never sending twice
// depends on each step: no retry, no write before the connection was seen to be
// alive, and a record of whether a byte was written. Another backend is tried
// only if the first got nothing.
type Upstream struct {
	config    Config
	network   Network
	trace     *Trace
	endpoints atomic.Pointer[[]*endpoint]
	turn      atomic.Uint32
	watching  watcher
}

// endpoint is one address, with the connections to it.
type endpoint struct {
	origin    string // as configured
	name      string // with the address that the origin's name stood for
	host      string // host:port for a request that does not say
	dialer    *dialer
	client    *fasthttp.HostClient
	maxHeader int          // of a response
	limit     int64        // of active
	active    atomic.Int64 // exchanges that have a connection, or wait for one
	failures  atomic.Int32 // in a row
	down      atomic.Bool
	out       atomic.Pointer[leftOut] // nil while it is not down
	checks    int                     // that failed in a row; the watcher's own
	gone      atomic.Bool
}

// maxInterim bounds the interim responses (RFC 9110 section 15.2) before one
// response, in bytes: a backend that says every ten seconds that it is at work may
// do so for days. Their time is the exchange's.
const maxInterim = 1 << 20

// Errors of an exchange.
var (
	// ErrNoConn: MaxConns are in use and none became free.
	ErrNoConn = errors.New("no connection to the backend is free")
	// ErrQueueFull: so many wait for a connection that waiting is no use.
	ErrQueueFull = errors.New("too many requests wait for a connection to the backend")
	// ErrClientBody: not the backend, but the client broke off.
	ErrClientBody     = errors.New("reading the request's body from the client")
	errTooManyInterim = fmt.Errorf("more than %d bytes of interim (1xx) responses", maxInterim)
	errUpgraded       = errors.New("the backend switched protocols unasked")
)

// Want is what the caller of Do needs.
type Want struct {
	Buffer  int           // read a response up to that many bytes whole
	Timeout time.Duration // of the whole exchange; 0 for none
	Upgrade bool          // 101 may come
	// Interim gets interim responses other than 100, which this hop has seen to; nil:
	// nobody does.
	Interim func(*fasthttp.ResponseHeader)
	// Memory is told of bytes of the response that are read into memory; nil: nobody is.
	Memory Memory
	// Room gives room for a response of n bytes, more than Large, that is read whole; nil:
	// it is made for each.
	Room func(n int) []byte
	// Upload is the request's body if it is still on its way; nil if the request has
	// all of it.
	Upload *Upload
	// Leash ends the exchange when it is pulled; nil: nobody does.
	Leash *Leash
}

// Large is from which size on Want.Room is asked.
const Large = 64 << 10

// Memory counts bytes that are in memory. What a backend answers is read whatever it
// counts: the request has been executed.
type Memory interface{ Hold(n int) }

func (w *Want) hold(n int) {
	if w.Memory != nil && n > 0 {
		w.Memory.Hold(n)
	}
}

// Exchange is one request's way to the backend and back.
type Exchange struct {
	Sent    idem.Sent
	Err     error // why it is not Answered
	Timeout bool  // time was up
	// Rest is what was not read into the response: the response is longer than
	// asked for, or its length is not known. The exchange is Answered only when
	// Rest has been read to its end.
	Rest     *Body
	deadline time.Time
	want     Want
	touched  bool // part of the request's body is gone from where it came from
	framed   bool // the request's header says how long its body is
}

func (e *Exchange) fail(sent idem.Sent, err error) {
	e.Sent, e.Err = sent, err
	e.Timeout = e.late() || isTimeout(err)
	if e.want.Leash.gone() {
		e.Err, e.Timeout = fmt.Errorf("%w: %w", ErrClientGone, err), false
	}
}

// isTimeout also knows fasthttp's own timeouts.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func (e *Exchange) late() bool { return !e.deadline.IsZero() && !time.Now().Before(e.deadline) }

// Clean takes the hop-by-hop fields off the response. trailers and gone: see
// message.CleanResponse.
func (e *Exchange) Clean(resp *fasthttp.Response, trailers bool, gone func(name []byte) bool) {
	if e.Err != nil {
		return
	}
	if err := message.CleanResponse(resp, trailers, gone); err != nil {
		if e.Rest != nil {
			e.Rest.end(false)
			e.Rest = nil
		}
		e.fail(idem.MayHaveExecuted, err)
	}
}

// Do sends req and reads the response's header, and its body if that is known
// to have at most w.Buffer bytes. A backend that got nothing of the request is
// followed by another one, each at most once. Do releases req.
func (u *Upstream) Do(req *fasthttp.Request, resp *fasthttp.Response, w Want) (e Exchange) {
	e.want = w
	if w.Timeout > 0 && w.Upload == nil {
		e.deadline = time.Now().Add(w.Timeout)
	}
	all := *u.endpoints.Load()
	var tried uint64
	for {
		i := u.pick(all, tried)
		if i < 0 {
			break
		}
		tried |= 1 << i
		p := all[i]
		e.Err = nil
		p.do(&e, req, resp)
		u.judge(p, &e)
		if e.Err == nil || e.Sent != idem.NothingSent || e.touched || e.late() || errors.Is(e.Err, ErrNoConn) {
			break
		}
	}
	if e.Rest == nil || e.Rest.upload == nil { // which needs it until it ends
		fasthttp.ReleaseRequest(req)
	}
	return e
}

// Host is what a request is for that does not say.
func (u *Upstream) Host() string { return (*u.endpoints.Load())[0].host }

// do is one attempt at one endpoint.
func (p *endpoint) do(e *Exchange, req *fasthttp.Request, resp *fasthttp.Response) {
	if p.active.Add(1) > p.limit {
		p.active.Add(-1)
		e.fail(idem.NothingSent, ErrQueueFull)
		return
	}
	for {
		cc, err := p.client.AcquireConn(e.want.Timeout, false)
		if err != nil {
			p.active.Add(-1)
			if errors.Is(err, fasthttp.ErrNoFreeConns) || errors.Is(err, fasthttp.ErrTimeout) { // not of dialling
				err = ErrNoConn
			}
			e.fail(idem.NothingSent, err)
			return
		}
		conn := cc.Conn()
		err = unwrap(conn).bound(e.deadline)
		if err == nil {
			err = aliveBeforeWrite(conn)
		}
		if err == nil {
			b := unwrap(conn)
			if b.release == nil {
				b.release = func(reuse bool) {
					if reuse && !p.gone.Load() {
						p.client.ReleaseConn(cc)
					} else {
						p.client.CloseConn(cc)
					}
					p.active.Add(-1)
				}
			}
			p.exchange(e, pooledConn{conn: conn, leash: e.want.Leash, give: b.release}, req, resp)
			return
		}
		// Closed by the backend since its last use, and noticed before a byte
		// was written: the one case in which another connection is taken. A
		// backend that closes a new one has no use for further ones either.
		fresh := isFresh(conn)
		p.client.CloseConn(cc)
		if fresh {
			p.active.Add(-1)
			e.fail(idem.NothingSent, err)
			return
		}
	}
}

// pooledConn is a connection on loan; the zero value is none.
type pooledConn struct {
	conn  net.Conn
	leash *Leash
	give  func(reuse bool)
}

// release gives the connection back, or closes it.
func (c pooledConn) release(reuse bool) {
	c.leash.drop()
	c.give(reuse)
}

// exchange sends the request and reads the response, one after the other, or both at
// once if the request's body is still on its way, or larger than sockets have room for.
func (p *endpoint) exchange(e *Exchange, c pooledConn, req *fasthttp.Request, resp *fasthttp.Response) {
	if e.want.Upload != nil {
		p.duplex(e, c, req, resp)
		return
	}
	if len(req.Body()) > fitting {
		p.whole(e, c, req, resp)
		return
	}
	c.leash.hold(unwrap(c.conn))
	before := written(c.conn)
	early := false
	err := p.send(c, req)
	if err != nil {
		if early = p.answersEarly(e, c, before); !early {
			c.release(false)
			e.fail(sentSince(c, before), err)
			return
		}
	}
	b := p.newBody(c, resp)
	if readErr := b.start(req, resp, &e.want, e.want.Buffer); readErr != nil {
		b.end(false)
		if !early || errors.Is(readErr, ErrHeaderTooLarge) {
			err = fmt.Errorf("reading the response: %w", readErr)
		}
		e.fail(idem.MayHaveExecuted, err)
		return
	}
	b.reuse = b.reuse && !early
	e.answered(b)
}

// send writes the request.
func (p *endpoint) send(c pooledConn, req *fasthttp.Request) error {
	bw := p.client.AcquireWriter(c.conn)
	defer p.client.ReleaseWriter(bw)
	err := req.Write(bw)
	if err == nil {
		err = bw.Flush()
	}
	if err != nil {
		return fmt.Errorf("sending the request: %w", err)
	}
	return nil
}

// sentSince is what is known of a request that was broken off.
func sentSince(c pooledConn, before int64) idem.Sent {
	if written(c.conn) == before {
		return idem.NothingSent
	}
	return idem.MayHaveExecuted
}

//nolint:gochecknoglobals // a pool is made to be shared
var bodies = sync.Pool{New: func() any { return new(Body) }}

func (p *endpoint) newBody(c pooledConn, resp *fasthttp.Response) *Body {
	resp.Header.DisableNormalizing()
	resp.Header.SetNoDefaultContentType(true)
	b := bodies.Get().(*Body) //nolint:forcetypeassert // see New
	*b = Body{client: p.client, conn: c, reader: p.client.AcquireReader(c.conn), maxHeader: p.maxHeader}
	return b
}

// answered ends the exchange with what was read of the response. A body of which
// nothing is left nobody else has seen, and it is used again.
func (e *Exchange) answered(b *Body) {
	e.Sent, e.Rest = idem.Answered, b
	if b.done && b.upload == nil {
		b.end(true)
		e.Rest = nil
		*b = Body{}
		bodies.Put(b)
	}
}

// lastWord is how long a backend that stopped reading may take to say why.
const lastWord = time.Second

// answersEarly says whether a backend that does not take the request to its end
// may have answered it all the same: with 413 to a body that is too long, say
// (RFC 9110 section 10.1.1, RFC 9112 section 9.5).
func (p *endpoint) answersEarly(e *Exchange, c pooledConn, before int64) bool {
	if e.late() || written(c.conn) == before {
		return false
	}
	deadline := time.Now().Add(lastWord)
	if !e.deadline.IsZero() && e.deadline.Before(deadline) {
		deadline = e.deadline
	}
	return c.conn.SetReadDeadline(deadline) == nil
}

// Is says whether it is what New would make of a config; SetDefaults was called on
// that.
func (u *Upstream) Is(c *Config) bool { return reflect.DeepEqual(&u.config, c) }
