package messages_test

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// reader is a way in which some backend reads what is there more than once.
type reader struct {
	lastType bool // of the lines of Content-Type the last one counts
	last     bool // of members, fields, parts and documents the last one counts
	byURL    bool // a document in the URL counts before the body's
}

func readers() (all []reader) {
	for i := range 8 {
		all = append(all, reader{i&1 > 0, i&2 > 0, i&4 > 0})
	}
	return all
}

// pick is the first or the last one.
func pick(all []string, last bool) (string, bool) {
	switch {
	case len(all) == 0:
		return "", false
	case last:
		return all[len(all)-1], true
	}
	return all[0], true
}

// keyOf is the key that a backend would read, if its keys are in the sources; empty for none.
func (r reader) keyOf(x *exchange, sources []string) string {
	if len(sources) == 0 {
		sources = []string{"header:Idempotency-Key,X-Idempotency-Key"}
	}
	for _, source := range sources {
		kind, name, _ := strings.Cut(source, ":")
		var all []string
		switch kind {
		case "header":
			for one := range strings.SplitSeq(name, ",") {
				for _, value := range values(x.fields, one) {
					all = append(all, "="+strings.Trim(value, `"`))
				}
			}
		case "query":
			all = x.query(name)
		case "json":
			if r.kind(x) == "json" {
				all = members(x.plain(), keyName)
			}
		case "form":
			all = r.form(x, name)
		case "graphql":
			all = r.graphQL(x)
		}
		if key, ok := pick(all, r.last); ok {
			return strings.TrimPrefix(key, "=")
		}
	}
	return ""
}

// plain is the body without its coding, as far as it is sent.
func (x *exchange) plain() string {
	c := x.content
	c.zipped = false
	return c.bytes()
}

func (x *exchange) query(name string) []string {
	_, query, _ := strings.Cut(x.target, "?")
	query, _, _ = strings.Cut(query, "#")
	all, _ := url.ParseQuery(query)
	return all[name]
}

// kind is what the reader takes the body for.
func (r reader) kind(x *exchange) string {
	line, _ := pick(x.mediaTypes(), r.lastType)
	kind, _, _ := mime.ParseMediaType(line)
	switch kind {
	case "application/json":
		return "json"
	case "application/x-www-form-urlencoded":
		return "form"
	case "multipart/form-data":
		return "multipart"
	case "application/graphql":
		return "document"
	}
	return ""
}

// members are the values of the members of an object's name, if it is one.
func members(text, name string) (all []string) {
	d := json.NewDecoder(strings.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil
	}
	for d.More() {
		member, err := d.Token()
		if err != nil {
			return nil
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return nil
		}
		if member == name {
			all = append(all, fmt.Sprint(value))
		}
	}
	return all
}

func (r reader) form(x *exchange, name string) []string {
	switch r.kind(x) {
	case "form":
		all, _ := url.ParseQuery(x.plain())
		return all[name]
	case "multipart":
		var some []string
		for _, p := range r.parts(x) {
			if p.name == name {
				some = append(some, p.value)
			}
		}
		return some
	}
	return nil
}

// parts are those of a multipart body, as far as they can be read.
func (r reader) parts(x *exchange) (all []pair) {
	line, _ := pick(x.mediaTypes(), r.lastType)
	_, params, _ := mime.ParseMediaType(line)
	m := multipart.NewReader(strings.NewReader(x.plain()), params["boundary"])
	for {
		p, err := m.NextRawPart()
		if err != nil {
			return all
		}
		value, err := io.ReadAll(p)
		if err != nil {
			return all
		}
		all = append(all, pair{p.FormName(), string(value)})
	}
}

var directive = regexp.MustCompile(`@idempotent\(key: "([^"]*)"\)`)

func (r reader) graphQL(x *exchange) (all []string) {
	documents := x.query("query")
	if x.method != "GET" && (!r.byURL || len(documents) == 0) {
		switch r.kind(x) {
		case "json":
			documents = members(x.plain(), "query")
		case "document":
			documents = []string{x.plain()}
		default:
			documents = nil
		}
	}
	document, _ := pick(documents, r.last)
	for _, m := range directive.FindAllStringSubmatch(document, -1) {
		all = append(all, m[1])
	}
	return all
}

// keysOf are the keys that backends would read, one of each reader.
func keysOf(x *exchange, sources []string) (all []string) {
	for _, r := range readers() {
		if key := r.keyOf(x, sources); !slices.Contains(all, key) {
			all = append(all, key)
		}
	}
	return all
}

// carries says whether some backend would read a key, of the request as it was meant.
func carries(x *exchange, sources []string) bool {
	whole := x.clone()
	whole.content.left = 0
	isForm := x.content.left > 0 && x.content.kind == "form" // who is cut off says something else
	for _, one := range []*exchange{x, whole} {
		if one == whole && isForm {
			break
		}
		if slices.ContainsFunc(keysOf(one, sources), func(key string) bool { return key != "" }) {
			return true
		}
	}
	return false
}

// views are what backends take a request for, each by its own way to read.
func views(x *exchange, s *setting) (all []string) {
	common := fmt.Sprintf("%s %s %s", x.method, x.host, originForm(x))
	if s.bind {
		common += fmt.Sprint(values(x.fields, "Authorization"))
	}
	plain := x.plain()
	all = append(all, common)
	kind := reader{}.kind(x)
	switch {
	case kind == "json" && slices.Contains(s.fingerprint, "json"):
		var value any
		if json.Unmarshal([]byte(plain), &value) != nil {
			return append(all, plain)
		}
		text, _ := json.Marshal(value)
		return append(all, string(text))
	case kind == "form" && slices.Contains(s.fingerprint, "form"):
		form, err := url.ParseQuery(plain)
		if err != nil {
			return append(all, plain)
		}
		return append(all, form.Encode())
	case kind == "multipart" && slices.Contains(s.fingerprint, "multipart"):
		return append(all, fmt.Sprint(reader{}.parts(x)), split(x))
	case len(s.fingerprint) == 0:
		return append(all, x.content.bytes())
	}
	return append(all, plain)
}

// split is a multipart body as who looks for its delimiters alone reads it. Spaces behind
// them mean nothing (RFC 2046 section 5.1.1).
func split(x *exchange) string {
	pieces := strings.Split(x.plain(), "--"+x.content.boundary)
	for i := range pieces {
		pieces[i] = strings.TrimLeft(pieces[i], " ")
	}
	return fmt.Sprintf("%q", pieces)
}

// originForm is the target as a path.
func originForm(x *exchange) string {
	rest, is := strings.CutPrefix(x.target, "http://"+x.host)
	if is && !strings.HasPrefix(rest, "/") {
		return "/" + rest
	}
	return rest
}
