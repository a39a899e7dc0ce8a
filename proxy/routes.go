package proxy

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// Match says which requests a route is for. What is empty matches all.
type Match struct {
	// Host is compared without case, port and the dot that may end a name;
	// "*.example.com" matches every name below example.com.
	Host string
	// Path is the target without its query: exact, or a prefix if it ends in
	// "/*" ("/payments/*" matches /payments and everything below it). A segment in
	// braces stands for any one segment ("/users/{id}/orders"). Percent encoding
	// and dot segments are undone before it is compared; see Rules.AllowAmbiguous.
	Path string
	// Methods are compared with case (RFC 9110 section 9.1).
	Methods []string
}

// Route has rules of its own for the requests that it matches.
type Route struct {
	Name  string
	Match Match
	Rules Rules
}

// ErrRoute is a route that cannot be used.
var ErrRoute = errors.New("route")

// routes are sorted: the first that matches is the most specific.
type routes struct {
	sorted []Route
	rest   *Rules
	paths  bool // any of them has one
	shared bool // any has browsers answered here: see CORS
}

func newRoutes(c *Config, s *operation.Secret) (*routes, error) {
	rest := c.Rules
	r := &routes{sorted: slices.Clone(c.Routes), rest: &rest}
	err := r.rest.placeKey("")
	r.rest.setDefaults(s)
	err = errors.Join(err, r.rest.check())
	for i := range r.sorted {
		one := &r.sorted[i]
		err = errors.Join(err, one.Rules.placeKey(one.Match.Path))
		one.Rules.setDefaults(s)
		err = errors.Join(err, one.Rules.check())
	}
	if err != nil {
		return nil, err
	}
	if err := SortRoutes(r.sorted); err != nil {
		return nil, err
	}
	r.paths = anyPath(r.sorted)
	r.shared = slices.ContainsFunc(r.all(), func(one *Rules) bool { return one.sharing != nil })
	return r, nil
}

// all are the rules of every route, those at large included.
func (r *routes) all() []*Rules {
	all := []*Rules{r.rest}
	for i := range r.sorted {
		all = append(all, &r.sorted[i].Rules)
	}
	return all
}

// SortRoutes puts the most specific first, which is the order in which they are
// tried: an exact host before a wildcard before any; then by path, where the
// first segment in which two differ decides: a literal before {any}, that before
// the end of an exact path, and that before /*; then few methods before any. Two
// routes that would match the very same requests are an error, and so are a
// pattern that this package does not know and one that no request can match.
func SortRoutes(all []Route) error {
	for i := range all {
		err := all[i].Match.check()
		if err == nil {
			err = all[i].Match.reachable(all[i].Rules.AllowAmbiguous)
		}
		if err != nil {
			return fmt.Errorf("%w %q: %w", ErrRoute, all[i].Name, err)
		}
	}
	slices.SortStableFunc(all, func(a, b Route) int { return a.Match.compare(&b.Match) })
	for i := range all {
		for j := range i {
			if all[j].Match.overlaps(&all[i].Match) {
				return fmt.Errorf("%w %q matches the same requests as route %q: give one another host, path or method",
					ErrRoute, all[i].Name, all[j].Name)
			}
		}
	}
	return nil
}

func (m *Match) check() error {
	switch path := strings.TrimSuffix(m.Path, "*"); {
	case m.Path != "" && m.Path[0] != '/':
		return fmt.Errorf("path %q: want one that starts with /", m.Path)
	case strings.ContainsAny(path, "*?#"), path != m.Path && !strings.HasSuffix(path, "/"):
		return fmt.Errorf("path %q: want an exact path, or a prefix that ends in /*", m.Path)
	case !validSegments(path):
		return fmt.Errorf("path %q: want braces around whole segments only, such as /users/{id}", m.Path)
	case strings.Contains(strings.TrimPrefix(m.Host, "*."), "*"), strings.ContainsAny(m.Host, "/ "):
		return fmt.Errorf("host %q: want a name, or *.name", m.Host)
	}
	for _, method := range m.Methods {
		if method == "" || method != strings.ToUpper(method) {
			return fmt.Errorf("method %q: want one in capitals, such as POST", method)
		}
	}
	return nil
}

func (m *Match) compare(o *Match) int {
	return cmp.Or(
		cmp.Compare(o.hostRank(), m.hostRank()), cmp.Compare(len(o.Host), len(m.Host)),
		cmp.Compare(min(len(o.Path), 1), min(len(m.Path), 1)), comparePaths(m.Path, o.Path),
		cmp.Compare(min(len(o.Methods), 1), min(len(m.Methods), 1)),
	)
}

func (m *Match) hostRank() int { return rank(m.Host, strings.HasPrefix(m.Host, "*")) }

func rank(pattern string, wild bool) int {
	switch {
	case pattern == "":
		return 0
	case wild:
		return 1
	}
	return 2
}

// comparePaths compares segment by segment, and gives no answer only for two that
// match the same.
func comparePaths(a, b string) int {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	for i := range max(len(as), len(bs)) {
		x, y := segmentRank(as, i), segmentRank(bs, i)
		if c := cmp.Compare(y, x); c != 0 {
			return c
		}
		if x == literalSegment {
			if c := cmp.Compare(as[i], bs[i]); c != 0 {
				return c
			}
		}
	}
	return 0
}

const (
	restSegment    = iota // /*
	noSegment             // past the end
	anySegment            // {name}
	literalSegment        // all others
)

func segmentRank(segments []string, i int) int {
	switch {
	case i >= len(segments):
		return noSegment
	case segments[i] == "*" && i == len(segments)-1:
		return restSegment
	case isAny(segments[i]):
		return anySegment
	}
	return literalSegment
}

func isAny(segment string) bool { return len(segment) > 1 && segment[0] == '{' }

func validSegments(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		inner := strings.TrimSuffix(strings.TrimPrefix(segment, "{"), "}")
		if strings.ContainsAny(inner, "{}") || inner != segment && (len(inner) != len(segment)-2 || inner == "") {
			return false
		}
	}
	return true
}

// overlaps: of two that are equally specific, neither could win.
func (m *Match) overlaps(o *Match) bool {
	if !strings.EqualFold(m.host(), o.host()) || (m.Path == "") != (o.Path == "") || comparePaths(m.Path, o.Path) != 0 {
		return false
	}
	if len(m.Methods) == 0 || len(o.Methods) == 0 {
		return len(m.Methods) == len(o.Methods)
	}
	return slices.ContainsFunc(m.Methods, func(method string) bool { return slices.Contains(o.Methods, method) })
}

// RouteOf says which of routes, sorted by SortRoutes, a request takes: its index,
// or -1 for rest, the rules of what none matches. The target is as it stands in a
// request. An error says why such a request is refused.
func RouteOf(sorted []Route, rest *Rules, method, host, target string) (int, error) {
	var h fasthttp.RequestHeader
	h.DisableNormalizing()
	text := method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	if err := h.Read(bufio.NewReaderSize(strings.NewReader(text), len(text))); err != nil {
		return -1, fmt.Errorf("%s %s of %s is no request: %w", method, target, host, err)
	}
	if err := message.Sound(&h); err != nil {
		return -1, err
	}
	r := routes{sorted: sorted, rest: rest, paths: anyPath(sorted)}
	return r.find(&h, h.Method())
}

func anyPath(all []Route) bool {
	return slices.ContainsFunc(all, func(r Route) bool { return r.Match.Path != "" })
}

// of are the rules and the name of the route that find found.
func (r *routes) of(i int) (rules *Rules, name string) {
	if i < 0 {
		return r.rest, ""
	}
	return &r.sorted[i].Rules, r.sorted[i].Name
}

// find says which route a request takes that has such a method, or -1 for none, and whether its target is
// one that backends read in different ways, which the route does not take. It does
// not allocate for a target that is plain.
func (r *routes) find(h *fasthttp.RequestHeader, method []byte) (int, error) {
	if len(r.sorted) == 0 {
		return -1, nil
	}
	var buf [256]byte
	host, path := message.HostName(message.CanonicalHost(buf[:0], h.Host())), message.PathOf(h)
	if message.Plain(path) {
		return r.match(host, method, path), nil
	}
	i := r.match(host, method, normalized(path))
	if rules, _ := r.of(i); rules.AllowAmbiguous || !r.paths {
		return i, nil
	}
	return i, message.Ambiguous(path)
}

func (r *routes) match(host, method, path []byte) int {
	for i := range r.sorted {
		if r.sorted[i].Match.matches(host, method, path) {
			return i
		}
	}
	return -1
}

// normalized is a path decoded, without dot segments and empty ones, so that nobody
// gets around a route's rules by writing /payments as /%70ayments.
func normalized(path []byte) []byte {
	var uri fasthttp.URI
	uri.SetPathBytes(path)
	return uri.Path()
}

func (m *Match) matches(host, method, path []byte) bool {
	return (m.Host == "" || m.matchesHost(host)) && (m.Path == "" || m.matchesPath(path)) &&
		(len(m.Methods) == 0 || slices.ContainsFunc(m.Methods, func(one string) bool { return one == string(method) }))
}

// host is the one to match, without the dot that may end it.
func (m *Match) host() string { return strings.TrimSuffix(m.Host, ".") }

// matchesHost compares with a host's name.
func (m *Match) matchesHost(host []byte) bool {
	want := m.host()
	if name, wild := strings.CutPrefix(want, "*"); wild {
		return len(host) > len(name) && message.EqualFold(host[len(host)-len(name):], name)
	}
	return message.EqualFold(host, want)
}

func (m *Match) matchesPath(path []byte) bool {
	pattern, wild := strings.CutSuffix(m.Path, "/*")
	for {
		i := strings.IndexByte(pattern, '{')
		if i < 0 {
			break
		}
		if len(path) <= i || string(path[:i]) != pattern[:i] || path[i] == '/' {
			return false
		}
		pattern = pattern[i+strings.IndexByte(pattern[i:], '}')+1:]
		path = path[i:]
		if end := bytes.IndexByte(path, '/'); end >= 0 {
			path = path[end:]
		} else {
			path = nil
		}
	}
	rest, ok := bytes.CutPrefix(path, []byte(pattern))
	return ok && (len(rest) == 0 || wild && rest[0] == '/')
}
