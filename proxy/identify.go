package proxy

import (
	"bytes"
	"errors"
	"fmt"
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
	rules   *Rules // of its route
	live    *live
	buffers buffers

	keyed   bool
	derived bool // the key is to be derived from the payload
	key     idem.Key
	earlier []idem.Key // what the key was called by earlier settings
	asked   asked
	caller  digest // zero: not known

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

// buffers are kept from request to request.
type buffers struct {
	host, scope []byte
	under       func(idem.Recipe) (idem.Fingerprint, idem.Binding, bool) // the identity's own method
}

// seen is what identify collects on its way through the header.
type seen struct {
	values [2][]byte // keys
	more   [][]byte  // further keys
	n      int       // how many keys
	bound  bool      // a field that says who asks was there
}

// identify reads the header once. Names are compared without case, values are
// taken as they are.
func (id *identity) identify(ctx *fasthttp.RequestCtx) error {
	h := &ctx.Request.Header
	id.asked.header, id.asked.target = h, h.RequestURI()
	id.buffers.host = canonicalHost(id.buffers.host[:0], h.Host())
	id.asked.host = id.buffers.host
	var found seen
	for name, value := range h.AllInOrder() {
		if id.rules.isKeyHeader(name) {
			found.addKey(value)
		} else {
			id.collect(name, value)
		}
		found.bound = found.bound || id.rules.binds(name)
	}
	if err := id.parseKeys(&found); err != nil {
		return err
	}
	id.asked.scheme = id.scheme(ctx)
	id.whoAsks(ctx, found.bound)
	switch {
	case id.keyed:
		if err := id.rules.Keys.Check(id.key); err != nil {
			return err
		}
	case id.rules.RequireKey:
		return errKeyMissing
	case !id.derives(h):
		return nil
	case id.known():
		id.derived = true
	case !id.rules.RequireBind:
		return nil
	}
	if id.rules.RequireBind && !id.known() {
		return errCallerUnknown
	}
	id.wishes()
	if err := id.scoped(h); err != nil {
		return err
	}
	if id.keyed && len(id.rules.EarlierScopes) > 0 {
		id.earlier = id.earlierKeys(h)
	}
	return nil
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
	text, err := keyText(value)
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

// oneKey is a field's value as the backend gets it: of a list of one and the same
// key that key, so that a backend that reads keys itself sees the same one each time.
func (id *identity) oneKey(name, value []byte) []byte {
	if !id.keyed || bytes.IndexByte(value, ',') < 0 || !id.rules.isKeyHeader(name) {
		return value
	}
	first, _ := cutUnquoted(value, ',')
	first = bytes.TrimSpace(first)
	if text, err := unquote(first); err != nil || text != id.key.Value() {
		return value
	}
	return first
}

// keyText is the key in a field's value. An intermediary may have joined two lines
// of the field into one, which means the same (RFC 9110 section 5.3): a list of
// one and the same key is that key. A list of several quoted ones is an error, as
// two lines are. A bare value with commas in it that is no such list is one key,
// since a bare key may have commas, and nobody can tell.
func keyText(value []byte) (string, error) {
	if bytes.IndexByte(value, ',') < 0 {
		return unquote(value)
	}
	quoted := value[0] == '"'
	var first string
	for n, rest := 0, value; len(rest) > 0; n++ {
		var one []byte
		one, rest = cutUnquoted(rest, ',')
		text, err := unquote(bytes.TrimSpace(one))
		switch {
		case err != nil && quoted:
			return "", err
		case err != nil, n > 0 && text != first && !quoted, text == "":
			return unquote(value)
		case n > 0 && text != first:
			return "", errKeysDiffer
		}
		first = text
	}
	if value[len(value)-1] == ',' { // an empty one is at its end
		return unquote(value)
	}
	return first, nil
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
