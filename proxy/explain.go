package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// Explained is what a server would make of a request: where its key is, and what it would
// be compared by.
type Explained struct {
	Route string
	// Key is empty for none, Source is where it was; NoKey says why the request would be
	// refused for it.
	Key, Source string
	NoKey       error
	// Scope is what keeps this key apart from the same one elsewhere, a source each;
	// Caller is what the fields of bind say of who asks. A certificate is not in a text.
	Scope, Caller []operation.Hashed
	Recipe        string // its text
	Fingerprint   idem.Fingerprint
	Hashed        []operation.Hashed
}

// ErrNoRequest is a text that is no request of HTTP/1.1.
var ErrNoRequest = errors.New("this is no HTTP/1.1 request: want a request line, header fields, an empty line, and the body")

// Explain reads the requests in a text, as a client sends them, and says of each what a
// server with that configuration would make of it. Lines of the header may end in LF
// alone. A body whose length the header does not say goes on to the end.
func Explain(c *Config, text []byte) (all []Explained, err error) {
	r, err := newRoutes(c, operation.NewSecret(c.Secret))
	if err != nil {
		return nil, err
	}
	for len(bytes.TrimSpace(text)) > 0 {
		var one Explained
		if one, text, err = r.explain(text); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, ErrNoRequest
	}
	return all, nil
}

// explain takes the first request off a text.
func (r *routes) explain(text []byte) (e Explained, rest []byte, err error) {
	whole := sized(text)
	var request fasthttp.Request
	request.Header.DisableNormalizing()
	from := bytes.NewReader(whole)
	br := bufio.NewReaderSize(from, max(len(whole), 4<<10))
	if err := readWhole(&request, br); err != nil {
		return e, nil, fmt.Errorf("%w (%w)", ErrNoRequest, err)
	}
	if err := message.Sound(&request.Header); err != nil {
		return e, nil, fmt.Errorf("the request is refused: %w", err)
	}
	i, err := r.find(&request.Header, request.Header.Method())
	if err != nil {
		return e, nil, fmt.Errorf("the request is refused: %w", err)
	}
	rules, name := r.of(i)
	e.Route = name
	var head message.Head
	head.Read(&request.Header)
	q := operation.Asked{Head: &head, Host: head.Host(), Target: head.Target(), Body: request.Body(), Most: rules.MaxRequestBody}
	e.Key, e.Source, e.NoKey = rules.explainKey(&q)
	e.Scope, e.Caller = rules.explainScope(&head), rules.explainCaller(&head)
	e.Recipe, e.Hashed = rules.recipe.Text, rules.recipe.Explain(&q)
	e.Fingerprint = rules.recipe.Hashes(&q, operation.Digest{}).Fingerprint
	rest, err = io.ReadAll(br)
	return e, rest, err //nolint:wrapcheck // from memory: there is none
}

// explainKey is the request's key, and where it is.
func (r *Rules) explainKey(q *operation.Asked) (key, source string, err error) {
	switch f := r.finder; {
	case !f.counts(q.Head):
		return "", "", nil
	case f == nil || f.sources == nil:
		k, found, err := operation.FindKey(q.Head, r.KeyHeaders)
		if err != nil || !found {
			return "", "", err
		}
		return k.Value(), "header", r.Keys.Check(k)
	default:
		found, err := f.sources.Find(q, true)
		if err != nil || !found.Keyed {
			return "", "", err
		}
		return found.Key.Value(), found.Source, r.Keys.Check(found.Key)
	}
}

// explainCaller has the fields as caller.Caller.By hashes them.
func (r *Rules) explainCaller(head *message.Head) (all []operation.Hashed) {
	for _, name := range r.recipe.Bind {
		for value := range head.Named(name) {
			if len(value) > 0 {
				all = append(all, operation.Hashed{Part: name, Value: string(value)})
			}
		}
	}
	return all
}

func (r *Rules) explainScope(head *message.Head) (all []operation.Hashed) {
	for _, source := range r.Scope {
		value := string(head.Host())
		if name, isHeader := source.Header(); isHeader {
			value = "(not there)"
			for one := range head.Named(name) {
				value = string(one)
			}
		} else if source.NeedsToken() {
			value = "(what the bearer token says, which is not verified here)"
		}
		all = append(all, operation.Hashed{Part: source.String(), Value: value})
	}
	return all
}

// readWhole reads a request as the server does: a multipart body is what was sent, not what
// fasthttp writes of its fields, and is there even if the client waits for 100.
func readWhole(request *fasthttp.Request, br *bufio.Reader) error {
	if err := request.Header.Read(br); err != nil {
		return err //nolint:wrapcheck // the caller does
	}
	const noLimit, parsesMultipart = 0, false
	return request.ContinueReadBody(br, noLimit, parsesMultipart) //nolint:wrapcheck // the caller does
}

// sized is a request whose header ends its lines as HTTP has it, and says how long the
// body is.
func sized(text []byte) []byte {
	text = bytes.TrimLeft(text, "\r\n")
	head, body, found := bytes.Cut(text, []byte("\r\n\r\n"))
	if plain, after, ok := bytes.Cut(text, []byte("\n\n")); ok && (!found || len(plain) < len(head)) {
		head, body = plain, after
	}
	lines := bytes.Split(bytes.TrimRight(head, "\r\n"), []byte{'\n'})
	framed := len(body) == 0
	for i, line := range lines {
		lines[i] = bytes.TrimSuffix(line, []byte{'\r'})
		name, _, _ := bytes.Cut(line, []byte{':'})
		framed = framed || message.EqualFold(name, "Content-Length") || message.EqualFold(name, "Transfer-Encoding")
	}
	if !framed && !startsRequest(body) {
		lines = append(lines, strconv.AppendInt([]byte("Content-Length: "), int64(len(body)), 10))
	}
	return append(append(bytes.Join(lines, []byte("\r\n")), "\r\n\r\n"...), body...)
}

// startsRequest says whether a text goes on with another request.
func startsRequest(text []byte) bool {
	line, _, _ := bytes.Cut(bytes.TrimLeft(text, "\r\n"), []byte{'\n'})
	return bytes.HasSuffix(bytes.TrimSuffix(line, []byte{'\r'}), []byte(" HTTP/1.1"))
}
