package operation

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/idemproxy/idemproxy/idem"
)

// No client can name these scopes, whose first character no scope may have.
const (
	scopeDerived = "\x1ederived\x1f"
	scopePayload = "\x1epayload\x1f"
)

// payloadKey names a caller's payload.
func payloadKey(scope string, r *idem.Request) idem.Key {
	sum := sha256.Sum256(append(r.Binding[:], r.Fingerprint[:]...))
	key, _ := idem.ParseKey(hex.EncodeToString(sum[:16])) // well-formed
	return key.InScope(scope + r.Key.Scope())
}

// DerivedKey is the key of a request without one: its payload's.
func DerivedKey(r *idem.Request) idem.Key { return payloadKey(scopeDerived, r) }

// Marker is what notices a payload that comes under a second key: a key of the
// payload's, whose fingerprint is the key that it came under first, whatever the
// settings.
func Marker(r *idem.Request) idem.Request {
	sum := sha256.Sum256([]byte(r.Key.Value()))
	return idem.Request{
		Key: payloadKey(scopePayload, r), Fingerprint: idem.Fingerprint(sum[:len(idem.Fingerprint{})]), Recipe: markerRecipe(),
	}
}

// markerRecipe is how markers are made: of the key that a payload came under, and
// by nobody.
func markerRecipe() idem.Recipe { return RecipeID(`{"v":2,"marker":"key"}`) }

// IsMarker and IsDerived say what a scope is of; rest is the client's part of it.
func IsMarker(scope string) bool { return strings.HasPrefix(scope, scopePayload) }

// IsDerived says whether a scope is of a derived key; rest is the scope without
// saying so.
func IsDerived(scope string) (rest string, derived bool) {
	return strings.CutPrefix(scope, scopeDerived)
}
