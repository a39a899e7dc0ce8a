package messages_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
)

const lineEnd = "\r\n"

// field is a line of a header, with how it ends.
type field struct{ name, value, end string }

// exchange is a request, what the backend answers, and how a client behaves meanwhile.
// Pieces put it together; leaving some of them out makes a smaller one.
type exchange struct {
	id, key string

	method, target, host string
	version, startEnd    string // of the request line
	fields               []field
	types                []string // Content-Type; nil: what the content is of
	content              content
	chunks               []int    // sizes of chunks; nil: with a length
	chunkEnd             string   // of the lines between chunks
	lengths              []string // Content-Length, if it is not the true one
	late                 bool     // the client sends its body after its header, and reads meanwhile
	joins                bool     // the same request comes again while the first one is answered
	mixes                bool     // then it is the sibling that comes
	last                 string   // the id of the event which that client has
	storm                int      // how often it comes over one connection, afterwards

	reply   reply
	sibling func(*exchange) // makes another operation of it, with the same key; nil for none
}

// reply is what the backend answers.
type reply struct {
	status  int
	fields  []field
	kind    string // its Content-Type; empty for none
	body    string
	zipped  bool
	pieces  int  // in how many writes
	framing byte // l: by a length, c: in chunks, e: by the end of the connection
	cut     bool // it breaks off
	interim bool // another response goes before it
	trailer bool // a field comes behind its body, if that is in chunks
	lineEnd string
	server  bool // it has a field Server, of which there is one
	packed  *packed

	behind    behind // what comes behind it
	announces byte   // how it announces a body, if it has none: l, c, or not at all
}

// packed is a body that was compressed, which takes longer than all else where it is large. It is
// shared by those who answer with it.
type packed struct {
	mu   sync.Mutex
	body string // guarded by mu
	zip  string // guarded by mu
}

func (p *packed) of(body string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.zip == "" || p.body != body {
		p.body, p.zip = body, zip(body)
	}
	return p.zip
}

// pair is one value of a form, or of what is like one.
type pair struct{ name, value string }

// content is a body, before it is one.
type content struct {
	kind               string // json, form, multipart, graphql, document or text; empty: no body
	values             []pair
	space              string // where it means nothing
	preamble, epilogue string
	boundary           string
	zipped             bool
	left               int // percent of the body that is sent; 0: all of it
}

const keyName = "id"

// basic is an exchange of no pieces.
func basic(id string) *exchange {
	return &exchange{
		id: id, key: "k-" + id, method: "POST", target: "/p", host: "shop.example", version: "HTTP/1.1", startEnd: lineEnd, chunkEnd: lineEnd,
		reply: reply{status: 200, framing: 'l', pieces: 1, body: "made", lineEnd: lineEnd, packed: &packed{}},
	}
}

func (x *exchange) add(name, value string) { x.fields = append(x.fields, field{name, value, lineEnd}) }

func (r *reply) add(name, value string) { r.fields = append(r.fields, field{name, value, lineEnd}) }

// values are those of a field, in their order.
func values(all []field, name string) (some []string) {
	for _, f := range all {
		if strings.EqualFold(f.name, name) {
			some = append(some, f.value)
		}
	}
	return some
}

// mediaTypes are the lines of Content-Type.
func (x *exchange) mediaTypes() []string {
	if x.types != nil || x.content.kind == "" {
		return x.types
	}
	switch x.content.kind {
	case "json", "graphql":
		return []string{"application/json"}
	case "form":
		return []string{"application/x-www-form-urlencoded"}
	case "multipart":
		return []string{"multipart/form-data; boundary=" + x.content.boundary}
	case "document":
		return []string{"application/graphql"}
	}
	return []string{"text/plain"}
}

// whole is a body of which nothing is left out, before it is compressed.
func (c *content) whole() string {
	var b strings.Builder
	switch c.kind {
	case "json":
		var members []string
		for _, p := range c.values {
			members = append(members, fmt.Sprintf("%s%q:%s%s", c.space, p.name, c.space, p.value))
		}
		return "{" + strings.Join(members, ",") + c.space + "}"
	case "form":
		var all []string
		for _, p := range c.values {
			all = append(all, p.name+"="+strings.Trim(p.value, `"`))
		}
		return strings.Join(all, "&")
	case "multipart":
		b.WriteString(c.preamble)
		for _, p := range c.values {
			fmt.Fprintf(&b, "--%s%s\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", c.boundary, c.space, p.name, strings.Trim(p.value, `"`))
		}
		b.WriteString("--" + c.boundary + "--" + c.epilogue)
		return b.String()
	case "graphql":
		return fmt.Sprintf(`{"query":%q%s}`, c.document(), c.space)
	case "document":
		return c.document()
	case "text":
		return fmt.Sprint(c.values)
	}
	return ""
}

// document is one of GraphQL, which has its key in a directive.
func (c *content) document() string {
	var b strings.Builder
	for i, p := range c.values {
		if p.name == keyName {
			fmt.Fprintf(&b, " a%d: pay @idempotent(key: %s)", i, p.value)
		} else {
			fmt.Fprintf(&b, " a%d: note(%s: %s)", i, p.name, p.value)
		}
	}
	return "mutation {" + b.String() + " }"
}

// bytes are a body as it is sent.
func (c *content) bytes() string {
	text := c.whole()
	if c.left > 0 {
		text = text[:min(len(text), 1+len(text)*c.left/101)] // who sends nothing says something else
	}
	if c.zipped && c.kind != "" {
		text = zip(text)
	}
	return text
}

func zip(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

// head is the request's, and where its body begins.
func (x *exchange) head() string {
	var b strings.Builder
	b.WriteString(x.method + " " + x.target + " " + x.version + x.startEnd + "Host: " + x.host + lineEnd + "X-Case: " + x.id + lineEnd)
	for _, t := range x.mediaTypes() {
		b.WriteString("Content-Type: " + t + lineEnd)
	}
	if x.content.zipped && x.content.kind != "" {
		b.WriteString("Content-Encoding: gzip" + lineEnd)
	}
	for _, f := range x.fields {
		b.WriteString(f.name + ": " + f.value + f.end)
	}
	for _, n := range x.lengths {
		b.WriteString("Content-Length: " + n + lineEnd)
	}
	switch {
	case x.chunks != nil:
		b.WriteString("Transfer-Encoding: chunked" + lineEnd)
	case x.lengths == nil && (x.content.kind != "" || x.method != "GET" && x.method != "HEAD"):
		fmt.Fprintf(&b, "Content-Length: %d"+lineEnd, len(x.content.bytes()))
	}
	return b.String() + lineEnd
}

// framed is the body as it goes over the wire.
func (x *exchange) framed() string {
	text := x.content.bytes()
	if x.chunks == nil {
		return text
	}
	var b strings.Builder
	for i := 0; len(text) > 0; i++ {
		n := min(x.chunks[i%len(x.chunks)], len(text))
		fmt.Fprintf(&b, "%x%s%s%s", n, x.chunkEnd, text[:n], x.chunkEnd)
		text = text[n:]
	}
	return b.String() + "0" + x.chunkEnd + lineEnd
}

func (x *exchange) text() string { return x.head() + x.framed() }

// replyBody is the backend's body as it goes to clients.
func (r *reply) bytes() string {
	if r.zipped {
		return r.packed.of(r.body)
	}
	return r.body
}

// hasBody says whether an answer to the request has one.
func (r *reply) hasBody(method string) bool {
	return method != "HEAD" && r.status != 204 && r.status != 304
}

// wire is the answer in the pieces in which it is written.
func (r *reply) wire(id, method string, execution int) (head string, pieces []string) {
	var b strings.Builder
	if r.interim {
		b.WriteString("HTTP/1.1 103 Early Hints\r\nLink: </style>; rel=preload\r\n\r\n")
	}
	fmt.Fprintf(&b, "HTTP/1.1 %d Told\r\nX-Execution: %d\r\nX-For: %s\r\n", r.status, execution, id)
	if r.kind != "" {
		b.WriteString("Content-Type: " + r.kind + lineEnd)
	}
	for _, f := range r.fields {
		b.WriteString(f.name + ": " + f.value + r.lineEnd)
	}
	body := r.bytes()
	if r.server {
		b.WriteString("Server: origin" + lineEnd)
	}
	if r.zipped {
		b.WriteString("Content-Encoding: gzip" + lineEnd)
	}
	if r.announced(method) {
		b.WriteString(r.behind.announcement(r.announces))
	}
	if !r.hasBody(method) {
		return b.String() + lineEnd, nil
	}
	n := max(1, min(r.pieces, len(body)))
	for i := range n {
		one := body[len(body)*i/n : len(body)*(i+1)/n]
		if r.framing == 'c' && one != "" {
			one = fmt.Sprintf("%x\r\n%s\r\n", len(one), one)
		}
		pieces = append(pieces, one)
	}
	switch r.framing {
	case 'l':
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	case 'c':
		b.WriteString("Transfer-Encoding: chunked\r\n")
		end := "0\r\n"
		if r.trailer {
			end += "X-Last: 1\r\n"
		}
		pieces = append(pieces, end+lineEnd)
	default:
		b.WriteString("Connection: close\r\n")
	}
	if r.cut {
		pieces = pieces[:len(pieces)-1]
	}
	return b.String() + lineEnd, pieces
}

// oneOf picks.
func oneOf[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }
