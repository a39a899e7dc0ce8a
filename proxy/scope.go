package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// ScopeSource is one thing that partitions the keys.
type ScopeSource struct {
	kind scopeKind
	name string
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
	// Claim verifies the token and returns one of its claims.
	Claim(token, name string) (string, error)
}

// ParseScope reads a list of sources: header:NAME, host, or claim:NAME, which is
// that claim of the bearer token. Keys are the same only if all of them are.
func ParseScope(sources []string) ([]ScopeSource, error) {
	if len(sources) > maxScopes {
		return nil, fmt.Errorf("%d sources are too many: want at most %d", len(sources), maxScopes)
	}
	var all []ScopeSource
	for _, text := range sources {
		kind, name, _ := strings.Cut(text, ":")
		switch {
		case text == "host":
			all = append(all, ScopeSource{kind: scopeHost})
		case kind == "header" && name != "":
			all = append(all, ScopeSource{scopeHeader, name})
		case kind == "claim" && name != "":
			all = append(all, ScopeSource{scopeClaim, name})
		default:
			return nil, fmt.Errorf("%q is none of header:NAME, host or claim:NAME", text)
		}
	}
	return all, nil
}

// Errors of scopes.
var (
	errScopeChars  = errors.New("what scopes the key must have 1 to 255 characters of printable ASCII each, 700 together")
	errScopeAbsent = errors.New("what scopes the key is missing from the request")
	errScopeTwice  = errors.New("what scopes the key is there twice, with different values")
	errToken       = errors.New("the bearer token cannot be verified")
)

// collectScope keeps the values of headers that scope the key, and says whether
// there was such a header twice with different values.
func (f *seen) collectScope(sources []ScopeSource, name, value []byte) {
	for i := range sources {
		if sources[i].kind != scopeHeader || !equalFold(name, sources[i].name) {
			continue
		}
		if f.scopes[i] != nil && !bytes.Equal(f.scopes[i], value) {
			f.scopeTwice = true
		}
		f.scopes[i] = value
	}
}

// scoped puts the key into its scope.
func (id *identity) scoped(h *fasthttp.RequestHeader, found *seen) error {
	sources := id.rules.Scope
	if found.scopeTwice {
		return errScopeTwice
	}
	if len(sources) == 1 && sources[0].kind == scopeHeader { // by reference, like the key
		value := found.scopes[0]
		if err := checkScope(value); err != nil {
			return fmt.Errorf("%w (%s)", err, sources[0].name)
		}
		id.key = id.key.InScope(unsafe.String(unsafe.SliceData(value), len(value))) //nolint:gosec // the header outlives the handler
		return nil
	}
	var scope []byte
	for i, source := range sources {
		value := found.scopes[i]
		switch source.kind {
		case scopeHost:
			value = hostOf(h)
		case scopeClaim:
			claim, err := id.claim(h, source.name)
			if err != nil {
				return err
			}
			value = []byte(claim)
		case scopeHeader:
		}
		if err := checkScope(value); err != nil {
			return fmt.Errorf("%w (%s)", err, source)
		}
		if i > 0 {
			scope = append(scope, 0x1f) // no value has one
		}
		scope = append(scope, value...)
	}
	if len(scope) > maxScope {
		return errScopeChars
	}
	id.key = id.key.InScope(string(scope))
	return nil
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

func checkScope(value []byte) error {
	switch {
	case value == nil:
		return errScopeAbsent
	case len(value) == 0 || len(value) > idem.MaxKeyLen:
		return errScopeChars
	}
	for _, c := range value {
		if c < 0x20 || c > 0x7e {
			return errScopeChars
		}
	}
	return nil
}

// hostOf is the host without its port, in small letters.
func hostOf(h *fasthttp.RequestHeader) []byte {
	host := h.Host()
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	return bytes.ToLower(host)
}

// claim is one of the bearer token's (RFC 6750 section 2.1).
func (id *identity) claim(h *fasthttp.RequestHeader, name string) (string, error) {
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
		return "", fmt.Errorf("%w: want one header Authorization: Bearer TOKEN", errToken)
	}
	value, err := id.rules.Tokens.Claim(string(token), name)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errToken, err)
	}
	return value, nil
}
