package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"mime/multipart"
	"slices"
	"strings"
	"sync"

	"github.com/gowebpki/jcs"
	"github.com/valyala/fasthttp"
)

//nolint:gochecknoglobals // a pool is made to be shared
var hashers = sync.Pool{New: func() any { return &hasher{Hash: sha256.New(), head: make([]byte, 0, 1<<10)} }}

// hasher keeps what is hashed before the body, and the sum, beside the state: all
// of them are reused.
type hasher struct {
	hash.Hash
	head []byte
	sum  digest
}

// Fingerprint says what must not change between two uses of a key. The nil
// Fingerprint is method, target and body.
type Fingerprint struct {
	parts   []string // sorted, in lower case
	spelled []string // as given, sorted; any-host left out: see legacy.go

	method, target, path, anyHost bool
	body, json, multipart         bool
	headers                       []string // sorted, in lower case
}

// defaultFingerprint is what nil stands for.
//
//nolint:gochecknoglobals // a constant, of a kind that Go has no word for
var defaultFingerprint = Fingerprint{
	parts: []string{"body", "method", "target"}, spelled: []string{"body", "method", "target"},
	method: true, target: true, body: true,
}

// FingerprintParts are the parts that ParseFingerprint knows, besides
// header:NAME.
func FingerprintParts() []string {
	return []string{"method", "target", "path", "any-host", "body", "json", "multipart"}
}

// ParseFingerprint reads a list of parts:
//
//   - method;
//   - target: host, path and query as sent; or path: without the query. Either has
//     the host in one spelling (small letters, no default port), and for safe
//     methods the fields that say which part of it is asked for, and when: Range
//     and the conditions of RFC 9110 section 13.1;
//   - any-host: the host does not matter, for those who retry through another
//     name of the same service;
//   - body: its bytes; or json: those of a JSON body in the canonical form of
//     RFC 8785, so that white space and the order of members do not matter, of
//     any other its bytes; or multipart: the parts of a multipart body without
//     the boundary that each try makes anew, of any other its bytes. Both may
//     be given. Each has what says how the body is to be read: media type, charset
//     and Content-Encoding. Without any of the three the body does not matter;
//   - header:NAME: the values of that field.
func ParseFingerprint(parts []string) (*Fingerprint, error) {
	f := &Fingerprint{}
	for _, part := range parts {
		if err := f.add(part); err != nil {
			return nil, err
		}
	}
	for _, list := range [][]string{f.parts, f.spelled, f.headers} {
		slices.Sort(list) // so that their order in the configuration does not matter
	}
	switch {
	case f.target && f.path:
		return nil, errors.New("target has the path already")
	case f.anyHost && !f.target && !f.path:
		return nil, errors.New("any-host says something of target or path, and neither is there")
	case f.body && (f.json || f.multipart):
		return nil, errors.New("body is all of the body already: leave it out, or json and multipart")
	case len(f.parts) == 0:
		return nil, errors.New("nothing to tell two requests apart by")
	case slices.Equal(f.parts, defaultFingerprint.parts):
		return nil, nil //nolint:nilnil // the default
	}
	return f, nil
}

// add takes one part in.
func (f *Fingerprint) add(part string) error {
	name, isHeader := strings.CutPrefix(part, "header:")
	lower := part
	if isHeader {
		name = strings.ToLower(name)
		lower = "header:" + name
	}
	to := map[string]*bool{
		"method": &f.method, "target": &f.target, "path": &f.path, "any-host": &f.anyHost,
		"body": &f.body, "json": &f.json, "multipart": &f.multipart,
	}[part]
	switch {
	case isHeader && name == "", !isHeader && to == nil:
		return fmt.Errorf("%q is none of %s or header:NAME", part, strings.Join(FingerprintParts(), ", "))
	case slices.Contains(f.parts, lower):
		return fmt.Errorf("%q is there twice", part)
	case isHeader:
		f.headers = append(f.headers, name)
	default:
		*to = true
	}
	f.parts = append(f.parts, lower)
	if part != "any-host" {
		f.spelled = append(f.spelled, part)
	}
	return nil
}

// readsBody says whether the body matters.
func (f *Fingerprint) readsBody() bool { return f.body || f.json || f.multipart }

// of is the request's fingerprint: the SHA-256 of its parts, each with its name
// and length, so that no two requests are written to the hash alike. It does not
// allocate unless the body is to be read as JSON or multipart.
func (f *Fingerprint) of(q *asked) digest {
	if f == nil {
		f = &defaultFingerprint
	}
	h := hashers.Get().(*hasher) //nolint:forcetypeassert // see New
	defer hashers.Put(h)
	h.Reset()
	b := f.appendTarget(h.head[:0], q)
	for _, want := range f.headers {
		for name, value := range q.header.AllInOrder() {
			if equalFold(name, want) {
				b = appendPartName(b, "header:", want, len(value))
				b = append(b, value...)
			}
		}
	}
	var body []byte
	if f.readsBody() {
		b, body = f.appendBody(b, q)
	}
	_, _ = h.Write(b)
	_, _ = h.Write(body)
	h.head = b[:0]
	h.Sum(h.sum[:0])
	return h.sum
}

// appendTarget appends method and target.
func (f *Fingerprint) appendTarget(b []byte, q *asked) []byte {
	if f.method {
		b = appendPart(b, "method", q.header.Method())
	}
	if !f.target && !f.path {
		return b
	}
	if !f.anyHost {
		b = appendPart(b, "host", q.host)
	}
	if f.target {
		b = appendPart(b, "target", q.target)
	} else {
		path, _, _ := bytes.Cut(q.target, []byte{'?'})
		b = appendPart(b, "path", path)
	}
	if isSafe(q.header.Method()) {
		b = appendSelection(b, q.header)
	}
	return b
}

// isSafe: RFC 9110 section 9.2.1, and QUERY.
func isSafe(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "QUERY":
		return true
	}
	return false
}

// appendSelection appends the fields by which a safe request asks for a part of
// the target, or for it under a condition (RFC 9110 sections 13.1 and 14.2), in
// an order of their own, so that the client's does not matter.
func appendSelection(b []byte, h *fasthttp.RequestHeader) []byte {
	for _, want := range [...]string{
		"range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
	} {
		for name, value := range h.AllInOrder() {
			if equalFold(name, want) {
				b = appendPart(b, want, value)
			}
		}
	}
	return b
}

// appendBody appends how the body is to be read, and returns it, or its canonical
// form, with its name and length appended already.
func (f *Fingerprint) appendBody(b []byte, q *asked) (head, body []byte) {
	for name, value := range q.header.AllInOrder() {
		if equalFold(name, "Content-Type") {
			b = appendMediaType(b, value)
		}
	}
	for name, value := range q.header.AllInOrder() {
		if equalFold(name, "Content-Encoding") {
			b = appendCodings(b, value)
		}
	}
	name, body := "body", q.body
	if f.json || f.multipart {
		name, body = f.canonical(string(q.header.ContentType()), body)
	}
	return appendPartName(b, name, "", len(body)), body
}

// canonical is the form of a body that the parts json and multipart ask for.
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

func isJSON(mediaType string) bool {
	return mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
}

// appendMediaType appends type and charset in small letters. Other parameters are
// left out: a boundary is made anew by each try, and stands in the body anyway.
func appendMediaType(b, contentType []byte) []byte {
	mediaType, params := cutUnquoted(contentType, ';')
	mediaType = bytes.TrimSpace(mediaType)
	b = appendLower(appendPartName(b, "type", "", len(mediaType)), mediaType)
	for len(params) > 0 {
		var one []byte
		one, params = cutUnquoted(params, ';')
		name, value, _ := bytes.Cut(one, []byte{'='})
		if equalFold(bytes.TrimSpace(name), "charset") {
			value = bare(value)
			b = appendLower(appendPartName(b, "charset", "", len(value)), value)
		}
	}
	return b
}

// bare is a parameter's value without white space around it, and quotes.
func bare(value []byte) []byte {
	value = bytes.TrimSpace(value)
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	return value
}

// appendCodings appends content codings in small letters. Identity is none (RFC
// 9110 section 8.4).
func appendCodings(b, codings []byte) []byte {
	for len(codings) > 0 {
		var one []byte
		one, codings, _ = bytes.Cut(codings, []byte{','})
		if one = bytes.TrimSpace(one); len(one) > 0 && !equalFold(one, "identity") {
			b = appendLower(appendPartName(b, "coding", "", len(one)), one)
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
