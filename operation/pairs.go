package operation

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"io"
	"mime/multipart"
	"net/url"
	"slices"
	"strings"
)

// pair is a field of a query or of a form, decoded.
type pair struct {
	name, value string
	bare        bool // without =

	group string // of fields that keep their order; set by sortPairs, as at is
	at    int    // its place before
}

// root is the name without the brackets behind it, by which many programs make a value
// with members: items of items[0][sku].
func (p *pair) root() string {
	root, _, _ := strings.Cut(p.name, "[")
	return root
}

// mostPairs bounds the work for a form: a body of 1 MiB can have half a million fields, and
// took a second. Few programs take more than a thousand.
const mostPairs = 10_000

// pairsOf takes a query or a form apart. ok is false if a part of it is malformed, if it has
// a semicolon, which some programs take for an ampersand, or too many fields to compare.
func pairsOf(text string) (all []pair, ok bool) {
	if strings.IndexByte(text, ';') >= 0 || strings.Count(text, "&") >= mostPairs {
		return nil, false
	}
	for one := range strings.SplitSeq(text, "&") {
		if one == "" {
			continue
		}
		left, right, found := strings.Cut(one, "=")
		name, err := url.QueryUnescape(left)
		value, err2 := url.QueryUnescape(right)
		if err != nil || err2 != nil {
			return nil, false
		}
		all = append(all, pair{name: name, value: value, bare: !found})
	}
	return all, true
}

func appendPairs(b []byte, kind string, all []pair) []byte {
	for _, p := range all {
		b = appendPart(b, kind, []byte(p.name))
		if !p.bare {
			b = appendPart(b, "=", []byte(p.value))
		}
	}
	return b
}

// appendQuery appends the fields of a query, whatever their order. One that is malformed
// is appended as it is.
func appendQuery(b, target []byte) []byte {
	_, query, _ := bytes.Cut(target, []byte{'?'})
	all, ok := pairsOf(string(query))
	if !ok {
		return appendPart(b, "raw-query", query)
	}
	sortPairs(all)
	return appendPairs(b, "field", all)
}

// formFields are the fields of a form, whatever their order: see sortPairs.
func formFields(body []byte) ([]byte, bool) {
	all, ok := pairsOf(string(body))
	if !ok {
		return nil, false
	}
	sortPairs(all)
	return appendPairs(nil, "field", all), true
}

// sortPairs puts fields into an order that theirs does not matter for, as far as no program
// minds it. Those of one name keep theirs, since they are a list, or the first or the last
// one counts. So do those of one root with empty brackets: which item items[][sku] is of
// depends on what stands before it. And so do a value and its members (a=1, a[b]=2), of
// which one takes the place of the other.
func sortPairs(all []pair) {
	type kinds struct{ value, members, list bool }
	roots := map[string]kinds{}
	for i := range all {
		root := all[i].root()
		k := roots[root]
		k.value = k.value || root == all[i].name
		k.members = k.members || root != all[i].name
		k.list = k.list || strings.Contains(all[i].name, "[]")
		roots[root] = k
	}
	for i := range all { // once for each, since there may be hundreds of thousands
		p := &all[i]
		p.group, p.at = p.name, i
		if k := roots[p.root()]; k.list || k.value && k.members {
			p.group = p.root()
		}
	}
	slices.SortFunc(all, func(a, b pair) int { return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.at, b.at)) })
}

// multipartParts is the SHA-256 over the parts' headers and contents, in order, and over
// what stands before the first and behind the last one, which some programs read.
func multipartParts(body []byte, boundary string) ([]byte, bool) {
	sum := sha256.New()
	if !eachPart(body, boundary, func(hashed []byte) { _, _ = sum.Write(hashed) }) {
		return nil, false
	}
	return sum.Sum(nil), true
}

// eachPart calls f with what is hashed: first of what stands around the parts, then of each
// part. It is false if the body is malformed.
func eachPart(body []byte, boundary string, f func(hashed []byte)) bool {
	before, parts, behind, ok := around(body, boundary)
	if !ok {
		return false
	}
	f(appendPart(appendPart(nil, "preamble", before), "epilogue", behind))
	delimiters := bytes.Count(body, []byte("--"+boundary))
	for r := partsOf(parts, boundary); ; delimiters-- {
		part, err := r.NextRawPart()
		if isLastPart(err) {
			return delimiters == 1 // else there is one more, which other programs may read as such
		}
		if err != nil {
			return false
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return false
		}
		f(appendPart(partHeader(part), "content", content))
	}
}

// partHeader is a part's header, in an order of its own.
func partHeader(part *multipart.Part) (b []byte) {
	names := make([]string, 0, len(part.Header))
	for name := range part.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range part.Header[name] {
			b = appendPart(appendPart(b, "name", []byte(name)), "value", []byte(value))
		}
	}
	return appendPart(b, "part", nil)
}

// partsOf reads a multipart body. Its io.EOF says that the last delimiter has come: what ends
// without one ends in another error, be it within a part's header, of which NextRawPart would
// say io.EOF, too.
func partsOf(body []byte, boundary string) *multipart.Reader {
	last := body[bytes.LastIndexByte(body, '\n')+1:]
	end := errCutOff
	if string(bytes.TrimRight(last, " \t")) == "--"+boundary+"--" { // which NextRawPart knows by the end of the body
		end = io.EOF
	}
	return multipart.NewReader(io.MultiReader(bytes.NewReader(body), endingIn{end}), boundary)
}

// errCutOff is the end of a body that is not whole.
var errCutOff = errors.New("the body ends before its last delimiter")

// endingIn is the end of a reader.
type endingIn struct{ err error }

// Read implements io.Reader.
func (e endingIn) Read([]byte) (int, error) { return 0, e.err }

// isLastPart says of an error of NextRawPart that the last delimiter has come. That of a
// body without one is another one, or wraps io.EOF.
func isLastPart(err error) bool { return err == io.EOF } //nolint:errorlint // see above

// around is what stands before the first delimiter and behind the last one (RFC 2046
// section 5.1.1), and the parts, from one to the other: every byte is in one of the three. A
// line break at either end belongs to the delimiter. ok is false if something else than a
// line break follows the first delimiter: parsers do not agree on what that is.
func around(body []byte, boundary string) (before, parts, behind []byte, ok bool) {
	if boundary == "" {
		return nil, nil, nil, false
	}
	const end, lineBreak = "--", "\r\n"
	delimiter := []byte(lineBreak + "--" + boundary)
	framed := append([]byte(lineBreak), body...)
	first := bytes.Index(framed, delimiter)
	last := bytes.Index(framed, append(delimiter, end...))
	if first < 0 || last < 0 {
		return nil, nil, nil, false
	}
	follows := bytes.TrimLeft(framed[first+len(delimiter):], " \t") // RFC 2046 has spaces there mean nothing
	if first != last && !bytes.HasPrefix(follows, []byte(lineBreak)) {
		return nil, nil, nil, false
	}
	ends := last + len(delimiter) + len(end)
	before = bytes.TrimPrefix(framed[:first], []byte(lineBreak))
	return before, framed[first+len(lineBreak) : ends], bytes.TrimPrefix(framed[ends:], []byte(lineBreak)), true
}
