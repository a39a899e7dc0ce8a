package operation

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"slices"
	"strings"
	"sync"

	"github.com/idemproxy/idemproxy/idem"
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

	method, target, path, query, anyHost bool
	body, json, multipart, form          bool
	headers                              []string // sorted, in lower case
	selected                             selection
	// earlier: forms are made as recipes of version 2 made them.
	earlier bool
}

// defaultFingerprint is what nil stands for.
//
//nolint:gochecknoglobals // a constant, of a kind that Go has no word for
var defaultFingerprint = Fingerprint{
	parts: []string{"body", "method", "target"}, spelled: []string{"body", "method", "target"},
	method: true, target: true, body: true,
}

// FingerprintParts are the parts that ParseFingerprint knows, besides
// header:NAME, except:POINTER and only:POINTER.
func FingerprintParts() []string {
	return []string{"method", "target", "path", "query", "any-host", "body", "json", "form", "multipart"}
}

// ParseFingerprint reads a list of parts:
//
//   - method, and the fields that have some backends go by another one;
//   - target: host, path and query as sent; or path: without the query. Either has
//     the host in one spelling (small letters, no default port), and for safe
//     methods the fields that say which part of it is asked for, and when: Range
//     and the conditions of RFC 9110 section 13.1;
//   - query: besides path, the fields of the query, decoded, whatever their order;
//   - any-host: the host does not matter, for those who retry through another
//     name of the same service;
//   - body: its bytes; or json: those of a JSON body in a canonical form, so that
//     white space, the order of members and the spelling of strings and numbers do
//     not matter, of any other its bytes; or form: the fields of a form whatever
//     their order, likewise; or multipart: the parts of a multipart body without
//     the boundary that each try makes anew, likewise. The three go together.
//     Each has what says how the body is to be read: media type and charset, and
//     Content-Encoding, which json, form and multipart undo. Without any of them the
//     body does not matter;
//   - except:POINTER: besides json, what that JSON pointer leads to does not matter;
//     or only:POINTER: nothing else of a JSON body matters. In a pointer, * is every
//     element of an array;
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
	case f.target && f.query:
		return nil, errors.New("target has the query already: want path with query")
	case f.query && !f.path:
		return nil, errors.New("query goes with path, and that is not there")
	case f.body && f.IsOfForm():
		return nil, errors.New("body is all of the body already: leave it out, or json, form and multipart")
	case !f.json && f.selects():
		return nil, errors.New("except and only say something of json, and that is not there")
	case len(f.selected.except) > 0 && len(f.selected.only) > 0:
		return nil, errors.New("except and only exclude each other")
	case len(f.selected.except)+len(f.selected.only) > maxSelected:
		return nil, fmt.Errorf("want at most %d pointers of except or only", maxSelected)
	case len(f.parts) == 0:
		return nil, errors.New("nothing to tell two requests apart by")
	case slices.Equal(f.parts, defaultFingerprint.parts):
		return nil, nil //nolint:nilnil // the default
	}
	return f, nil
}

// maxSelected bounds how many pointers each member of a body is compared with.
const maxSelected = 32

// selects says whether except or only is there.
func (f *Fingerprint) selects() bool { return len(f.selected.except)+len(f.selected.only) > 0 }

// addPointer takes except:POINTER or only:POINTER in.
func (f *Fingerprint) addPointer(to *[]pointer, kind, text string) error {
	p, err := parsePointer(text)
	if err != nil {
		return err
	}
	part := kind + ":" + p.String()
	if slices.Contains(f.parts, part) {
		return fmt.Errorf("%q is there twice", part)
	}
	if len(p) == 0 {
		return fmt.Errorf("%q is all of the body", part)
	}
	*to = append(*to, p)
	f.parts, f.spelled = append(f.parts, part), append(f.spelled, part)
	return nil
}

// add takes one part in.
func (f *Fingerprint) add(part string) error {
	if text, is := strings.CutPrefix(part, "except:"); is {
		return f.addPointer(&f.selected.except, "except", text)
	}
	if text, is := strings.CutPrefix(part, "only:"); is {
		return f.addPointer(&f.selected.only, "only", text)
	}
	name, isHeader := strings.CutPrefix(part, "header:")
	lower := part
	if isHeader {
		name = strings.ToLower(name)
		lower = "header:" + name
	}
	to := map[string]*bool{
		"method": &f.method, "target": &f.target, "path": &f.path, "query": &f.query, "any-host": &f.anyHost,
		"body": &f.body, "json": &f.json, "form": &f.form, "multipart": &f.multipart,
	}[part]
	switch {
	case isHeader && name == "", !isHeader && to == nil:
		return fmt.Errorf("%q is none of %s, header:NAME, except:POINTER or only:POINTER", part, strings.Join(FingerprintParts(), ", "))
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
func (f *Fingerprint) IsOfForm() bool { return f != nil && (f.json || f.form || f.multipart) }

// readsBody says whether the body matters.
func (f *Fingerprint) readsBody() bool { return f.body || f.json || f.form || f.multipart }

// partSums are checksums of method, target, headers and body, as far as they count: the
// order is that of idem.Hints.
type partSums [len(idem.Hints{})]uint32

//nolint:gochecknoglobals // a constant, of a kind that Go has no word for
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// of is the request's fingerprint: the SHA-256 of its parts, each with its name
// and length, so that no two requests are written to the hash alike. It does not
// allocate unless the body is to be read as JSON, a form or multipart. sums are of what
// was written of each part.
func (f *Fingerprint) of(q *Asked) (sum Digest, sums partSums) {
	h := hashers.Get().(*hasher) //nolint:forcetypeassert // see New
	defer hashers.Put(h)
	h.Reset()
	b, body, ends := f.appendAll(h.head[:0], q)
	from := 0
	for i, end := range ends {
		sums[i], from = crc32.Checksum(b[from:end], castagnoli), end
	}
	sums[len(ends)] = crc32.Update(crc32.Checksum(b[from:], castagnoli), castagnoli, body)
	_, _ = h.Write(b)
	_, _ = h.Write(body)
	h.head = b[:0]
	h.Sum(h.sum[:0])
	return h.sum, sums
}

// appendAll appends all that is hashed but the body, which it returns. ends are where
// method, target and headers end.
func (f *Fingerprint) appendAll(b []byte, q *Asked) (head, body []byte, ends [len(partSums{}) - 1]int) {
	if f == nil {
		f = &defaultFingerprint
	}
	b = f.appendMethod(b, q)
	ends[0] = len(b)
	b = f.appendTarget(b, q)
	ends[1] = len(b)
	for _, want := range f.headers {
		for value := range q.Head.Named(want) {
			b = appendPartName(b, "header:", want, len(value))
			b = append(b, value...)
		}
	}
	ends[2] = len(b)
	if f.readsBody() {
		b, body = f.appendBody(b, q)
	}
	return b, body, ends
}

func (f *Fingerprint) appendMethod(b []byte, q *Asked) []byte {
	if !f.method {
		return b
	}
	b = appendPart(b, "method", q.Head.Method())
	for name, value := range q.Head.Overrides() {
		b = append(message.AppendLower(append(b, "override:"...), name), 0)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(value))), value...) //nolint:gosec // bounded by the request's limits
	}
	return b
}

func (f *Fingerprint) appendTarget(b []byte, q *Asked) []byte {
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
	if f.query {
		b = appendQuery(b, q.Target)
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

// version is that of the recipe: forms are made in another way since version 3, and all
// else is as it was.
func (f *Fingerprint) version() int {
	if f != nil && !f.earlier && (f.IsOfForm() || f.query) {
		return recipeVersion
	}
	return earlierVersion
}

// before is the same fingerprint as version 2 made it, nil if that is no other one.
func (f *Fingerprint) before() *Fingerprint {
	if f.version() == earlierVersion || f.form || f.query || f.selects() {
		return nil
	}
	was := *f
	was.earlier = true
	return &was
}
