package proxy

import (
	"fmt"
	"slices"
	"strings"
)

// fresh are parts of requests that no route of two plans names: what only
// patterns match.
type fresh struct {
	segment, method string
	label           string   // of a host below a wildcard
	host            string   // that no pattern matches but that for all
	deepest         int      // segments of the longest path
	counted         []string // methods whose keys count, where not those of all do
}

func newFresh(plans ...*Plan) *fresh {
	var segments, methods, hosts []string
	f := &fresh{}
	for _, p := range plans {
		for i := range p.routes {
			m := &p.routes[i].match
			f.counted = append(f.counted, p.routes[i].KeyMethods...)
			all, _ := pathSegments(m.Path)
			f.deepest = max(f.deepest, len(all))
			segments, methods, hosts = append(segments, all...), append(methods, m.Methods...), append(hosts, m.Host)
		}
	}
	f.segment = unlike("x", func(s string) bool { return slices.Contains(segments, s) })
	f.method = unlike("WITNESS", func(s string) bool {
		return slices.Contains(methods, s) || slices.Contains(f.counted, s)
	})
	f.label = unlike("x", func(s string) bool {
		return slices.ContainsFunc(hosts, func(h string) bool { return strings.HasPrefix(h, s+".") })
	})
	f.host = "host." + unlike("example", func(s string) bool {
		return slices.ContainsFunc(hosts, func(h string) bool {
			m := Match{Host: h}
			return h != "" && m.matchesHost([]byte("host."+s))
		})
	})
	return f
}

// unlike is word, or word with a number, such that it is not taken.
func unlike(word string, taken func(string) bool) string {
	one := word
	for n := 0; taken(one); n++ {
		one = fmt.Sprintf("%s%d", word, n)
	}
	return one
}

// witnesses are requests that both match, such that every pattern that matches one
// of them matches all other requests of its length that both match. Longer ones
// than any pattern are alike.
func (f *fresh) witnesses(a, b *Match) (all []Witness) {
	host, ok := f.hosts(a.Host, b.Host)
	if !ok {
		return nil
	}
	paths := f.paths(a.Path, b.Path)
	for _, method := range f.methods(a.Methods, b.Methods) {
		for _, path := range paths {
			all = append(all, Witness{Method: method, Host: host, Path: path})
		}
	}
	return all
}

// hosts is a host that both patterns match, if there is one.
func (f *fresh) hosts(a, b string) (string, bool) {
	nameA, wildA := strings.CutPrefix(a, "*")
	nameB, wildB := strings.CutPrefix(b, "*")
	if b != "" && (a == "" || wildA && (!wildB || len(nameA) < len(nameB))) { // a is the narrower one
		a, nameA, wildA, b, nameB, wildB = b, nameB, wildB, a, nameA, wildA
	}
	switch {
	case a == "":
		return f.host, true
	case b != "" && a != b && (!wildB || len(nameA) <= len(nameB) || !strings.HasSuffix(nameA, nameB)):
		return "", false
	case wildA:
		return f.label + nameA, true
	}
	return a, true
}

// methods prefers those that people know.
func (f *fresh) methods(a, b []string) []string {
	switch {
	case len(a) == 0 && len(b) == 0:
		return append([]string{"POST", "PATCH", f.method}, f.counted...)
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	var both []string
	for _, m := range a {
		if slices.Contains(b, m) {
			both = append(both, m)
		}
	}
	return both
}

// pathSegments are a pattern's, and whether anything may follow them.
func pathSegments(pattern string) (segments []string, rest bool) {
	if pattern == "" {
		return nil, true
	}
	pattern, rest = strings.CutSuffix(pattern, "/*")
	if pattern == "" {
		return nil, rest
	}
	return strings.Split(pattern, "/")[1:], rest
}

// paths are paths that both patterns match.
func (f *fresh) paths(a, b string) (all []string) {
	as, restA := pathSegments(a)
	bs, restB := pathSegments(b)
	if len(as) < len(bs) {
		as, bs, restA, restB = bs, as, restB, restA
	}
	if len(bs) < len(as) && !restB {
		return nil
	}
	path := ""
	for i, segment := range as {
		one, ok := f.unify(segment, bs, i)
		if !ok {
			return nil
		}
		path += "/" + one
	}
	if path != "" {
		all = append(all, path)
	}
	if !restA || !restB {
		return all
	}
	for range f.deepest + 2 {
		all = append(all, path+"/")
		path += "/" + f.segment
		all = append(all, path)
	}
	if a == "" && b == "" {
		all = append(all, "*") // OPTIONS * has no path
	}
	return all
}

// unify is a segment that one and the i-th of others match.
func (f *fresh) unify(one string, others []string, i int) (string, bool) {
	other := one
	if i < len(others) {
		other = others[i]
	}
	switch {
	case isAny(one) && isAny(other):
		return f.segment, true
	case isAny(one):
		return other, other != ""
	case isAny(other):
		return one, one != ""
	}
	return one, one == other
}
