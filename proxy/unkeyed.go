package proxy

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/operation"
)

// For clients that do not play by the rules: those that send no key, and those
// that make a new one for every try.

// derives says whether a request without a key is given one: a route that wants
// that, a method that is not idempotent anyway (RFC 9110 section 9.2.2), and a body
// that can be fingerprinted. Its caller must be known besides, so that two
// strangers with one payload stay two.
func (r *Rules) derives(req *fasthttp.RequestHeader) bool {
	return r.DeriveKey > 0 && (req.IsPost() || string(req.Method()) == fasthttp.MethodPatch) &&
		req.ContentLength() >= 0 && req.ContentLength() <= r.MaxRequestBody
}

// isDuplicate says whether the payload came under another key within the window.
// If not, held has it from now on: a payload has a lease like a key, under a key
// of its own, and is remembered like a response once it may have been executed.
func (s *Server) isDuplicate(q *request, ask *idem.Request, held *attempts) (bool, error) {
	if q.rules.DuplicateWindow == 0 || q.derived || !q.who.Known() {
		return false, nil
	}
	marker := operation.Marker(ask)
	marker.Policy = &q.rules.duplicates
	out, attempt, err := s.engine.Begin(context.Background(), marker)
	held.payload = attempt
	return out.Kind == idem.VerdictMismatch, err
}

// setDerived makes the policies of what this file keeps.
func (r *Rules) setDerived() {
	r.derived, r.duplicates = r.Policy, r.Policy
	r.derived.Retention = max(r.DeriveKey, time.Second)
	r.duplicates.Retention = max(r.DuplicateWindow, time.Second)
	r.derived.Remember, r.duplicates.Remember = 0, 0 // what is short stays short
	r.duplicates.OnAmbiguous, r.duplicates.Statuses = idem.AmbiguousRelease, nil
	r.duplicates.TTL = max(r.DuplicateWindow, r.Policy.TTL) // what a proxy that died has executed is noticed for that long
}
