package operation

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/idemproxy/idemproxy/idem"
)

// Sources are where a request's key may be, in the order in which they are looked at:
// the first that is there has it, and those after it do not count.
type Sources struct {
	all []source
	// lenient takes a body that cannot be read for one that has no key.
	lenient bool
}

// source has one key: what its parts have, joined.
type source struct {
	prefix string // empty for none
	parts  []place
}

// place is where one value may be.
type place struct {
	kind placeKind
	name string // of a field in lower case, of a member or argument as it is
	// directive is GraphQL's.
	directive string
	at        pointer
	segment   int // from 1; 0: the one called name
}

type placeKind string

const (
	inHeader  placeKind = "header"
	inQuery   placeKind = "query"
	inPath    placeKind = "path"
	inJSON    placeKind = "json"
	inForm    placeKind = "form"
	inGraphQL placeKind = "graphql"
	inJSONRPC placeKind = "json-rpc"
)

func placeKinds() []placeKind {
	return []placeKind{inHeader, inQuery, inPath, inJSON, inForm, inGraphQL, inJSONRPC}
}

// Bounds of settings, so that no request costs more than a few passes over its body.
const (
	maxSources = 8
	maxParts   = 4
	maxPrefix  = 32
)

// Errors of sources, besides those of FindKey. A request that causes one is refused.
var (
	// ErrUnreadable is a body that is not what its type says, so that nobody can tell
	// whether it has a key.
	ErrUnreadable = errors.New("the key is looked for in the body, which cannot be read")
	// ErrKeyValue is a key that is there but is none.
	ErrKeyValue = errors.New("where the key is looked for, there is something else than a string or a number")
	// ErrBatch is several operations in one request. It is refused, and not split: a record is of
	// one exchange, the parts may end differently, a retry may be composed otherwise, and a
	// backend may treat a batch as a whole, which calls sent one by one would undo.
	ErrBatch = errors.New("the request has several operations in one, of which no single key says whether they were executed")
	// ErrExpands is a body that is larger than it may be once its content codings are undone.
	ErrExpands = errors.New("the body is larger than it may be when its content coding is undone")
)

// ParseSources reads where keys are: header:NAME, query:NAME, path:N (the Nth segment)
// or path:NAME (the one that the route calls {NAME}), json:POINTER, form:NAME,
// graphql:DIRECTIVE.ARGUMENT, and json-rpc:POINTER (into params). Several joined by +
// are one key, of all their values, if all are there. PREFIX= before one is put before
// its keys, so that they do not meet those of others.
func ParseSources(items []string) (*Sources, error) {
	if len(items) == 0 {
		return nil, nil //nolint:nilnil // none
	}
	if len(items) > maxSources {
		return nil, fmt.Errorf("%d sources are too many: want at most %d", len(items), maxSources)
	}
	s := &Sources{}
	for _, item := range items {
		one, err := parseSource(item)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(s.all, func(o source) bool { return o.String() == one.String() }) {
			return nil, fmt.Errorf("%q is there twice", item)
		}
		s.all = append(s.all, one)
	}
	return s, nil
}

func parseSource(item string) (s source, err error) {
	rest := item
	if i := strings.IndexByte(item, '='); i >= 0 && !startsPlace(item) {
		s.prefix, rest = item[:i], item[i+1:]
		if s.prefix == "" || len(s.prefix) > maxPrefix || strings.ContainsFunc(s.prefix, func(r rune) bool {
			return r > 0x7e || !isWordByte(byte(r)) //nolint:gosec // small, as was looked at first
		}) {
			return s, fmt.Errorf("%q: want a prefix of 1 to %d letters, digits, dots, dashes and underscores before =", item, maxPrefix)
		}
	}
	for _, text := range splitPlaces(rest) {
		one, err := parsePlace(text)
		if err != nil {
			return s, fmt.Errorf("%q: %w", item, err)
		}
		s.parts = append(s.parts, one)
	}
	if len(s.parts) > maxParts {
		return s, fmt.Errorf("%q joins %d values: want at most %d", item, len(s.parts), maxParts)
	}
	return s, nil
}

// startsPlace says whether a text begins with the name of a kind and a colon.
func startsPlace(text string) bool {
	kind, _, found := strings.Cut(text, ":")
	return found && slices.Contains(placeKinds(), placeKind(kind))
}

// splitPlaces splits at each + that a place follows.
func splitPlaces(text string) (all []string) {
	from := 0
	for i := range len(text) {
		if text[i] == '+' && startsPlace(text[i+1:]) {
			all, from = append(all, text[from:i]), i+1
		}
	}
	return append(all, text[from:])
}

func parsePlace(text string) (p place, err error) {
	kind, arg, _ := strings.Cut(text, ":")
	p = place{kind: placeKind(kind), name: arg}
	switch p.kind {
	case inHeader:
		p.name = strings.ToLower(arg)
	case inQuery, inForm:
	case inPath:
		p.name, p.segment, err = parseSegment(arg)
		return p, err
	case inJSON, inJSONRPC:
		p.name = "pointer"
		p.at, err = parsePointer(arg)
		if err == nil && len(p.at) == 0 {
			err = errors.New("want a pointer to a part of the body, such as json:/order/id")
		}
	case inGraphQL:
		p.directive, p.name, _ = strings.Cut(arg, ".")
		p.directive = strings.TrimPrefix(p.directive, "@")
		if !isGraphQLName(p.directive) || !isGraphQLName(p.name) {
			err = errors.New("want a directive and its argument, such as graphql:idempotent.key")
		}
	default:
		return p, fmt.Errorf("want one of header:NAME, query:NAME, path:N, json:POINTER, form:NAME, graphql:DIRECTIVE.ARGUMENT or "+
			"json-rpc:POINTER, not %q", text)
	}
	if err == nil && p.name == "" {
		err = fmt.Errorf("%s: want a name behind it", text)
	}
	return p, err
}

// parseSegment reads the number of a segment, or what a route calls it.
func parseSegment(arg string) (name string, n int, err error) {
	if n, err := strconv.Atoi(arg); err == nil && n > 0 && n <= maxSegment {
		return "", n, nil
	}
	if !isGraphQLName(strings.ReplaceAll(arg, "-", "_")) {
		return "", 0, fmt.Errorf("want the number of a segment, from 1 to %d, or the name that the route's path gives it in braces",
			maxSegment)
	}
	return arg, 0, nil
}

// maxSegment is the last segment that can be named by its number.
const maxSegment = 99

func isGraphQLName(s string) bool {
	return s != "" && (s[0] < '0' || s[0] > '9') && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// Lenient has a body that cannot be read be one that has no key.
func (s *Sources) Lenient() *Sources {
	lenient := *s
	lenient.lenient = true
	return &lenient
}

// ForPath has segments that a route's pattern names be those in their places.
func (s *Sources) ForPath(pattern string) (*Sources, error) {
	if s == nil {
		return nil, nil //nolint:nilnil // none
	}
	placed := &Sources{lenient: s.lenient}
	for _, one := range s.all {
		one.parts = slices.Clone(one.parts)
		for i := range one.parts {
			p := &one.parts[i]
			if p.kind != inPath || p.segment > 0 {
				continue
			}
			n := slices.Index(strings.Split(pattern, "/"), "{"+p.name+"}")
			if n < 1 {
				return nil, fmt.Errorf("path:%s: the route's path has no segment {%s}", p.name, p.name)
			}
			p.segment, p.name = n, ""
		}
		placed.all = append(placed.all, one)
	}
	return placed, nil
}

// String is the source as settings have it; sources of the same text find the same keys.
func (s source) String() string {
	var b strings.Builder
	if s.prefix != "" {
		b.WriteString(s.prefix + "=")
	}
	for i, p := range s.parts {
		if i > 0 {
			b.WriteByte('+')
		}
		b.WriteString(string(p.kind) + ":")
		switch {
		case p.kind == inGraphQL:
			b.WriteString(p.directive + "." + p.name)
		case p.kind == inJSON, p.kind == inJSONRPC:
			b.WriteString(p.at.String())
		case p.segment > 0:
			fmt.Fprint(&b, p.segment)
		default:
			b.WriteString(p.name)
		}
	}
	return b.String()
}

// Texts are the sources as settings have them.
func (s *Sources) Texts() (all []string) {
	if s == nil {
		return nil
	}
	for _, one := range s.all {
		all = append(all, one.String())
	}
	return all
}

// Headers are the names of fields that keys may be in, in lower case.
func (s *Sources) Headers() (names []string) {
	if s == nil {
		return nil
	}
	for _, one := range s.all {
		for _, p := range one.parts {
			if p.kind == inHeader {
				names = append(names, p.name)
			}
		}
	}
	return names
}

// Found is what Find found.
type Found struct {
	Key idem.Key
	// Keyed: there is a key.
	Keyed bool
	// Source is where it was, as settings have it.
	Source string
	// More: whether there is one depends on the body, which has not been read.
	More bool
}

// Find looks for the key of a request. Without read, the body has not been: what only
// the body can tell is then left open.
func (s *Sources) Find(q *Asked, read bool) (f Found, err error) {
	for i := range s.all {
		one := &s.all[i]
		if !read && one.needsBody(q) {
			return Found{More: true}, nil
		}
		text, there, err := "", false, one.readable(q)
		if err == nil {
			text, there, err = one.text(q)
		}
		switch {
		case err != nil && s.lenient && errors.Is(err, ErrUnreadable), err == nil && !there:
			continue
		case err != nil:
			return f, fmt.Errorf("%w (%s)", err, one)
		}
		key, err := idem.ParseKey(text)
		if err != nil {
			return f, fmt.Errorf("%w (%s)", err, one)
		}
		return Found{Key: key, Keyed: true, Source: one.String()}, nil
	}
	return f, nil
}

// readable is an error if the body may have the key and its type is said in two ways: a
// backend may read it as the one that this proxy does not, and execute what had no key here.
func (s *source) readable(q *Asked) error {
	inBody := slices.ContainsFunc(s.parts, func(p place) bool {
		return p.kind != inHeader && p.kind != inQuery && p.kind != inPath
	})
	if inBody && q.Head.HasBody() && q.isTypedTwice() {
		return fmt.Errorf("%w: it has several fields Content-Type, and they differ", ErrUnreadable)
	}
	return nil
}

// needsBody says whether the body decides, so far as the header tells.
func (s *source) needsBody(q *Asked) bool {
	needs := false
	for i := range s.parts {
		switch there, body := s.parts[i].mayBeIn(q); {
		case !there:
			return false
		case body:
			needs = true
		}
	}
	return needs
}

// text is the key, unless a part of it is not there.
func (s *source) text(q *Asked) (string, bool, error) {
	for i := range s.parts { // first by the header, since the body may not have been read
		if may, _ := s.parts[i].mayBeIn(q); !may {
			return "", false, nil
		}
	}
	if len(s.parts) == 1 && s.prefix == "" {
		return s.parts[0].value(q)
	}
	var b []byte
	if s.prefix != "" {
		b = append(append(b, s.prefix...), '=')
	}
	for i := range s.parts {
		one, there, err := s.parts[i].value(q)
		if err != nil || !there {
			return "", false, err
		}
		if len(s.parts) == 1 {
			return string(append(b, one...)), true, nil
		}
		if one == "" {
			return "", false, idem.ErrKeyEmpty
		}
		if i > 0 {
			b = append(b, '+')
		}
		b = appendJoined(b, one)
	}
	return string(b), true, nil
}

// appendJoined appends a value such that no two lists of values are joined alike.
func appendJoined(b []byte, value string) []byte {
	for i := range len(value) {
		switch c := value[i]; c {
		case '+':
			b = append(b, "%2B"...)
		case '%':
			b = append(b, "%25"...)
		default:
			b = append(b, c)
		}
	}
	return b
}

// mayBeIn says whether a request may have such a value, by its header, and whether
// that is in the body.
func (p *place) mayBeIn(q *Asked) (there, body bool) {
	switch p.kind {
	case inHeader:
		for range q.Head.Named(p.name) {
			return true, false
		}
		return false, false
	case inQuery, inPath:
		return true, false
	case inGraphQL:
		if string(q.Head.Method()) == "GET" {
			return true, false
		}
		if inBody := q.hasGraphQL(); inBody || bytes.IndexByte(q.Target, '?') < 0 {
			return inBody, true
		}
		return true, false // some backends execute what the URL has: see graphQLValue
	case inForm:
		return q.Head.HasBody() && q.isForm(), true
	case inJSON, inJSONRPC:
		return q.Head.HasBody() && q.isJSON(), true
	}
	return false, false
}

// value is what is in the place, if that may be there.
func (p *place) value(q *Asked) (value string, there bool, err error) {
	if _, inBody := p.mayBeIn(q); inBody && len(q.Body) == 0 && p.kind != inGraphQL { // one in chunks
		return "", false, nil
	}
	switch p.kind {
	case inHeader:
		key, found, err := FindKey(q.Head, []string{p.name})
		return key.Value(), found, err
	case inQuery:
		return fieldOf(q.Target, p.name)
	case inPath:
		return segmentOf(q.Target, p.segment)
	case inForm:
		return q.formValue(p.name)
	case inJSON:
		return q.jsonValue(p.at)
	case inJSONRPC:
		return q.rpcValue(p.at)
	case inGraphQL:
		return q.graphQLValue(p.directive, p.name)
	}
	return "", false, nil
}
