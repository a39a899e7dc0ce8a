package operation

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"slices"
	"strings"

	"github.com/gowebpki/jcs"

	"github.com/idemproxy/idemproxy/message"
)

// appendBody appends how the body is to be read, and returns it, or its canonical
// form, with its name and length appended already.
func (f *Fingerprint) appendBody(b []byte, q *Asked) (head, body []byte) {
	for value := range q.Head.Named("Content-Type") {
		b = appendMediaType(b, value)
	}
	if !f.earlier && f.IsOfForm() {
		if name, form, ok := f.form3(q); ok {
			return appendPartName(b, name, "", len(form)), form
		}
	}
	for value := range q.Head.Named("Content-Encoding") {
		b = appendCodings(b, value)
	}
	name, body := "body", q.Body
	if f.earlier {
		name, body = f.canonical(string(q.Head.ContentType()), body)
	}
	if name == "body" {
		b = appendBoundaries(b, q)
	}
	return appendPartName(b, name, "", len(body)), body
}

// appendBoundaries appends what the header says that the boundary of a multipart body is,
// unless the body begins with it, as by far the most do: then the body says it. Otherwise
// one body can have other parts for each of two boundaries.
func appendBoundaries(b []byte, q *Asked) []byte {
	for value := range q.Head.Named("Content-Type") {
		mediaType, params := message.CutUnquoted(value, ';')
		if mediaType = bytes.TrimSpace(mediaType); len(mediaType) < 10 || !message.EqualFold(mediaType[:10], "multipart/") {
			continue
		}
		for n := 0; len(params) > 0; {
			var one []byte
			one, params = message.CutUnquoted(params, ';')
			name, boundary, _ := bytes.Cut(one, []byte{'='})
			if !message.EqualFold(bytes.TrimSpace(name), "boundary") {
				continue
			}
			if boundary = message.Bare(boundary); n > 0 || !beginsWith(q.Body, boundary) {
				b = appendPart(b, "boundary", boundary)
			}
			n++
		}
	}
	return b
}

// beginsWith says whether the first line of a body is the delimiter that a boundary makes.
func beginsWith(body, boundary []byte) bool {
	rest, ok := bytes.CutPrefix(body, []byte("--"))
	if ok {
		rest, ok = bytes.CutPrefix(rest, boundary)
	}
	return ok && bytes.HasPrefix(rest, []byte("\r\n"))
}

// form3 is the form of a body that the parts json, form and multipart ask for, without its
// content codings. ok is false if there is none, since it is something else or malformed.
func (f *Fingerprint) form3(q *Asked) (name string, form []byte, ok bool) {
	mediaType, params, err := mime.ParseMediaType(string(q.Head.ContentType()))
	if err != nil || q.isTypedTwice() {
		return "", nil, false
	}
	body, err := q.Plain()
	if err != nil {
		return "", nil, false
	}
	switch {
	case f.json && isJSON(mediaType):
		form, err = f.selected.canonical(body)
		return "json", form, err == nil
	case f.form && mediaType == formType:
		form, ok = formFields(body)
		return "form", form, ok
	case f.multipart && strings.HasPrefix(mediaType, "multipart/"):
		form, ok = multipartParts(body, params["boundary"])
		return "multipart", form, ok
	}
	return "", nil, false
}

// canonical is the form of a body that the parts json and multipart asked for in recipes
// of version 2.
func (f *Fingerprint) canonical(contentType string, body []byte) (name string, form []byte) {
	mediaType, params, err := mime.ParseMediaType(contentType)
	switch {
	case err == nil && f.json && isJSON(mediaType):
		if canonical, ok := canonicalJSON(body); ok {
			return "json", canonical
		}
	case err == nil && f.multipart && strings.HasPrefix(mediaType, "multipart/"):
		if parts, ok := multipartHash(body, params["boundary"]); ok {
			return "multipart", parts
		}
	}
	return "body", body
}

// FormOf is a body in the form that the part json or multipart compares it by, and which
// part that is; a nil form if it has none.
func FormOf(contentType string, body []byte) (part string, form []byte) {
	part, form = (&Fingerprint{json: true, multipart: true}).canonical(contentType, body)
	if part == "body" {
		return "", nil
	}
	return part, form
}

func isJSON(mediaType string) bool {
	return mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
}

// appendMediaType appends type and charset in small letters. Other parameters are
// left out: a boundary is made anew by each try, and stands in the body anyway.
func appendMediaType(b, contentType []byte) []byte {
	mediaType, params := message.CutUnquoted(contentType, ';')
	mediaType = bytes.TrimSpace(mediaType)
	b = message.AppendLower(appendPartName(b, "type", "", len(mediaType)), mediaType)
	for len(params) > 0 {
		var one []byte
		one, params = message.CutUnquoted(params, ';')
		name, value, _ := bytes.Cut(one, []byte{'='})
		if message.EqualFold(bytes.TrimSpace(name), "charset") {
			value = message.Bare(value)
			b = message.AppendLower(appendPartName(b, "charset", "", len(value)), value)
		}
	}
	return b
}

// appendCodings appends content codings in small letters. Identity is none (RFC
// 9110 section 8.4).
func appendCodings(b, codings []byte) []byte {
	for len(codings) > 0 {
		var one []byte
		one, codings, _ = bytes.Cut(codings, []byte{','})
		if one = bytes.TrimSpace(one); len(one) > 0 && !message.EqualFold(one, "identity") {
			b = message.AppendLower(appendPartName(b, "coding", "", len(one)), one)
		}
	}
	return b
}

// appendPart appends what a part is, its length and it, so that no two lists of
// parts are written alike.
func appendPart(b []byte, name string, value []byte) []byte {
	return append(appendPartName(b, name, "", len(value)), value...)
}

// appendPartName appends all but the value, which has n bytes.
func appendPartName(b []byte, kind, name string, n int) []byte {
	b = append(append(append(b, kind...), name...), 0)
	return binary.BigEndian.AppendUint32(b, uint32(n)) //nolint:gosec // bounded by the request's limits
}

// canonicalJSON is body in RFC 8785's form. That form has IEEE doubles for
// numbers: two long ones that differ in their last digit become one. A body with
// such a number has no canonical form here.
func canonicalJSON(body []byte) ([]byte, bool) {
	if hasLongNumber(body) {
		return nil, false
	}
	canonical, err := jcs.Transform(body)
	return canonical, err == nil
}

// hasLongNumber: 15 significant digits survive a double, 16 may not.
func hasLongNumber(body []byte) bool {
	quoted, digits := false, 0
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c >= '0' && c <= '9':
			if digits++; digits > 15 {
				return true
			}
		case c != '.':
			digits = 0
		}
	}
	return false
}

// multipartHash is the SHA-256 over the parts' headers and contents, in order.
func multipartHash(body []byte, boundary string) ([]byte, bool) {
	if boundary == "" {
		return nil, false
	}
	sum := sha256.New()
	for r := multipart.NewReader(bytes.NewReader(body), boundary); ; {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return sum.Sum(nil), true
		}
		if err != nil {
			return nil, false
		}
		names := make([]string, 0, len(part.Header))
		for name := range part.Header {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			for _, value := range part.Header[name] {
				_, _ = sum.Write(appendPart(nil, name, []byte(value)))
			}
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return nil, false
		}
		_, _ = sum.Write(appendPart(nil, "", content))
	}
}
