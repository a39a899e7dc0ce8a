package operation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"mime"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Hashed is a part of a request that its fingerprint is made of.
type Hashed struct{ Part, Value string }

// Explain lists what a request's fingerprint is a hash of, in its order. It reads what is
// hashed, so that it cannot say anything else. Of a multipart body, whose hash says nothing
// to people, it lists the parts as well.
func (c *Recipe) Explain(q *Asked) (all []Hashed) {
	head, body, _ := c.fingerprint.appendAll(nil, q)
	var query []Hashed
	for _, h := range takenApart(string(append(head, body...))) {
		if h.Part == "field" || h.Part == "=" {
			query = append(query, h)
			continue
		}
		if query != nil {
			all, query = append(all, Hashed{"query", shownPairs(query)}), nil
		}
		switch h.Part {
		case "form":
			all = append(all, Hashed{h.Part, shownPairs(takenApart(h.Value))})
		case "multipart":
			all = append(all, Hashed{h.Part, fmt.Sprintf("sha256:%x of its parts", h.Value)})
			all = append(all, shownParts(q)...)
		default:
			all = append(all, Hashed{h.Part, shown(h.Value)})
		}
	}
	if query != nil {
		all = append(all, Hashed{"query", shownPairs(query)})
	}
	return all
}

// takenApart is what appendPart has put together.
func takenApart(text string) (all []Hashed) {
	for text != "" {
		name, sized, _ := strings.Cut(text, "\x00")
		n := 4 + int(binary.BigEndian.Uint32([]byte(sized)))
		all, text = append(all, Hashed{name, sized[4:n]}), sized[n:]
	}
	return all
}

// shown is a value in characters that can be printed.
func shown(value string) string { return strings.ReplaceAll(value, "\x00", " ") }

// shownPairs are the fields of a query or a form, in the order in which they are compared.
func shownPairs(fields []Hashed) string {
	var b strings.Builder
	for i, h := range fields {
		switch {
		case h.Part == "=":
			b.WriteByte('=')
		case i > 0:
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(h.Value))
	}
	return b.String()
}

// shownParts are those of a multipart body, each with its header and its content.
func shownParts(q *Asked) (all []Hashed) {
	_, params, _ := mime.ParseMediaType(string(q.Head.ContentType()))
	body, _ := q.Plain() // which was read already
	n := 0
	eachPart(body, params["boundary"], func(hashed []byte) {
		var lines []string
		for _, h := range takenApart(string(hashed)) {
			switch h.Part {
			case "preamble", "epilogue":
				if h.Value != "" {
					all = append(all, Hashed{h.Part, shortened(h.Value)})
				}
			case "name":
				lines = append(lines, h.Value+": ")
			case "value":
				lines[len(lines)-1] += h.Value
			case "content":
				n++
				lines = append(lines, "content: "+shortened(h.Value))
				all = append(all, Hashed{fmt.Sprintf("part %d", n), strings.Join(lines, ", ")})
			}
		}
	})
	return all
}

// mostShown is how much of a part is shown: parts may be whole files.
const mostShown = 200

func shortened(value string) string {
	if len(value) <= mostShown {
		return shown(value)
	}
	return fmt.Sprintf("%d bytes, sha256:%x", len(value), sha256.Sum256([]byte(value)))
}

// Difference is where two JSON texts, in their canonical form, first differ: a pointer;
// false if they do not, or are no JSON.
func Difference(a, b string) (at string, differ bool) {
	x, y := decoderOf([]byte(a)), decoderOf([]byte(b))
	for {
		one, err := x.ReadToken()
		text, pointer := "", x.StackPointer()
		if err == nil {
			text = string(rune(one.Kind())) + one.String()
		}
		two, err2 := y.ReadToken()
		switch {
		case err != nil && err2 != nil:
			return "", false
		case err != nil || err2 != nil || text != string(rune(two.Kind()))+two.String():
			return string(longer(pointer, y.StackPointer())), true
		}
	}
}

func longer(a, b jsontext.Pointer) jsontext.Pointer {
	if len(b) > len(a) {
		return b
	}
	return a
}
