package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// What became of a key can be asked for without sending its payload again: GET of the
// outcomes path with ?key=. The credentials must be those of the first request, by the
// same hash that a retry is compared with. A request that has none must show a proof
// instead, which the Location of a 202 has: it is made of what a retry is compared by, so
// that whoever has it knows no less than who may have the replay. All that is not to be
// seen is one and the same 404.

// Parameters of the query.
const (
	askKey     = "key"
	askProof   = "proof"
	askShow    = "show"     // showResponse, or nothing
	showStored = "response" // what a retry would get
)

// outcomes are what may be asked about, and where.
type outcomes struct {
	path  []byte
	rules []*Rules // of routes that allow it, one of each way to name keys
}

// newOutcomes is nil where nothing may be asked, which costs other requests nothing.
func newOutcomes(path string, r *routes) *outcomes {
	o := &outcomes{path: []byte(path)}
	for _, rules := range r.all() {
		if (rules.Outcomes || rules.RespondAsync) && !slices.ContainsFunc(o.rules, rules.namesAlike) {
			o.rules = append(o.rules, rules)
		}
	}
	if len(o.rules) == 0 {
		return nil
	}
	return o
}

// namesAlike: keys have the same names on both routes.
func (r *Rules) namesAlike(o *Rules) bool {
	return slices.Equal(r.Scope, o.Scope) && r.Tokens == o.Tokens &&
		slices.EqualFunc(r.EarlierScopes, o.EarlierScopes, caller.EarlierScope.Equal)
}

// at says whether a request is for this proxy.
func (o *outcomes) at(h *fasthttp.RequestHeader) bool {
	return o != nil && bytes.Equal(message.PathOf(h), o.path)
}

// answerOutcome tells what became of a key.
func (s *Server) answerOutcome(q *request) {
	q.read()
	if !q.ctx.IsGet() && !q.ctx.IsHead() {
		s.fail(q, &problemOutcomeMethod, nil)
		q.ctx.Response.Header.Set("Allow", "GET, HEAD")
		return
	}
	args := q.ctx.QueryArgs()
	key, err := askedKey(args)
	if err != nil {
		s.refuse(q, &problemKeyInvalid, err)
		return
	}
	record, err := s.recordOf(q, key, args.Peek(askProof))
	switch {
	case errors.Is(err, idem.ErrNotFound):
		s.fail(q, &problemNoOutcome, nil)
	case err != nil:
		s.fail(q, q.rules.beginProblem(err, q.unread), err)
	case string(args.Peek(askShow)) == showStored:
		q.key, q.report.Keyed, q.report.Key = record.Key, true, record.Key
		s.answerStanding(q, &standing{record.Outcome(), record.Key})
	default:
		q.report.Keyed, q.report.Key = true, record.Key
		s.answerState(q, &record)
	}
}

// askedKey is the key that is asked about: one, as in a request that has keys.
func askedKey(args *fasthttp.Args) (idem.Key, error) {
	all := args.PeekMulti(askKey)
	for _, other := range all {
		if !bytes.Equal(other, all[0]) {
			return idem.Key{}, operation.ErrKeysDiffer
		}
	}
	return idem.ParseKey(string(args.Peek(askKey)))
}

// recordOf finds the record that the caller means, and may ask about; otherwise
// idem.ErrNotFound. A request has one name of its key on each kind of route. Nothing is
// done about a key whose outcome is unknown: a resolver is asked by retries only, since
// only those say which route they are for, and another route's resolver may know nothing
// of what was executed; receipts are asked for in the background.
func (s *Server) recordOf(q *request, bare idem.Key, proof []byte) (idem.Record, error) {
	for _, rules := range q.live.outcomes.rules {
		q.who.Identify(rules.recipe.Bind)
		for _, key := range q.namesOf(rules, bare) {
			record, err := s.engine.Get(context.Background(), key)
			switch {
			case errors.Is(err, idem.ErrNotFound):
				continue
			case err != nil:
				return idem.Record{}, err
			}
			switch may, err := q.mayAsk(rules, &record, proof); {
			case err != nil:
				return idem.Record{}, err
			case may:
				return record, nil
			}
		}
	}
	return idem.Record{}, idem.ErrNotFound
}

// namesOf are those of a key on such routes. What the request lacks of a scope it lacked
// when it was sent, too.
func (q *request) namesOf(rules *Rules, bare idem.Key) (all []idem.Key) {
	if scope, err := q.who.Scope(rules.Scope, rules.Tokens); err == nil {
		all = append(all, bare.InScope(scope).Clone())
	}
	for _, earlier := range rules.EarlierScopes {
		if scope, err := q.who.Earlier(earlier, rules.Tokens); err == nil {
			all = append(all, bare.InScope(scope))
		}
	}
	return all
}

// mayAsk says whether the request comes from who sent the one that is recorded. If nobody
// can tell, that is idem.ErrRecipe: the answer that there is no such operation would have
// the client take it that nothing was executed.
func (q *request) mayAsk(rules *Rules, record *idem.Record, proof []byte) (bool, error) {
	var binding idem.Binding
	if !q.know(record.Recipe, func() (ok bool) {
		binding, ok = q.live.recipes.Binding(q.live.own, &rules.recipe, record.Recipe, &q.who)
		return ok
	}) {
		return false, idem.ErrRecipe
	}
	if binding != record.Binding {
		return false, nil
	}
	if binding != (idem.Binding{}) {
		return true, nil
	}
	return subtle.ConstantTimeCompare(proof, proofOf(record.Fingerprint, record.Binding)) == 1, nil
}

// proofOf is what only those know who know the request, or were told by a 202.
func proofOf(f idem.Fingerprint, b idem.Binding) []byte {
	sum := sha256.Sum256(append(append([]byte("outcome"), f[:]...), b[:]...))
	return hex.AppendEncode(nil, sum[:16])
}

// addressOf is where to ask about the request's key, whose record was made by a recipe:
// settings that have changed since may have made another one than this request's.
func (q *request) addressOf(recipe idem.Recipe) string {
	own := q.hashes()
	if by, known := q.hashesUnder(recipe); known {
		own = by
	}
	return string(q.live.outcomes.path) + "?" + askKey + "=" + url.QueryEscape(q.key.Value()) + "&" + askProof + "=" +
		string(proofOf(own.Fingerprint, own.Binding))
}

// answerAccepted answers a request that is executed in the background.
func (s *Server) answerAccepted(q *request, attempt uint32, recipe idem.Recipe) {
	where := q.addressOf(recipe)
	q.ctx.Response.Reset()
	h := &q.ctx.Response.Header
	h.Set("Location", where)
	h.Set("Preference-Applied", "respond-async")
	q.report.Outcome, q.report.Attempt = Accepted, attempt
	q.report.Keyed, q.report.Key = true, q.key
	q.answerDocument(fasthttp.StatusAccepted, &outcomeDocument{
		Key: q.key.Value(), State: idem.InProgress.String(), Attempt: attempt, Where: where,
	})
}

// outcomeDocument is what is told of a key.
type outcomeDocument struct {
	Key     string `json:"idempotency_key"`
	State   string `json:"state"`
	Attempt uint32 `json:"attempt"`
	Status  int    `json:"status,omitempty"`
	// Replayable says of a key that was executed whether a retry gets the response,
	// Until how long, and Response where it can be had without one.
	Replayable *bool  `json:"replayable,omitempty"`
	Until      string `json:"replayable_until,omitempty"`
	Response   string `json:"response,omitempty"`
	Where      string `json:"outcome,omitempty"` // in a 202
}

// answerState tells the state of a record.
func (s *Server) answerState(q *request, r *idem.Record) {
	d := outcomeDocument{Key: r.Key.Value(), State: r.State.String(), Attempt: r.Attempt}
	switch r.State {
	case idem.Completed, idem.Expired:
		d.State = outcomeExecuted
		kept := r.Response != nil && !r.Response.BodyOmitted
		d.Replayable = &kept
		if r.Response != nil {
			d.Status = r.Response.Status
		}
		if kept {
			left := time.Duration(r.ReplayUntil-r.ReadAt) * time.Millisecond // on the store's clock
			d.Until = time.Now().Add(left).UTC().Format(time.RFC3339)
			d.Response = string(q.ctx.RequestURI()) + "&" + askShow + "=" + showStored
		}
	case idem.InProgress, idem.Unknown, idem.Absent, idem.Lapsed:
	}
	q.report.Outcome, q.report.Attempt = OutcomeAsked, r.Attempt
	q.answerDocument(fasthttp.StatusOK, &d)
}

func (q *request) answerDocument(status int, d *outcomeDocument) {
	resp := &q.ctx.Response
	resp.Header.SetStatusCode(status)
	resp.Header.SetContentType("application/json")
	resp.Header.Set("Cache-Control", "no-store")
	if d.State == idem.InProgress.String() {
		resp.Header.Set("Retry-After", problemInProgress.retryAfter)
	}
	q.report.Status = status
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // so that an address can be copied
	_ = e.Encode(d)        // texts and numbers, which cannot fail
	resp.SetBodyRaw(body.Bytes())
}
