package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
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

// maxHops bounds how many redirects in a row are followed.
const maxHops = 5

// place is where a request goes, written "scheme host target". Scheme and host
// have no spaces in them, and neither has a target.
type place []byte

// place is the request's own.
func (id *identity) place() place {
	return placeOf(id.asked.scheme, id.asked.host, id.asked.target)
}

func placeOf(scheme, host, target []byte) place {
	return bytes.Join([][]byte{scheme, host, target}, []byte{' '})
}

// parts are false if it is no place.
func (p place) parts() (scheme, host, target []byte, ok bool) {
	scheme, rest, _ := bytes.Cut(p, []byte{' '})
	host, target, ok = bytes.Cut(rest, []byte{' '})
	return scheme, host, target, ok
}

// redirectOf is where a response leads that is to be kept; nil if it is no
// redirect of this kind, or leads nowhere that a request could come from.
func (id *identity) redirectOf(h *fasthttp.ResponseHeader) *idem.Redirect {
	if s := h.StatusCode(); s != fasthttp.StatusTemporaryRedirect && s != fasthttp.StatusPermanentRedirect || id.derived {
		return nil
	}
	to := resolve(id.asked.scheme, id.asked.host, id.asked.target, h.Peek("Location"))
	if to == nil {
		return nil
	}
	return &idem.Redirect{From: id.place(), To: to}
}

// resolve is where a Location leads, seen from a request (RFC 9110 section 10.2.2,
// RFC 3986 section 5). A fragment is not sent. nil for what is no http or https.
func resolve(scheme, host, target, location []byte) place {
	if len(location) == 0 || len(target) == 0 || target[0] != '/' {
		return nil
	}
	base, err := url.Parse(string(scheme) + "://" + string(host) + string(target))
	if err != nil {
		return nil
	}
	to, err := base.Parse(string(location))
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Opaque != "" || !isAuthority([]byte(to.Host)) {
		return nil
	}
	return placeOf([]byte(to.Scheme), canonicalHost(nil, []byte(to.Host)), []byte(to.RequestURI()))
}

// leads says whether the request is where a redirect leads. Schemes are compared
// only where nothing else changes (from http to https), since a backend behind a
// balancer may not know its own.
func leads(r *idem.Redirect, here place) bool {
	scheme, host, target, _ := here.parts()
	fromScheme, fromHost, fromTarget, ok := place(r.From).parts()
	toScheme, toHost, toTarget, ok2 := place(r.To).parts()
	if !ok || !ok2 || !bytes.Equal(toHost, host) || !bytes.Equal(toTarget, target) {
		return false
	}
	if bytes.Equal(fromHost, toHost) && bytes.Equal(fromTarget, toTarget) {
		return bytes.Equal(toScheme, scheme) && !bytes.Equal(fromScheme, scheme)
	}
	return true
}

// followed says whether the request follows redirects from what stands, and if so
// where each of them leads, up to the request's own target; nil if not.
func (s *Server) followed(was *standing, id *identity) (path []place, err error) {
	var record idem.Record
	switch {
	case was.Kind == idem.VerdictCompleted && was.Response.Redirect != nil:
		// The fingerprint has no target in it, or none that tells the two apart. Who
		// is where the redirect came from gets it again.
		if bytes.Equal(was.Response.Redirect.From, id.place()) {
			return nil, nil
		}
	case was.Kind != idem.VerdictMismatch || was.Part != idem.PartPayload:
		return nil, nil
	}
	here := id.place()
	for key := was.key; len(path) < maxHops; key = continuation(key, record.Response.Redirect.To) {
		record, err = s.engine.Get(context.Background(), key)
		switch {
		case errors.Is(err, idem.ErrNotFound), errors.Is(err, idem.ErrNoOperator):
			return nil, nil
		case err != nil:
			return nil, err
		case record.State != idem.Completed || record.Response == nil || record.Response.Redirect == nil:
			return nil, nil
		}
		redirect := record.Response.Redirect
		if !id.sameButForTarget(&record, redirect.From) {
			return nil, nil
		}
		path = append(path, redirect.To)
		if leads(redirect, here) {
			return path, nil
		}
	}
	return nil, nil
}

// sameButForTarget says whether the request would be the record's, if it went to
// from.
func (id *identity) sameButForTarget(record *idem.Record, from place) bool {
	moved := id.asked
	var ok bool
	if _, moved.host, moved.target, ok = from.parts(); !ok {
		return false
	}
	print, binding, known := id.hash(&moved, record.Recipe)
	return known && print == record.Fingerprint && binding == record.Binding
}

// continued are the names of the operation that a redirected one goes on as.
func continued(keys []idem.Key, path []place) []idem.Key {
	names := make([]idem.Key, len(keys))
	for i, key := range keys {
		for _, to := range path {
			key = continuation(key, to)
		}
		names[i] = key
	}
	return names
}

func continuation(key idem.Key, to place) idem.Key {
	sum := sha256.Sum256(to)
	return key.InScope(scopeRedirect + hex.EncodeToString(sum[:redirectDigits/2]) + key.Scope())
}
