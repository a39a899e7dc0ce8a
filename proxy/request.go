package proxy

import (
	"errors"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/upstream"
)

// Names of fields that this package writes into answers.
const (
	// headerUnprotected marks what was forwarded without a lease, since the store
	// could not answer (fail open).
	headerUnprotected = "Idempotency-Unprotected"
	// headerDerived marks an answer to a request whose key was derived.
	headerDerived = "Idempotency-Key-Derived"
	// headerDuplicate marks an answer to a payload that came under another key
	// shortly before.
	headerDuplicate = "Idempotency-Duplicate"
)

// request is one on its way: what each room made of it, and what a trace is told
// in the end. It ends with the handler.
type request struct {
	ctx       *fasthttp.RequestCtx
	admission *admission
	live      *live
	rules     *Rules // of its route

	head message.Head
	who  caller.Caller
	// asked is what hashes are made of; its body comes last.
	asked operation.Asked

	keyed   bool
	derived bool // the key is to be derived from the payload
	sought  bool // whether there is a key, its body is yet to tell
	voided  int  // how many of its attempts were voided
	key     idem.Key
	earlier []idem.Key // what the key was called by earlier settings

	observed observed // see Rules.Observe

	wait     time.Duration    // how long it may take for a key in progress to end
	kept     idem.Response    // what the store is given of a response; its header has room for the next one's
	buffered int64            // bytes that it holds: see admission
	undone   int              // of these, what its body has become without its content codings
	counted  counted          // reads its body into memory
	upload   *upstream.Upload // its body, if it is passed on as it comes
	unsent   <-chan struct{}  // closed when its body, which is in memory, was sent; nil: it was
	// async: it prefers respond-async, and its route allows that. background is set for the
	// copy that is then executed, leave is due when the request has been answered.
	async      bool
	tape       *tape     // of its key, which it can join
	said       tapeAsked // what its response is recorded, and found, by; set by ask
	background *background
	leave      func()
	// untilClose is the response's body, if that ends with the connection.
	untilClose *underWay

	requestID, traceparent []byte // the client's, or those that it is forwarded with
	ownID                  message.RequestID

	report Report
	unread bool // if the recipe of the record that stands is not known here, it may be later
	// under is the method hashesUnder, made once for all requests of this room.
	under func(idem.Recipe) (idem.Hashes, bool)
}

//nolint:gochecknoglobals // a pool is made to be shared
var requests = sync.Pool{New: func() any {
	q := new(request)
	q.under = q.hashesUnder // once, since making it allocates
	return q
}}

// release leaves nothing of the request but room for another one.
func (q *request) release() {
	head, who, fields := q.head, q.who, q.kept.Header
	head.Reset()
	who.Reset()
	clear(fields)
	*q = request{head: head, who: who, kept: idem.Response{Header: fields[:0]}, under: q.under}
	requests.Put(q)
}

// Errors of identify, each a 400.
var (
	errKeyMissing    = errors.New("the request has no idempotency key, and this route requires one")
	errCallerUnknown = errors.New("nothing in the request says who asks")
)

// read takes in the header, and where it came from.
func (q *request) read() {
	q.head.Read(&q.ctx.Request.Header)
	q.requestID, q.traceparent = q.head.RequestID(), q.head.Traceparent()
	q.who.Read(q.ctx, &q.head, q.live.trusted)
}

// identify tells who asks, and for which operation.
func (q *request) identify() (err error) {
	q.read()
	q.asked = operation.Asked{
		Head: &q.head, Scheme: q.who.Scheme(), Host: q.head.Host(), Target: q.head.Target(), Most: q.rules.MaxRequestBody,
	}
	if q.rules.finder != nil {
		if err = q.find(false); err != nil || q.sought {
			return err
		}
	} else if q.key, q.keyed, err = operation.FindKey(&q.head, q.rules.KeyHeaders); err != nil {
		return err
	}
	return q.identified()
}

// identified is due when it is known whether the request has a key.
func (q *request) identified() error {
	r := q.rules
	if q.keyed || r.DeriveKey > 0 || r.MaxPerCaller > 0 || r.MaxPerAddress > 0 { // who asks for it pays for it
		q.who.Identify(r.recipe.Bind)
	}
	switch {
	case q.keyed:
		if err := r.Keys.Check(q.key); err != nil {
			return err
		}
	case r.RequireKey && q.head.MayChange() && r.finder.counts(&q.head):
		return errKeyMissing
	case !r.derives(&q.ctx.Request.Header):
		return nil
	case q.who.Known():
		q.derived = true
	case !r.RequireBind:
		return nil
	}
	if r.RequireBind && !q.who.Known() {
		return errCallerUnknown
	}
	q.wishes()
	return q.scoped()
}

// wishes settles how long the request waits for a key in progress, and whether it is
// answered before it is executed: what the client prefers, within what the route allows.
func (q *request) wishes() {
	if q.rules.Wait || q.rules.Join {
		q.wait = q.rules.MaxWait
	}
	prefer := q.head.Prefer()
	if len(prefer) == 0 {
		return
	}
	wait, found := message.PreferredWait(prefer)
	q.async = q.rules.RespondAsync && q.keyed && message.PrefersAsync(prefer)
	if found || q.async { // which would rather not wait at all, unless it says so
		q.wait = min(wait, q.rules.MaxWait)
	}
}

// scoped puts the key into its scope, and names those that it had by earlier
// settings. A request that lacks what one of these asks for could not have been
// sent under it.
func (q *request) scoped() error {
	r := q.rules
	bare := q.key
	if len(r.Scope) > 0 {
		scope, err := q.who.Scope(r.Scope, r.Tokens)
		if err != nil {
			return err
		}
		q.key = bare.InScope(scope)
	}
	if !q.keyed {
		return nil
	}
	for _, earlier := range r.EarlierScopes {
		scope, err := q.who.Earlier(earlier, r.Tokens)
		if key := bare.InScope(scope); err == nil && key != q.key && !contains(q.earlier, key) {
			q.earlier = append(q.earlier, key)
		}
	}
	return nil
}

func contains(all []idem.Key, key idem.Key) bool {
	for _, one := range all {
		if one == key {
			return true
		}
	}
	return false
}

// hashes are the request's by its route's own recipe.
func (q *request) hashes() idem.Hashes {
	return q.rules.recipe.Hashes(&q.asked, q.who.Digest())
}

// hashesUnder makes the request's hashes by the recipe of the record that it is to
// be compared with, and says whether it can. See idem.Request.
func (q *request) hashesUnder(name idem.Recipe) (by idem.Hashes, known bool) {
	known = q.know(name, func() (ok bool) {
		by, ok = q.hashesOf(&q.asked, name)
		return ok
	})
	return by, known
}

// know calls find, which needs a recipe, and says whether that is known; q.unread otherwise
// says whether it may be later. Another request may have had the recipe read from the store
// after find was called: then it is called again.
func (q *request) know(name idem.Recipe, find func() bool) bool {
	if q.unread = false; find() {
		return true
	}
	q.unread = q.live.unread != nil && q.live.unread(name)
	return !q.unread && find()
}

func (q *request) hashesOf(asked *operation.Asked, name idem.Recipe) (idem.Hashes, bool) {
	return q.live.recipes.Hash(q.live.own, &q.rules.recipe, name, asked, &q.who)
}

// outgoing is the request as it goes to the backend, which ends it (see
// upstream.Do). held is the attempt that it is, nil for none. A body in memory is
// referred to, not copied.
func (s *Server) outgoing(q *request, held *attempts, upgrade bool) *fasthttp.Request {
	in, out := &q.ctx.Request, fasthttp.AcquireRequest()
	on := message.Onward{
		Host: q.rules.upstream.Host(), Peer: q.ctx.RemoteAddr(), TLS: q.ctx.IsTLS(), Believed: q.who.Believed(),
		Upgrade: upgrade, Guarded: q.guarded(), Async: q.async,
	}
	if held != nil {
		on.Attempt, on.Token = held.number(), held.first.Owner()
	}
	if q.keyed {
		on.Scope = scopeField(held.named(q.key))
		if q.rules.settles() { // receipts are found by it, however a retry spells it
			on.Key = operation.KeyField(q.key)
		}
	}
	on.RequestID = q.named()
	on.Traceparent = s.traceparent(q)
	q.head.Forward(&out.Header, &on)
	stream := q.ctx.RequestBodyStream()
	if stream == nil {
		out.SetBodyRaw(in.Body())
		return out
	}
	conn := q.ctx.Conn()
	q.upload = &upstream.Upload{
		From: stream, Length: max(in.Header.ContentLength(), -1), Stop: func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) },
	}
	_ = conn.SetReadDeadline(time.Now().Add(s.config.BodyTimeout)) // see bodyDeadline; what fails now, fails when it is read
	q.upload.Announce(&in.Header, &out.Header)
	return out
}

// Asked is who sent a request whose key was held or dropped: see [idem.Asker]. It has bytes of
// its own.
type Asked struct {
	Route, Method, Path, RequestID string
}

// Asked implements idem.Asker.
func (q *request) Asked() any {
	return Asked{
		Route: q.report.Route, Method: string(q.report.Method), Path: string(q.report.Path), RequestID: string(q.named()),
	}
}

// named is the request's id, made here if its client gave it none.
func (q *request) named() []byte {
	if len(q.requestID) == 0 {
		q.requestID = q.ownID.New()
	}
	return q.requestID
}

// traceparent is what the backend gets instead of the client's, or since the
// client sent none; empty for the client's.
func (s *Server) traceparent(q *request) []byte {
	if s.config.Trace.Forward != nil {
		q.report.Traceparent = q.traceparent
		if own := s.config.Trace.Forward(&q.report); own != "" {
			return []byte(own)
		}
	}
	if len(q.traceparent) > 0 || s.config.Traceparent == message.PassTraceparent {
		return nil
	}
	q.traceparent = s.config.Traceparent.New()
	return q.traceparent
}
