package proxy

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/upstream"
)

// Observing: a request is passed through as one without a key, and beside that it is
// looked at what would have become of it. Nothing here waits for anything, and nothing
// here can refuse: what it sees goes to the ledger and to the trace.

// observed is what is known of a request that is only observed. Everything else takes
// such a request for one without a key.
type observed struct {
	on             bool
	keyed, derived bool
	sought         bool  // whether it has a key, its body is yet to tell
	refused        error // why it would have been refused
}

// shares is what Rules.ObservedShare is a part of.
const shares = 10_000

// isObserved decides, after identify. A key is always on one side of a given share, and stays
// enforced when fewer are observed. Its scope does not count.
func (q *request) isObserved() bool {
	r := q.rules
	if q.sought && !r.Observe { // the key decides
		return false
	}
	if r.Observe || r.ObservedShare == 0 || !q.keyed {
		return r.Observe || r.ObservedShare > 0
	}
	id := q.key.InScope("").ID()
	return shareOf(id) >= shares-r.ObservedShare
}

// shareOf spreads keys evenly over the shares.
func shareOf(id [16]byte) int {
	return int(uint64(binary.BigEndian.Uint32(id[:])) * shares >> 32)
}

// letPass has the request treated as one without a key. err is why it would have been
// refused.
func (q *request) letPass(err error) {
	q.observed = observed{on: true, keyed: q.keyed, derived: q.derived, sought: q.sought, refused: err}
	q.keyed, q.derived, q.sought, q.async, q.wait = false, false, false, false, 0
	q.head.NoKeys()
}

// guarded are the fields that this proxy goes by.
func (q *request) guarded() []string {
	if q.observed.on {
		return q.rules.unkeyed
	}
	return q.rules.guarded
}

// Why a request would have been refused that could be identified.
var errObservedSize = errors.New("the body is larger than max_request_body")

// sight is what is seen of one request. A nil one sees nothing. It may outlive the
// request, with bytes of its own.
type sight struct {
	ledger *ledger
	learns *studies
	traits traits
	begun  time.Time
	hold   func(route string)
	route  string

	derived   bool
	body      *bodySight // of a body that is passed on as it comes
	policy    idem.Policy
	most      int    // of a response that would be kept
	entry     *entry // the record; nil: it would not have been acquired
	status    int
	noStore   bool
	retention time.Duration
}

// observe looks at a request that is about to be forwarded, whose body has been read
// if it is a small one.
func (s *Server) observe(q *request) *sight {
	o := &q.observed
	if o.sought {
		q.seekObserved()
	}
	switch {
	case !o.on:
		return nil
	case o.refused != nil:
		q.report.Would, q.report.Err = WouldRefuse, o.refused
		s.studies.note(q.report.Route, func(o *Observations) { o.Would[WouldRefuse.String()]++ })
		return nil
	case !o.keyed && !o.derived:
		if o.sought {
			q.report.Would = WouldNotBeCompared
		}
		if q.head.MayChange() {
			s.studies.note(q.report.Route, func(o *Observations) { o.Keyless++ })
		}
		return nil
	}
	r := q.rules
	w := &sight{
		ledger: s.ledger, learns: s.studies, traits: s.studies.traitsOf(q), begun: time.Now(),
		hold: s.config.Trace.WouldHold, route: strings.Clone(q.report.Route), derived: o.derived,
		policy: r.Policy, most: r.MaxResponseBody, retention: r.Policy.Retention,
	}
	if o.derived {
		w.policy, w.retention = r.derived, r.derived.Retention
	}
	if q.ctx.RequestBodyStream() != nil {
		w.body = &bodySight{sum: sha256.New(), length: q.ctx.Request.Header.ContentLength()}
		return w
	}
	if !r.Fingerprint.IsOfForm() {
		sum := sha256.Sum256(q.asked.Body)
		w.decide(q, sum[:])
	} else {
		w.decide(q, q.asked.Body)
	}
	return w
}

// decide asks the ledger. body stands for the request's: its SHA-256, so that it is the
// same whether it was read first or passed on as it came.
func (w *sight) decide(q *request, body []byte) {
	q.asked.Body = body
	if !w.acceptable(q) {
		q.report.Would, q.report.Err = WouldRefuse, errObservedSize
		w.learns.asked(w.route, &w.traits, WouldRefuse, nil)
		return
	}
	ask := idem.Request{Key: q.key, Policy: &w.policy, Recipe: q.rules.recipe.ID, Under: q.under}
	by := q.hashes()
	ask.Fingerprint, ask.Binding, ask.Hints = by.Fingerprint, by.Binding, by.Hints
	if w.derived {
		ask.Key = operation.DerivedKey(&ask)
	}
	q.report.Key = ask.Key
	var met *meeting
	q.report.Would, met, w.entry = w.ledger.begin(&ask, &w.traits, w.begun)
	if q.report.Would == WouldMismatch {
		q.report.Differs = met.differs
	}
	w.learns.asked(w.route, &w.traits, q.report.Would, met)
}

// acceptable says whether the body is not too large.
func (w *sight) acceptable(q *request) bool {
	n := int64(len(q.ctx.Request.Body()))
	if w.body != nil {
		n = w.body.n
	}
	return n <= int64(q.rules.MaxRequestBody)
}

// looksAt has the body hashed as it comes.
func (w *sight) looksAt(u *upstream.Upload) {
	if w != nil && w.body != nil && u != nil {
		w.body.Reader, u.From = u.From, w.body
	}
}

// hears what the backend wishes.
func (w *sight) hears(h *fasthttp.ResponseHeader, e *upstream.Exchange) {
	if w != nil && e.Err == nil {
		wished, _ := wishesOf(h, w.derived)
		w.noStore = wished.noStore
		if wished.retention > 0 {
			w.retention = wished.retention
		}
	}
}

// answered is due when the exchange is over, but for the rest of its response.
func (w *sight) answered(q *request, e *upstream.Exchange, status int) {
	if w == nil {
		return
	}
	if w.body != nil {
		if !w.body.done.Load() || q.rules.Fingerprint.IsOfForm() {
			q.report.Would = WouldNotBeCompared
			w.learns.asked(w.route, &w.traits, WouldNotBeCompared, nil)
			return
		}
		w.decide(q, w.body.sum.Sum(nil))
	}
	w.status = status
	switch {
	case w.entry == nil, e.Err == nil && e.Rest != nil && status != fasthttp.StatusSwitchingProtocols: // see follows
	case e.Err != nil:
		q.report.WouldEnd = w.end(e.Sent, false)
	case status == fasthttp.StatusSwitchingProtocols:
		q.report.WouldEnd = w.end(idem.NothingSent, false)
	default:
		q.report.WouldEnd = w.end(idem.Answered, false)
	}
}

// end ends what would have been an attempt.
func (w *sight) end(sent idem.Sent, bodyOmitted bool) idem.Ending {
	ending := w.policy.Would(sent, &idem.Response{Status: w.status})
	if ending == idem.Stored && w.noStore {
		ending = idem.Released
	}
	if sent != idem.NothingSent {
		w.learns.note(w.route, func(o *Observations) { o.Executed.add(time.Since(w.begun)) })
	}
	w.ledger.end(w.entry, ending, bodyOmitted, time.Now(), w.retention, w.policy.Remember)
	if ending == idem.Held && w.hold != nil {
		w.hold(w.route)
	}
	return ending
}

// follows looks at the rest of a response as it is passed on.
func (w *sight) follows(rest io.ReadCloser) io.ReadCloser {
	if w == nil || w.entry == nil {
		return rest
	}
	return &restSight{ReadCloser: rest, sight: w}
}

// bodySight hashes a request's body as it is passed on.
type bodySight struct {
	io.Reader
	sum    hash.Hash
	length int // -1: chunked
	n      int64
	done   atomic.Bool // all of it has come: only then, others than the reader look
}

// Read implements io.Reader.
func (b *bodySight) Read(p []byte) (int, error) {
	if b.done.Load() {
		return b.Reader.Read(p) //nolint:wrapcheck // it stands in for the body
	}
	n, err := b.Reader.Read(p)
	_, _ = b.sum.Write(p[:n])
	b.n += int64(n)
	if errors.Is(err, io.EOF) || b.length >= 0 && b.n == int64(b.length) {
		b.done.Store(true)
	}
	return n, err //nolint:wrapcheck // it stands in for the body
}

// restSight counts a response's bytes as they are passed on.
type restSight struct {
	io.ReadCloser
	sight *sight
	n     int
	ended bool
}

// Read implements io.Reader.
func (r *restSight) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.n += n
	switch {
	case errors.Is(err, io.EOF):
		r.end(idem.Answered)
	case err != nil:
		r.end(idem.MayHaveExecuted)
	}
	return n, err //nolint:wrapcheck // it stands in for the body
}

// Close implements io.Closer. A client that leaves would not have kept the rest from
// being read.
func (r *restSight) Close() error {
	r.end(idem.Answered)
	return r.ReadCloser.Close() //nolint:wrapcheck // as above
}

func (r *restSight) end(sent idem.Sent) {
	if !r.ended {
		r.ended = true
		r.sight.end(sent, r.n > r.sight.most)
	}
}
