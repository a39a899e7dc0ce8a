package operation

import (
	"bytes"
	"crypto/sha256"
	"mime"
	"slices"
	"strings"
)

// How the release before recipes hashed, for comparing with the records that it
// left (idem.LegacyRecipe): without the host, without what says how the body is to
// be read, and of a certificate's alternative names three kinds only. This file
// can go when the longest retention has passed since the last such record.

// legacy is the SHA-256 of method, target and body, or of the parts named.
func (f *Fingerprint) legacy(q *Asked) Digest {
	h, sum := q.Head, sha256.New()
	if f == nil || slices.Equal(f.spelled, []string{"body", "method", "target"}) {
		for _, part := range [][]byte{h.Method(), {' '}, q.Target, {'\n'}, q.Body} {
			_, _ = sum.Write(part)
		}
		return Digest(sum.Sum(nil))
	}
	for _, part := range f.spelled {
		switch part {
		case "method":
			_, _ = sum.Write(appendPart(nil, part, h.Method()))
		case "target":
			_, _ = sum.Write(appendPart(nil, part, q.Target))
		case "path":
			path, _, _ := bytes.Cut(q.Target, []byte{'?'})
			_, _ = sum.Write(appendPart(nil, part, path))
		case "body", "json", "multipart": // below, once
		case "query", "form": // there were none
		default:
			name := strings.TrimPrefix(part, "header:")
			for value := range h.Named(name) {
				_, _ = sum.Write(appendPart(nil, strings.ToLower(part), value))
			}
		}
	}
	_, _ = sum.Write(f.legacyBody(string(h.ContentType()), q.Body))
	return Digest(sum.Sum(nil))
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
