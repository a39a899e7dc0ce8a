package proxy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// ScopeSource is one thing that partitions the keys.
type ScopeSource struct {
	kind scopeKind
	name string // of a field in lower case, of a claim as it is
}

type scopeKind uint8

const (
	scopeHeader scopeKind = iota
	scopeHost
	scopeClaim
)

// What a record's names have room for.
const (
	maxScopes = 3
	maxScope  = 700
)

// TokenVerifier verifies bearer tokens for scopes of the kind claim:NAME.
type TokenVerifier interface {
	// Claim verifies the token and returns one of its claims, and who issued it;
	// empty if it does not say.
	Claim(token, name string) (value, issuer string, err error)
}

// ParseScope reads a list of sources: header:NAME, host, or claim:NAME, which is
// that claim of the bearer token. Keys are the same only if all of them are. The
// order does not matter.
func ParseScope(sources []string) ([]ScopeSource, error) {
	all, err := parseSources(sources)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b ScopeSource) int { return cmp.Compare(a.String(), b.String()) })
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		return nil, errors.New("a source is there twice")
	}
	return all, nil
}

// parseSources keeps the order.
func parseSources(sources []string) ([]ScopeSource, error) {
	if len(sources) > maxScopes {
		return nil, fmt.Errorf("%d sources are too many: want at most %d", len(sources), maxScopes)
	}
	var all []ScopeSource
	for _, text := range sources {
		kind, name, _ := strings.Cut(text, ":")
		switch {
		case text == "host":
			all = append(all, ScopeSource{kind: scopeHost})
		case kind == "header" && isPrintable([]byte(name)):
			all = append(all, ScopeSource{scopeHeader, strings.ToLower(name)})
		case kind == "claim" && isPrintable([]byte(name)):
			all = append(all, ScopeSource{scopeClaim, name})
		default:
			return nil, fmt.Errorf("%q is none of header:NAME, host or claim:NAME", text)
		}
	}
	return all, nil
}

// EarlierScope is how keys were named by settings that are not those of now: a
// former Rules.Scope, or what the release before named scopes made of it.
type EarlierScope struct {
	sources []ScopeSource
	plain   bool // values without their sources, as given
}

// maxEarlierScopes bounds what a request with a key may cost.
const maxEarlierScopes = 4

// ParseEarlierScopes reads former scopes: the sources of each joined by +, such as
// "header:X-Account-Id+host", or none for keys that were in no scope. With v1:
// before it, "v1:header:X-Account-Id", names are made as the release before named
// scopes made them, for which the order of the sources counts.
func ParseEarlierScopes(texts []string) ([]EarlierScope, error) {
	if len(texts) > maxEarlierScopes {
		return nil, fmt.Errorf("%d earlier scopes are too many: want at most %d", len(texts), maxEarlierScopes)
	}
	var all []EarlierScope
	for _, text := range texts {
		rest, plain := strings.CutPrefix(text, "v1:")
		var sources []ScopeSource
		var err error
		switch {
		case rest == "none":
		case plain:
			sources, err = parseSources(strings.Split(rest, "+"))
		default:
			sources, err = ParseScope(strings.Split(rest, "+"))
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		all = append(all, EarlierScope{sources, plain})
	}
	return all, nil
}

// Errors of scopes.
var (
	errScopeChars  = errors.New("what scopes the key must have 1 to 255 characters of printable ASCII each")
	errScopeLong   = fmt.Errorf("what scopes the key has more than %d characters, its sources' names included", maxScope)
	errScopeAbsent = errors.New("what scopes the key is missing from the request")
	errScopeTwice  = errors.New("what scopes the key is there twice, with different values")
	errToken       = errors.New("the bearer token cannot be verified")
)

// Separators of scopes; no value has the first one.
const (
	nextSource   = 0x1f
	beforeValue  = '='
	beforeIssuer = '@'
)

// scoped puts the key into its scope: source and value of each, so that two
// sources that have the same value do not meet. Its bytes end with the request.
func (id *identity) scoped(h *fasthttp.RequestHeader) error {
	if len(id.rules.Scope) == 0 {
		return nil
	}
	b := id.buffers.scope[:0]
	for i, source := range id.rules.Scope {
		value, issuer, err := id.valueOf(h, source)
		if err != nil {
			return fmt.Errorf("%w (%s)", err, source)
		}
		if i > 0 {
			b = append(b, nextSource)
		}
		b = append(append(source.append(b, issuer), beforeValue), value...)
	}
	if len(b) > maxScope {
		return errScopeLong
	}
	id.buffers.scope = b
	id.key = id.key.InScope(unsafe.String(unsafe.SliceData(b), len(b))) //nolint:gosec // outlives the handler, like the header
	return nil
}

// earlierKeys are the names that the key had by earlier settings. A request that
// lacks what one of them asks for could not have been sent under it.
func (id *identity) earlierKeys(h *fasthttp.RequestHeader) (keys []idem.Key) {
	for _, earlier := range id.rules.EarlierScopes {
		scope, err := id.earlierScope(h, earlier)
		if key := id.key.InScope(scope); err == nil && key != id.key && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (id *identity) earlierScope(h *fasthttp.RequestHeader, earlier EarlierScope) (string, error) {
	var b []byte
	for i, source := range earlier.sources {
		value, issuer, err := id.valueOf(h, source)
		if err != nil {
			return "", err
		}
		if i > 0 {
			b = append(b, nextSource)
		}
		switch {
		case earlier.plain && source.kind == scopeHost:
			value = plainHost(h)
		case !earlier.plain:
			b = append(source.append(b, issuer), beforeValue)
		}
		b = append(b, value...)
	}
	return string(b), nil
}

// plainHost is the host as scopes once had it: in small letters, without any port.
func plainHost(h *fasthttp.RequestHeader) []byte {
	host := h.Host()
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	return bytes.ToLower(host)
}

// valueOf is what the request has of a source, and of a claim the issuer.
func (id *identity) valueOf(h *fasthttp.RequestHeader, source ScopeSource) (value []byte, issuer string, err error) {
	switch source.kind {
	case scopeHost:
		value = id.asked.host
	case scopeClaim:
		claim, by, err := id.claim(h, source.name)
		if err != nil {
			return nil, "", err
		}
		value, issuer = []byte(claim), by
	case scopeHeader:
		for name, one := range h.AllInOrder() {
			if !equalFold(name, source.name) {
				continue
			}
			if value != nil && !bytes.Equal(value, one) {
				return nil, "", errScopeTwice
			}
			value = one
		}
	}
	switch {
	case value == nil:
		return nil, "", errScopeAbsent
	case len(value) > idem.MaxKeyLen || !isPrintable(value), issuer != "" && !isPrintable([]byte(issuer)):
		return nil, "", errScopeChars
	}
	return value, issuer, nil
}

// isPrintable: at least one character, all of printable ASCII. What the proxy
// itself puts into scopes begins with another one (see scopeDerived), so no client
// can name those.
func isPrintable(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return len(b) > 0
}

// append appends the source with the issuer of its claim, if that says one.
func (s ScopeSource) append(b []byte, issuer string) []byte {
	switch s.kind {
	case scopeHost:
		return append(b, "host"...)
	case scopeHeader:
		return append(append(b, "header:"...), s.name...)
	case scopeClaim:
	}
	b = appendEncoded(append(b, "claim:"...), s.name)
	if issuer != "" {
		b = appendEncoded(append(b, beforeIssuer), issuer)
	}
	return b
}

// appendEncoded writes the separators as percent encodings, so that no two pairs
// of claim and issuer are written alike.
func appendEncoded(b []byte, s string) []byte {
	for i := range len(s) {
		switch s[i] {
		case beforeValue:
			b = append(b, "%3D"...)
		case beforeIssuer:
			b = append(b, "%40"...)
		case '%':
			b = append(b, "%25"...)
		default:
			b = append(b, s[i])
		}
	}
	return b
}

// String is the source as in the configuration.
func (s ScopeSource) String() string {
	switch s.kind {
	case scopeHeader:
		return "header:" + s.name
	case scopeClaim:
		return "claim:" + s.name
	case scopeHost:
	}
	return "host"
}

// claim is one of the bearer token's (RFC 6750 section 2.1), and its issuer.
func (id *identity) claim(h *fasthttp.RequestHeader, name string) (value, issuer string, err error) {
	var token []byte
	n := 0
	for key, value := range h.AllInOrder() {
		if equalFold(key, "Authorization") {
			scheme, rest, _ := bytes.Cut(value, []byte{' '})
			if equalFold(scheme, "Bearer") {
				token = bytes.TrimSpace(rest)
			}
			n++
		}
	}
	if n != 1 || len(token) == 0 {
		return "", "", fmt.Errorf("%w: want one header Authorization: Bearer TOKEN", errToken)
	}
	value, issuer, err = id.rules.Tokens.Claim(string(token), name)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", errToken, err)
	}
	return value, issuer, nil
}
