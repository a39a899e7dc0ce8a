package message

import (
	"bytes"
	"iter"

	"github.com/valyala/fasthttp"
)

// Head is a request's header, read once into a table, which all that asks of the
// header looks at. The zero value is ready for Read. It is not safe for concurrent
// use, and its bytes end with the request.
type Head struct {
	header *fasthttp.RequestHeader
	fields []Field
	host   []byte // canonical
	joined [joinedKinds][]byte
	own    [joinedKinds]bool // joined has room of its own
	tokens tokens
}

// Field is a line of a header.
type Field struct {
	Name, Value []byte
	kind        kind
	// key: it carries the idempotency key, which is end to end whatever Connection
	// says, so that nobody can strip it on the way to the backend.
	key bool
}

// kind is what a field of a request is for, as far as this proxy minds. The first
// ones are lists, whose repeats are joined (RFC 9110 section 5.3).
type kind uint8

const (
	kindVia kind = iota
	kindPrefer
	kindConnection
	kindForwardedFor
	kindForwardedHost
	kindForwardedProto
	kindForwarded
	kindUpgrade
	kindRequestID
	kindTraceparent
	joinedKinds // how many those are

	kindHost
	kindContentLength
	kindContentType
	kindAttempt // and what else says which attempt it is
	kindMethodOverride
	kindOrigin // all others that say where the request came from, or what it was for there
	kindHop    // all others that end at this hop
	kindMeant  // all others that this proxy goes by
	kindTwin   // what a backend may take for one of these: see isTwin
	kindOther
)

// Names of fields that this proxy writes or reads in requests.
const (
	// HeaderRequestID names a request across the services that it goes through. The
	// client's is passed on; one that has none gets one. Its answer has it, too.
	HeaderRequestID = "X-Request-Id"
	// HeaderKey is the idempotency key, as the IETF draft calls it.
	HeaderKey = "Idempotency-Key"
	// HeaderAttempt tells the backend which attempt at the key it sees, from 1:
	// monotonic per key, so that it can serve as a fencing token.
	HeaderAttempt = "Idempotency-Attempt"
	// HeaderToken names the attempt: no other one, at any key, ever has that token, not
	// even after the store has lost what it knew.
	HeaderToken = "Idempotency-Attempt-Token" //nolint:gosec // no credential: who shows it can do nothing here
	// HeaderScope is the key's scope, if it has one: key and scope name the operation.
	HeaderScope = "Idempotency-Scope"
)

// kindOf looks a name up.
func kindOf(name []byte) kind {
	k := known(name)
	switch {
	case k != kindOther:
		return k
	case IsHopByHop(name):
		return kindHop
	case isOrigin(name):
		return kindOrigin
	case isMethodOverride(name):
		return kindMethodOverride
	case isMeant(name):
		return kindMeant
	}
	return kindOther
}

// known looks a name up: by its length, and then among few.
func known(name []byte) kind {
	switch len(name) {
	case 3:
		return pick(name, "Via", kindVia)
	case 4:
		return pick(name, "Host", kindHost)
	case 6:
		if EqualFold(name, "Prefer") {
			return kindPrefer
		}
	case 7:
		if EqualFold(name, "Upgrade") {
			return kindUpgrade
		}
	case 9:
		return pick(name, "Forwarded", kindForwarded)
	case 10:
		if EqualFold(name, "Connection") {
			return kindConnection
		}
	case 11:
		return pick(name, "Traceparent", kindTraceparent)
	case 12:
		if EqualFold(name, HeaderRequestID) {
			return kindRequestID
		}
		return pick(name, "Content-Type", kindContentType)
	case 14:
		return pick(name, "Content-Length", kindContentLength)
	case 15:
		return pick(name, "X-Forwarded-For", kindForwardedFor)
	case 16:
		if EqualFold(name, "X-Forwarded-Host") {
			return kindForwardedHost
		}
	case 17:
		if EqualFold(name, "X-Forwarded-Proto") {
			return kindForwardedProto
		}
		return pick(name, HeaderScope, kindAttempt)
	case 19:
		if EqualFold(name, HeaderAttempt) {
			return kindAttempt
		}
	case 25:
		return pick(name, HeaderToken, kindAttempt)
	}
	return kindOther
}

func isMethodOverride(name []byte) bool {
	switch len(name) {
	case 13:
		return EqualFold(name, "X-HTTP-Method")
	case 17:
		return EqualFold(name, "X-Method-Override")
	case 22:
		return EqualFold(name, "X-HTTP-Method-Override")
	}
	return false
}

// isMeant says of a field that this proxy goes by it, though it passes as it is: what
// the backend takes for it must be what was looked at here.
func isMeant(name []byte) bool {
	switch len(name) {
	case 12:
		return EqualFold(name, "Max-Forwards")
	case 15:
		return EqualFold(name, "Accept-Encoding")
	case 29:
		return EqualFold(name, "Access-Control-Request-Method")
	case 30:
		return EqualFold(name, "Access-Control-Request-Headers")
	}
	return false
}

// twinOf is kindTwin for a name that a backend may take for one of a kind that this
// proxy minds, and k for others.
func twinOf(name []byte, k kind) kind {
	var buf [maxKnown]byte
	if k != kindOther || len(name) > maxKnown || !isOdd(name) {
		return k
	}
	dashed := append(buf[:0], name...)
	for i, c := range dashed {
		if isSign(c) {
			dashed[i] = '-'
		}
	}
	if kindOf(dashed) != kindOther {
		return kindTwin
	}
	return k
}

// maxKnown is longer than any name that kindOf knows by its whole length, and than
// any of the family X-Forwarded that there is.
const maxKnown = 64

func pick(name []byte, want string, k kind) kind {
	if EqualFold(name, want) {
		return k
	}
	return kindOther
}

// Read takes in a header that [Sound] takes. Names are compared without case, values
// are taken as they are.
func (h *Head) Read(header *fasthttp.RequestHeader) {
	h.header = header
	h.host = CanonicalHost(h.host[:0], header.Host())
	h.fields = h.fields[:0]
	for name, value := range linesOf(header) {
		k := twinOf(name, kindOf(name))
		if k < joinedKinds {
			h.join(k, value)
		}
		h.fields = append(h.fields, Field{Name: name, Value: value, kind: k})
	}
	h.tokens.read(h.joined[kindConnection])
}

// linesOf are the lines of a header that [Sound] takes, in their order: what fasthttp's
// AllInOrder has of it, without the checks that were made when it was parsed.
func linesOf(header *fasthttp.RequestHeader) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for raw := header.RawHeaders(); len(raw) > 0; {
			end := bytes.IndexByte(raw, '\n')
			if end <= 1 { // the empty line
				return
			}
			line := raw[:end-1]
			raw = raw[end+1:]
			colon := bytes.IndexByte(line, ':')
			if colon < 0 || !yield(line[:colon], trimmed(line[colon+1:])) {
				return
			}
		}
	}
}

// trimmed is a value without the white space around it (RFC 9110 section 5.5).
func trimmed(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func (h *Head) join(k kind, value []byte) {
	to := &h.joined[k]
	switch {
	case len(*to) == 0:
		*to = value
		return
	case !h.own[k]: // grows from here by itself, so that thousands of lines cost no more than their bytes
		*to, h.own[k] = bytes.Clone(*to), true
	}
	*to = append(append(*to, ", "...), value...)
}

// Reset leaves nothing of the request but room.
func (h *Head) Reset() {
	clear(h.fields)
	*h = Head{fields: h.fields[:0], host: h.host[:0]}
}

// All are the fields in their order. Each may be changed by [Field.IsKey].
func (h *Head) All() []Field { return h.fields }

// Named are the values of a field, in their order.
func (h *Head) Named(name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := range h.fields {
			if f := &h.fields[i]; EqualFold(f.Name, name) && !yield(f.Value) {
				return
			}
		}
	}
}

// IsKey says of a field that it carries the idempotency key, and what the backend
// is to get of it.
func (f *Field) IsKey(value []byte) { f.key, f.Value = true, value }

// Method is the request's.
func (h *Head) Method() []byte { return h.header.Method() }

// MayChange says of a request that it is not safe (RFC 9110 section 9.2.1): by its
// method, or by another one that it asks the backend to go by.
func (h *Head) MayChange() bool {
	switch string(h.Method()) {
	case "GET", "HEAD", "OPTIONS", "TRACE":
	default:
		return true
	}
	for range h.Overrides() {
		return true
	}
	return false
}

// Overrides are the fields that have some backends go by another method, with the names as
// they are spelled.
func (h *Head) Overrides() iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for i := range h.fields {
			if f := &h.fields[i]; f.kind == kindMethodOverride && !yield(f.Name, f.Value) {
				return
			}
		}
	}
}

// Target is path and query, or what else the method takes.
func (h *Head) Target() []byte { return h.header.RequestURI() }

// Path is the target without its query.
func (h *Head) Path() []byte { return PathOf(h.header) }

// Host is the canonical one: see [CanonicalHost].
func (h *Head) Host() []byte { return h.host }

// ContentType is the first one.
func (h *Head) ContentType() []byte { return h.header.ContentType() }

// Prefer is RFC 7240's field, repeats joined.
func (h *Head) Prefer() []byte { return h.joined[kindPrefer] }

// RequestID is the client's X-Request-Id; empty for none.
func (h *Head) RequestID() []byte { return h.joined[kindRequestID] }

// Traceparent is the client's; empty for none.
func (h *Head) Traceparent() []byte { return h.joined[kindTraceparent] }

// ForwardedFor and ForwardedProto are what the peer says of where the request came
// from, whether it is to be believed or not.
func (h *Head) ForwardedFor() []byte { return h.joined[kindForwardedFor] }

// ForwardedProto is X-Forwarded-Proto: see ForwardedFor.
func (h *Head) ForwardedProto() []byte { return h.joined[kindForwardedProto] }

// WantsUpgrade says whether the request asks to leave HTTP in a way that can be
// passed on: as RFC 9110 section 7.8 has it, and without a body. h2c is not, since
// what came after it would get around every check of this proxy.
func (h *Head) WantsUpgrade() bool {
	upgrade := h.joined[kindUpgrade]
	if len(upgrade) == 0 || !h.header.IsHTTP11() {
		return false
	}
	n := h.header.ContentLength()
	return (n == 0 || n == -2) && h.tokens.has([]byte("Upgrade")) && !ListHas(upgrade, []byte("h2c"))
}

// HasBody says whether a body comes behind the header, be it an empty one in chunks.
func (h *Head) HasBody() bool {
	n := h.header.ContentLength()
	return n > 0 || n == -1
}

// PathOf is a header's target without its query.
func PathOf(h *fasthttp.RequestHeader) []byte {
	path, _, _ := bytes.Cut(h.RequestURI(), []byte{'?'})
	return path
}

// tokens are those of Connection (RFC 9110 section 7.6.1): the names of fields
// that end at this hop. A list that is long is looked up, since a client may send
// thousands of tokens and of fields.
type tokens struct {
	list   []byte
	lookup map[string]struct{}
}

// manyTokens is about where looking up begins to be worth it, in bytes.
const manyTokens = 128

func (t *tokens) read(list []byte) {
	t.list, t.lookup = list, nil
	if len(list) <= manyTokens {
		return
	}
	t.lookup = map[string]struct{}{}
	var lower []byte
	for token := range bytes.SplitSeq(list, []byte{','}) {
		lower = AppendLower(lower[:0], bytes.TrimSpace(token))
		t.lookup[string(lower)] = struct{}{}
	}
}

func (t *tokens) has(name []byte) bool {
	if len(t.list) == 0 {
		return false
	}
	if t.lookup == nil {
		return ListHas(t.list, name)
	}
	var buf [64]byte
	_, there := t.lookup[string(AppendLower(buf[:0], name))]
	return there
}

// NoKeys takes back what [Field.IsKey] said of any field: the request is forwarded as
// if nobody had looked for a key.
func (h *Head) NoKeys() {
	i := 0
	for _, value := range linesOf(h.header) {
		h.fields[i].key, h.fields[i].Value = false, value
		i++
	}
}
