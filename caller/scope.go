package caller

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

// Source is one thing that partitions the keys.
type Source struct {
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
func ParseScope(sources []string) ([]Source, error) {
	all, err := parseSources(sources)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Source) int { return cmp.Compare(a.String(), b.String()) })
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		return nil, errors.New("a source is there twice")
	}
	return all, nil
}

// parseSources keeps the order.
func parseSources(sources []string) ([]Source, error) {
	if len(sources) > maxScopes {
		return nil, fmt.Errorf("%d sources are too many: want at most %d", len(sources), maxScopes)
	}
	var all []Source
	for _, text := range sources {
		kind, name, _ := strings.Cut(text, ":")
		switch {
		case text == "host":
			all = append(all, Source{kind: scopeHost})
		case kind == "header" && message.IsPrintable([]byte(name)):
			all = append(all, Source{scopeHeader, strings.ToLower(name)})
		case kind == "claim" && message.IsPrintable([]byte(name)):
			all = append(all, Source{scopeClaim, name})
		default:
			return nil, fmt.Errorf("%q is none of header:NAME, host or claim:NAME", text)
		}
	}
	return all, nil
}

// EarlierScope is how keys were named by settings that are not those of now: a
// former Rules.Scope, or what the release before named scopes made of it.
type EarlierScope struct {
	sources []Source
	plain   bool // values without their sources, as given
}

// Equal says that both make the same names.
func (e EarlierScope) Equal(o EarlierScope) bool {
	return e.plain == o.plain && slices.Equal(e.sources, o.sources)
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
		var sources []Source
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
	ErrScopeChars  = errors.New("what scopes the key must have 1 to 255 characters of printable ASCII each")
	ErrScopeLong   = fmt.Errorf("what scopes the key has more than %d characters, its sources' names included", maxScope)
	ErrScopeAbsent = errors.New("what scopes the key is missing from the request")
	ErrScopeTwice  = errors.New("what scopes the key is there twice, with different values")
	ErrToken       = errors.New("the bearer token cannot be verified")
)

// Separators of scopes; no value has the first one.
const (
	nextSource   = 0x1f
	beforeValue  = '='
	beforeIssuer = '@'
)

// Scope is what partitions the keys of this request: source and value of each, so
// that two sources that have the same value do not meet. It ends with the request.
func (c *Caller) Scope(sources []Source, tokens TokenVerifier) (string, error) {
	b := c.scope[:0]
	for i, source := range sources {
		value, issuer, err := c.valueOf(source, tokens)
		if err != nil {
			return "", fmt.Errorf("%w (%s)", err, source)
		}
		if i > 0 {
			b = append(b, nextSource)
		}
		b = append(append(source.append(b, issuer), beforeValue), value...)
	}
	if len(b) > maxScope {
		return "", ErrScopeLong
	}
	c.scope = b
	return unsafe.String(unsafe.SliceData(b), len(b)), nil //nolint:gosec // outlives the handler, like the header
}

// Earlier is the scope that the request had by earlier settings. A request that
// lacks what they ask for could not have been sent under it: that is the error.
func (c *Caller) Earlier(earlier EarlierScope, tokens TokenVerifier) (string, error) {
	var b []byte
	for i, source := range earlier.sources {
		value, issuer, err := c.valueOf(source, tokens)
		if err != nil {
			return "", err
		}
		if i > 0 {
			b = append(b, nextSource)
		}
		switch {
		case earlier.plain && source.kind == scopeHost:
			value = plainHost(c.ctx.Request.Header.Host())
		case !earlier.plain:
			b = append(source.append(b, issuer), beforeValue)
		}
		b = append(b, value...)
	}
	return string(b), nil
}

// plainHost is the host as scopes once had it: in small letters, without any port.
func plainHost(host []byte) []byte {
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	return bytes.ToLower(host)
}

// valueOf is what the request has of a source, and of a claim the issuer.
func (c *Caller) valueOf(source Source, tokens TokenVerifier) (value []byte, issuer string, err error) {
	switch source.kind {
	case scopeHost:
		value = c.head.Host()
	case scopeClaim:
		claim, by, err := c.claim(source.name, tokens)
		if err != nil {
			return nil, "", err
		}
		value, issuer = []byte(claim), by
	case scopeHeader:
		for one := range c.head.Named(source.name) {
			if value != nil && !bytes.Equal(value, one) {
				return nil, "", ErrScopeTwice
			}
			value = one
		}
	}
	switch {
	case value == nil:
		return nil, "", ErrScopeAbsent
	case len(value) > idem.MaxKeyLen || !message.IsPrintable(value), issuer != "" && !message.IsPrintable([]byte(issuer)):
		return nil, "", ErrScopeChars
	}
	return value, issuer, nil
}

// append appends the source with the issuer of its claim, if that says one.
func (s Source) append(b []byte, issuer string) []byte {
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
func (s Source) String() string {
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
func (c *Caller) claim(name string, tokens TokenVerifier) (value, issuer string, err error) {
	var token []byte
	n := 0
	for value := range c.head.Named("Authorization") {
		scheme, rest, _ := bytes.Cut(value, []byte{' '})
		if message.EqualFold(scheme, "Bearer") {
			token = bytes.TrimSpace(rest)
		}
		n++
	}
	if n != 1 || len(token) == 0 {
		return "", "", fmt.Errorf("%w: want one header Authorization: Bearer TOKEN", ErrToken)
	}
	value, issuer, err = tokens.Claim(string(token), name)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrToken, err)
	}
	return value, issuer, nil
}

// NeedsToken says whether a source is a claim, which needs a TokenVerifier.
func (s Source) NeedsToken() bool { return s.kind == scopeClaim }

// Sources are what an earlier scope was made of; plain: without their names.
func (e EarlierScope) Sources() (sources []Source, plain bool) { return e.sources, e.plain }

// SourcesOf are the sources that a scope is made of, sorted, each as Encoded has it.
func SourcesOf(scope string) (sources []string) {
	for one := range strings.SplitSeq(scope, string(rune(nextSource))) {
		name, _, _ := strings.Cut(one, string(rune(beforeValue)))
		if claim, isClaim := strings.CutPrefix(name, "claim:"); isClaim {
			claim, _, _ = strings.Cut(claim, string(rune(beforeIssuer)))
			name = "claim:" + claim
		}
		if one != "" {
			sources = append(sources, name)
		}
	}
	slices.Sort(sources)
	return sources
}

// Encoded is a source, as in the configuration, as scopes have it.
func Encoded(source string) string {
	if claim, isClaim := strings.CutPrefix(source, "claim:"); isClaim {
		return string(appendEncoded([]byte("claim:"), claim))
	}
	return source
}

// AsField is a scope as a header field can have it: with tabs between the sources,
// since a field may have them, but not the separator of scopes, and values have
// neither.
func AsField(scope string) string { return strings.ReplaceAll(scope, string(rune(nextSource)), "\t") }

// Header is the field that a source is, if it is one.
func (s Source) Header() (name string, ok bool) { return s.name, s.kind == scopeHeader }
