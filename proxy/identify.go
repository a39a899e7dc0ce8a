package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/dunglas/httpsfv"
	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// The two spellings of the key's header: what Idempotency-Key (the IETF draft
// draft-ietf-httpapi-idempotency-key-header) was called before it had a draft,
// and the draft's.
const (
	headerKey    = "Idempotency-Key"
	headerKeyOld = "X-Idempotency-Key"
	headerReplay = "Idempotent-Replayed"
	// headerAttempt tells the backend which attempt at the key it sees, from 1:
	// monotonic per key, so that it can serve as a fencing token.
	headerAttempt = "Idempotency-Attempt"
	// headerUnprotected marks what was forwarded without a lease, since the store
	// could not answer (fail open).
	headerUnprotected = "Idempotency-Unprotected"
)

// Errors of identify, each a 400.
var (
	errKeysDiffer = errors.New("the request has several idempotency keys, and they differ")
	errKeyMissing = errors.New("the request has no idempotency key, and this route requires one")
	errKeyQuoting = errors.New("the key starts with a quote but is not an RFC 9651 string")
)

// identity is which operation a request asks for, who asks, and what else one
// look at the header tells. Its byte slices belong to the request.
type identity struct {
	rules *Rules // of its route

	keyed   bool
	derived bool // the key is to be derived from the payload
	key     idem.Key
	binding idem.Binding

	nominated      []byte // by Connection, as a list
	forwardedFor   []byte
	forwardedProto []byte
	forwardedHost  []byte
	prefer         []byte
	via            []byte
	forwarded      []byte
	upgrade        []byte
	upgrading      bool // it asks to, and may
	trusted        bool // who sent it is: see Config.TrustedProxies
	trustedProxies prefixes
	requestID      []byte // X-Request-Id
	ownID          [requestIDLen]byte
	traceparent    []byte
	ownTraceparent string // that takes its place: see Trace.Forward

	attempt uint32 // under which it is forwarded

	wait     time.Duration // how long it may take for a key in progress to end
	upload   upload
	buffered int64 // bytes that it holds: see admission
}

// seen is what identify collects on its way through the header.
type seen struct {
	scopes     [maxScopes][]byte
	scopeTwice bool
	values     [2][]byte // keys
	more       [][]byte  // further keys
	n          int       // how many keys
	bound      bool
}

// identify reads the header once. Names are compared without case, values are
// taken as they are.
func (id *identity) identify(h *fasthttp.RequestHeader) error {
	var found seen
	for name, value := range h.AllInOrder() {
		switch {
		case id.rules.isKeyHeader(name):
			found.addKey(value)
		default:
			id.collect(name, value)
		}
		if len(id.rules.Scope) > 0 {
			found.collectScope(id.rules.Scope, name, value)
		}
		found.bound = found.bound || id.rules.binds(name)
	}
	if err := id.parseKeys(&found); err != nil {
		return err
	}
	if found.bound && (id.keyed || id.rules.DeriveKey > 0 || id.rules.MaxPerCaller > 0) {
		id.binding = id.rules.bindingOf(h)
	}
	if !id.keyed {
		if id.rules.RequireKey {
			return errKeyMissing
		}
		if id.derived = id.derives(h); !id.derived {
			return nil
		}
	}
	if err := id.rules.Keys.Check(id.key); err != nil && !id.derived {
		return err
	}
	if err := id.wishes(); err != nil {
		return err
	}
	if len(id.rules.Scope) == 0 {
		return nil
	}
	return id.scoped(h, &found)
}

func (f *seen) addKey(value []byte) {
	if f.n < len(f.values) {
		f.values[f.n] = value
	} else {
		f.more = append(f.more, value)
	}
	f.n++
}

// collect keeps what outgoing writes anew, repeats joined (RFC 9110 section 5.3).
func (id *identity) collect(name, value []byte) {
	var to *[]byte
	switch {
	case equalFold(name, "Via"):
		to = &id.via
	case equalFold(name, "Prefer"):
		to = &id.prefer
	case equalFold(name, "Connection"):
		to = &id.nominated
	case equalFold(name, "X-Forwarded-For"):
		to = &id.forwardedFor
	case equalFold(name, "X-Forwarded-Host"):
		to = &id.forwardedHost
	case equalFold(name, "X-Forwarded-Proto"):
		to = &id.forwardedProto
	case equalFold(name, "Forwarded"):
		to = &id.forwarded
	case equalFold(name, "Upgrade"):
		to = &id.upgrade
	case equalFold(name, headerRequestID):
		to = &id.requestID
	case equalFold(name, "Traceparent"):
		to = &id.traceparent
	default:
		return
	}
	if len(*to) == 0 {
		*to = value
	} else {
		*to = bytes.Join([][]byte{*to, value}, []byte(", "))
	}
}

// drops says which of the client's fields do not go on as they are: those that
// end at this hop (RFC 9110 section 7.6.1), and those that outgoing writes.
// The idempotency key is end to end whatever Connection says, so that nobody can
// strip it on the way to the backend.
func (id *identity) drops(name []byte) bool {
	switch {
	case isHopByHop(name), equalFold(name, "Content-Length"), equalFold(name, "Host"), equalFold(name, "Via"),
		equalFold(name, "X-Forwarded-For"), equalFold(name, "X-Forwarded-Host"), equalFold(name, "X-Forwarded-Proto"),
		equalFold(name, "Forwarded"), equalFold(name, headerAttempt): // nobody but this proxy says it
		return true
	case id.ownTraceparent != "" && equalFold(name, "Traceparent"):
		return true
	case len(id.nominated) == 0, id.rules.isKeyHeader(name), equalFold(name, "Content-Type"):
		return false
	}
	return listHas(id.nominated, name)
}

// listHas looks for a token in a comma-separated list.
func listHas(list, name []byte) bool {
	for token := range bytes.SplitSeq(list, []byte{','}) {
		if bytes.EqualFold(bytes.TrimSpace(token), name) {
			return true
		}
	}
	return false
}

// parseKeys makes one key of all the values. Their quoted and bare spellings are
// the same key; two different keys are an error.
func (id *identity) parseKeys(found *seen) error {
	for _, value := range found.values[:min(found.n, len(found.values))] {
		if err := id.parseKey(value); err != nil {
			return err
		}
	}
	for _, value := range found.more {
		if err := id.parseKey(value); err != nil {
			return err
		}
	}
	return nil
}

func (id *identity) parseKey(value []byte) error {
	text, err := unquote(value)
	if err != nil {
		return err
	}
	key, err := idem.ParseKey(text)
	if err != nil {
		return err
	}
	if id.keyed && key != id.key {
		return errKeysDiffer
	}
	id.key, id.keyed = key, true
	return nil
}

// unquote reads an RFC 9651 string (parameters are ignored, as section 3.1.2
// has it), or takes a value that does not start with a quote as it is.
func unquote(value []byte) (string, error) {
	if len(value) == 0 || value[0] != '"' {
		// By reference, since most requests need no copy; who keeps the key
		// clones it.
		return unsafe.String(unsafe.SliceData(value), len(value)), nil //nolint:gosec // the header outlives the handler
	}
	item, err := httpsfv.UnmarshalItem([]string{string(value)})
	if err != nil {
		return "", fmt.Errorf("%w: %w", errKeyQuoting, err)
	}
	text, ok := item.Value.(string)
	if !ok {
		return "", errKeyQuoting
	}
	return text, nil
}

// isKeyHeader says whether a field carries the key.
func (r *Rules) isKeyHeader(name []byte) bool {
	for _, h := range r.KeyHeaders {
		if equalFold(name, h) {
			return true
		}
	}
	return false
}

func (r *Rules) binds(name []byte) bool {
	for _, b := range r.BindHeaders {
		if equalFold(name, b) {
			return true
		}
	}
	return false
}

// bindingOf hashes the headers that say who asks, names and lengths included, so
// that no two sets of them collide.
func (r *Rules) bindingOf(h *fasthttp.RequestHeader) idem.Binding {
	var buf [512]byte
	b := buf[:0]
	for _, want := range r.BindHeaders {
		for name, value := range h.AllInOrder() {
			if equalFold(name, want) {
				b = binary.BigEndian.AppendUint32(b, uint32(len(want))) //nolint:gosec // bounded by the header's size
				b = append(b, want...)
				b = binary.BigEndian.AppendUint32(b, uint32(len(value))) //nolint:gosec // bounded by the header's size
				b = append(b, value...)
			}
		}
	}
	return sha256.Sum256(b)
}

// bindCertificate adds a client's certificate to who asks: whom it names and who
// says so, but not its serial number or key, which change when it is renewed.
func (id *identity) bindCertificate(ctx *fasthttp.RequestCtx) {
	state := ctx.TLSConnectionState()
	if state == nil || len(state.PeerCertificates) == 0 {
		return
	}
	c := state.PeerCertificates[0]
	sum := sha256.New()
	part := func(b []byte) {
		_, _ = sum.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b)))) //nolint:gosec // bounded by the handshake's size
		_, _ = sum.Write(b)
	}
	part(id.binding[:])
	part(c.RawIssuer)
	part(c.RawSubject)
	for _, name := range slices.Concat(c.DNSNames, c.EmailAddresses) {
		part([]byte(name))
	}
	for _, uri := range c.URIs {
		part([]byte(uri.String()))
	}
	id.binding = idem.Binding(sum.Sum(nil))
}

// equalFold compares ASCII without case and without allocating.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		x, y := b[i], s[i]
		if x != y && (x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z') {
			return false
		}
	}
	return true
}
