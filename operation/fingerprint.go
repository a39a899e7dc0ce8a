package operation

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"

	"github.com/idemproxy/idemproxy/message"
)

//nolint:gochecknoglobals // a pool is made to be shared
var hashers = sync.Pool{New: func() any { return &hasher{Hash: sha256.New(), head: make([]byte, 0, 1<<10)} }}

// hasher keeps what is hashed before the body, and the sum, beside the state: all
// of them are reused.
type hasher struct {
	hash.Hash
	head []byte
	sum  Digest
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

// Headers are the fields that it has for themselves, besides those that go with its
// parts.
func (f *Fingerprint) Headers() []string {
	if f == nil {
		return nil
	}
	return f.headers
}

// IsOfForm says that a body may be compared by another form than its bytes, which takes
// the whole of it at once.
func (f *Fingerprint) IsOfForm() bool { return f != nil && (f.json || f.multipart) }

// readsBody says whether the body matters.
func (f *Fingerprint) readsBody() bool { return f.body || f.json || f.multipart }

// of is the request's fingerprint: the SHA-256 of its parts, each with its name
// and length, so that no two requests are written to the hash alike. It does not
// allocate unless the body is to be read as JSON or multipart.
func (f *Fingerprint) of(q *Asked) Digest {
	if f == nil {
		f = &defaultFingerprint
	}
	h := hashers.Get().(*hasher) //nolint:forcetypeassert // see New
	defer hashers.Put(h)
	h.Reset()
	b := f.appendTarget(h.head[:0], q)
	for _, want := range f.headers {
		for value := range q.Head.Named(want) {
			b = appendPartName(b, "header:", want, len(value))
			b = append(b, value...)
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
func (f *Fingerprint) appendTarget(b []byte, q *Asked) []byte {
	if f.method {
		b = appendPart(b, "method", q.Head.Method())
	}
	if !f.target && !f.path {
		return b
	}
	if !f.anyHost {
		b = appendPart(b, "host", q.Host)
	}
	if f.target {
		b = appendPart(b, "target", q.Target)
	} else {
		path, _, _ := bytes.Cut(q.Target, []byte{'?'})
		b = appendPart(b, "path", path)
	}
	if isSafe(q.Head.Method()) {
		b = appendSelection(b, q.Head)
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
func appendSelection(b []byte, h *message.Head) []byte {
	for _, want := range [...]string{
		"range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
	} {
		for value := range h.Named(want) {
			b = appendPart(b, want, value)
		}
	}
	return b
}

// names are the fingerprint's parts as recipes have them.
func (f *Fingerprint) names() []string {
	if f == nil {
		f = &defaultFingerprint
	}
	return slices.Clone(f.parts)
}
