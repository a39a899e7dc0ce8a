package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// For clients that do not play by the rules: those that send no key, and those
// that make a new one for every try.

const (
	// headerDerived marks an answer to a request whose key was derived.
	headerDerived = "Idempotency-Key-Derived"
	// headerDuplicate marks an answer to a payload that came under another key
	// shortly before.
	headerDuplicate = "Idempotency-Duplicate"

	// No client can name these scopes, whose first character no scope may have.
	scopeDerived = "\x1ederived\x1f"
	scopePayload = "\x1epayload\x1f"
)

// derives says whether a request without a key is given one: a route that wants
// that, a method that is not idempotent anyway (RFC 9110 section 9.2.2), and a body
// that can be fingerprinted. Its caller must be known besides, so that two
// strangers with one payload stay two.
func (id *identity) derives(req *fasthttp.RequestHeader) bool {
	return id.rules.DeriveKey > 0 && (req.IsPost() || string(req.Method()) == fasthttp.MethodPatch) &&
		req.ContentLength() >= 0 && req.ContentLength() <= id.rules.MaxRequestBody
}

// payloadKey names a caller's payload.
func payloadKey(scope string, r *idem.Request) idem.Key {
	sum := sha256.Sum256(append(r.Binding[:], r.Fingerprint[:]...))
	key, _ := idem.ParseKey(hex.EncodeToString(sum[:16])) // well-formed
	return key.InScope(scope + r.Key.Scope())
}

// derive gives the request the key of its payload, for a short while.
func (id *identity) derive(r *idem.Request) {
	r.Key, r.Policy = payloadKey(scopeDerived, r), &id.rules.derived
	id.key = r.Key
}

// isDuplicate says whether the payload came under another key within the window.
// If not, held has it from now on: a payload has a lease like a key, under a key
// of its own, and is remembered like a response once it may have been executed.
func (s *Server) isDuplicate(r *idem.Request, rules *Rules, held *attempts) (bool, error) {
	sum := sha256.Sum256([]byte(r.Key.Value()))
	marker := idem.Request{
		Key: payloadKey(scopePayload, r), Fingerprint: idem.Fingerprint(sum[:len(idem.Fingerprint{})]), Policy: &rules.duplicates,
		Recipe: markerRecipe(),
	}
	out, attempt, err := s.engine.Begin(context.Background(), marker)
	held.payload = attempt
	return out.Kind == idem.VerdictMismatch, err
}

// markerRecipe is how the markers of payloads are made, whatever the settings: of
// the key that a payload came under, and by nobody.
func markerRecipe() idem.Recipe { return recipeID(`{"v":2,"marker":"key"}`) }

// setDerived makes the policies of what this file keeps.
func (r *Rules) setDerived() {
	r.derived, r.duplicates = r.Policy, r.Policy
	r.derived.Retention = max(r.DeriveKey, time.Second)
	r.duplicates.Retention = max(r.DuplicateWindow, time.Second)
	r.derived.Remember, r.duplicates.Remember = 0, 0 // what is short stays short
	r.duplicates.OnAmbiguous, r.duplicates.Statuses = idem.AmbiguousRelease, nil
	r.duplicates.TTL = max(r.DuplicateWindow, r.Policy.TTL) // what a proxy that died has executed is noticed for that long
}
