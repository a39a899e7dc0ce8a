package proxy

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"mime"
	"slices"
	"strings"

	"github.com/idemproxy/idemproxy/idem"
)

// How the release before recipes hashed, for comparing with the records that it
// left (idem.LegacyRecipe): without the host, without what says how the body is to
// be read, and of a certificate's alternative names three kinds only. This file
// can go when the longest retention has passed since the last such record.

// legacy is the request's fingerprint and caller by version 1, made by the
// route's present settings, since such records do not say by which they were made.
func (r *Rules) legacy(q *asked) (idem.Fingerprint, idem.Binding) {
	s := r.recipe.secret
	return s.fingerprint(r.Fingerprint.legacy(q)), s.binding(r.legacyCaller(q))
}

// legacy is the SHA-256 of method, target and body, or of the parts named.
func (f *Fingerprint) legacy(q *asked) digest {
	h, sum := q.header, sha256.New()
	if f == nil || slices.Equal(f.spelled, []string{"body", "method", "target"}) {
		for _, part := range [][]byte{h.Method(), {' '}, q.target, {'\n'}, q.body} {
			_, _ = sum.Write(part)
		}
		return digest(sum.Sum(nil))
	}
	for _, part := range f.spelled {
		switch part {
		case "method":
			_, _ = sum.Write(appendPart(nil, part, h.Method()))
		case "target":
			_, _ = sum.Write(appendPart(nil, part, q.target))
		case "path":
			path, _, _ := bytes.Cut(q.target, []byte{'?'})
			_, _ = sum.Write(appendPart(nil, part, path))
		case "body", "json", "multipart": // below, once
		default:
			name := strings.TrimPrefix(part, "header:")
			for key, value := range h.AllInOrder() {
				if equalFold(key, name) {
					_, _ = sum.Write(appendPart(nil, strings.ToLower(part), value))
				}
			}
		}
	}
	_, _ = sum.Write(f.legacyBody(string(h.ContentType()), q.body))
	return digest(sum.Sum(nil))
}

func (f *Fingerprint) legacyBody(contentType string, body []byte) []byte {
	mediaType, params, err := mime.ParseMediaType(contentType)
	switch {
	case err == nil && f.json && isJSON(mediaType):
		if canonical, ok := canonicalJSON(body); ok {
			return appendPart(nil, "json", canonical)
		}
	case err == nil && f.multipart && strings.HasPrefix(mediaType, "multipart/"):
		if parts, ok := multipartHash(body, params["boundary"]); ok {
			return appendPart(nil, "multipart", append([]byte(mediaType+"\x00"), parts...))
		}
	case !f.readsBody():
		return nil
	}
	return appendPart(nil, "body", body)
}

// legacyCaller hashes the bind headers as they are spelled in the settings, and
// then the certificate.
func (r *Rules) legacyCaller(q *asked) digest {
	var b []byte
	var sum digest
	bound := false
	for _, want := range r.BindHeaders {
		for name, value := range q.header.AllInOrder() {
			if equalFold(name, want) {
				b, bound = appendSized(appendSized(b, []byte(want)), value), true
			}
		}
	}
	if bound {
		sum = sha256.Sum256(b)
	}
	if q.certificate != nil {
		sum = legacyCertificate(sum, q.certificate)
	}
	return sum
}

func legacyCertificate(headers digest, c *x509.Certificate) digest {
	sum := sha256.New()
	part := func(b []byte) {
		_, _ = sum.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b)))) //nolint:gosec // bounded by the handshake's size
		_, _ = sum.Write(b)
	}
	part(headers[:])
	part(c.RawIssuer)
	part(c.RawSubject)
	for _, name := range slices.Concat(c.DNSNames, c.EmailAddresses) {
		part([]byte(name))
	}
	for _, uri := range c.URIs {
		part([]byte(uri.String()))
	}
	return digest(sum.Sum(nil))
}
