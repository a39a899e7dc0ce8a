package operation

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

// A response of 307 or 308 says that the same request is to be made again,
// elsewhere (RFC 9110 sections 15.4.8 and 15.4.9), and clients repeat the key with
// it. Its record says where from and where to, so that this other request is not
// taken for a misuse of the key: it is an operation of its own, under a name of its
// own, which nobody reaches but by that redirect.

// scopeRedirect is followed by a digest of where the redirect leads, and then the
// scope of the key that was redirected.
const scopeRedirect = "\x1eredirect\x1f"

// redirectDigits is the length of that digest, in hex.
const redirectDigits = 32

// MaxHops bounds how many redirects in a row are followed.
const MaxHops = 5

// Place is where a request goes, written "scheme host target". Scheme and host
// have no spaces in them, and neither has a target.
type Place []byte

// Place is the request's own.
func (q *Asked) Place() Place { return placeOf(q.Scheme, q.Host, q.Target) }

// At is the request as it would be if it went to a place.
func (q *Asked) At(p Place) (moved Asked, ok bool) {
	moved = *q
	_, moved.Host, moved.Target, ok = p.parts()
	return moved, ok
}

// Leads is where a Location leads, seen from the request; nil for what is nowhere
// that a request could come from.
func (q *Asked) Leads(location []byte) Place { return follow(q.Scheme, q.Host, q.Target, location) }

func placeOf(scheme, host, target []byte) Place {
	return bytes.Join([][]byte{scheme, host, target}, []byte{' '})
}

// parts are false if it is no place.
func (p Place) parts() (scheme, host, target []byte, ok bool) {
	scheme, rest, _ := bytes.Cut(p, []byte{' '})
	host, target, ok = bytes.Cut(rest, []byte{' '})
	return scheme, host, target, ok
}

// follow is where a Location leads, seen from a request (RFC 9110 section 10.2.2,
// RFC 3986 section 5). A fragment is not sent. nil for what is no http or https.
func follow(scheme, host, target, location []byte) Place {
	if len(location) == 0 || len(target) == 0 || target[0] != '/' {
		return nil
	}
	base, err := url.Parse(string(scheme) + "://" + string(host) + string(target))
	if err != nil {
		return nil
	}
	to, err := base.Parse(string(location))
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Opaque != "" || !message.IsAuthority([]byte(to.Host)) {
		return nil
	}
	return placeOf([]byte(to.Scheme), message.CanonicalHost(nil, []byte(to.Host)), []byte(to.RequestURI()))
}

// IsWhere says whether the request is where a redirect leads. Schemes are compared
// only where nothing else changes (from http to https), since a backend behind a
// balancer may not know its own.
func IsWhere(r *idem.Redirect, here Place) bool {
	scheme, host, target, _ := here.parts()
	fromScheme, fromHost, fromTarget, ok := Place(r.From).parts()
	toScheme, toHost, toTarget, ok2 := Place(r.To).parts()
	if !ok || !ok2 || !bytes.Equal(toHost, host) || !bytes.Equal(toTarget, target) {
		return false
	}
	if bytes.Equal(fromHost, toHost) && bytes.Equal(fromTarget, toTarget) {
		return bytes.Equal(toScheme, scheme) && !bytes.Equal(fromScheme, scheme)
	}
	return true
}

// Continued are the names of the operation that a redirected one goes on as.
func Continued(keys []idem.Key, path []Place) []idem.Key {
	names := make([]idem.Key, len(keys))
	for i, key := range keys {
		for _, to := range path {
			key = Continuation(key, to)
		}
		names[i] = key
	}
	return names
}

// Continuation is the name of what an operation goes on as at a place.
func Continuation(key idem.Key, to Place) idem.Key {
	sum := sha256.Sum256(to)
	return key.InScope(scopeRedirect + hex.EncodeToString(sum[:redirectDigits/2]) + key.Scope())
}

// ScopeText is a key's scope in characters that can be printed where scopes can.
func ScopeText(scope string) string {
	var led []byte
	for strings.HasPrefix(scope, scopeRedirect) && len(scope) >= len(scopeRedirect)+redirectDigits {
		digits := scope[len(scopeRedirect):][:redirectDigits]
		led = append(append(append(led, "redirect="...), digits...), '\t')
		scope = scope[len(scopeRedirect)+redirectDigits:]
	}
	return string(led) + strings.TrimPrefix(scope, scopeDerived)
}

// Bare is a key's scope without what this package put before it.
func Bare(scope string) string {
	for strings.HasPrefix(scope, scopeRedirect) {
		scope = scope[min(len(scope), len(scopeRedirect)+redirectDigits):]
	}
	return strings.TrimPrefix(scope, scopeDerived)
}
