package operation

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/idemproxy/idemproxy/message"
)

// undone is a body without its content codings.
type undone struct {
	done bool
	body []byte
	err  error
}

// Plain is the body without its content codings, which are undone once.
func (q *Asked) Plain() ([]byte, error) {
	if !q.undone.done {
		q.undone.done = true
		q.undone.body, q.undone.err = q.undo()
	}
	return q.undone.body, q.undone.err
}

// Undone is how many bytes Plain has made besides the body.
func (q *Asked) Undone() int {
	if len(q.undone.body) > 0 && len(q.Body) > 0 && &q.undone.body[0] == &q.Body[0] {
		return 0
	}
	return len(q.undone.body)
}

func (q *Asked) undo() ([]byte, error) {
	var codings [][]byte
	for value := range q.Head.Named("Content-Encoding") {
		for one := range bytes.SplitSeq(value, []byte{','}) {
			if one = bytes.TrimSpace(one); len(one) > 0 && !message.EqualFold(one, "identity") {
				codings = append(codings, one)
			}
		}
	}
	if len(codings) == 0 {
		return q.Body, nil
	}
	body, err := message.Undo(codings, q.Body, max(q.Most, 1))
	switch {
	case message.TooLarge(err):
		return nil, ErrExpands
	case err != nil:
		return nil, fmt.Errorf("%w: its content coding cannot be undone", ErrUnreadable)
	}
	return body, nil
}

// Media types.
const (
	formType      = "application/x-www-form-urlencoded"
	multipartType = "multipart/form-data"
	graphQLType   = "application/graphql"
)

// mediaType is the request's, in small letters and without parameters.
func (q *Asked) mediaType() string {
	mediaType, _ := message.CutUnquoted(q.Head.ContentType(), ';')
	return strings.ToLower(string(bytes.TrimSpace(mediaType)))
}

// isJSON takes a body of no type for JSON.
func (q *Asked) isJSON() bool {
	mediaType := q.mediaType()
	return mediaType == "" || isJSON(mediaType)
}

// isTypedTwice says that several fields Content-Type differ: programs take the first, or the
// last.
func (q *Asked) isTypedTwice() bool {
	for one := range q.Head.Named("Content-Type") {
		if !bytes.Equal(one, q.Head.ContentType()) {
			return true
		}
	}
	return false
}

func (q *Asked) isForm() bool {
	mediaType := q.mediaType()
	return mediaType == formType || mediaType == multipartType
}

// jsonValue is what a pointer leads to in a JSON body.
func (q *Asked) jsonValue(at pointer) (string, bool, error) {
	body, err := q.Plain()
	if err != nil {
		return "", false, err
	}
	value, err := at.at(body)
	if err != nil {
		return "", false, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return textOfJSON(value)
}

// textOfJSON is a string, or a number as plainNumber has it. Null is nothing.
func textOfJSON(value jsontext.Value) (string, bool, error) {
	if len(value) == 0 {
		return "", false, nil
	}
	switch value.Kind() {
	case '"':
		text, err := jsontext.AppendUnquote(nil, value)
		if err != nil {
			return "", false, ErrKeyValue
		}
		return string(text), true, nil
	case '0':
		return plainNumber(value), true, nil
	case 'n':
		return "", false, nil
	default:
		return "", false, ErrKeyValue
	}
}

// isBatch says whether a JSON text is an array.
func isBatch(body []byte) bool { return decoderOf(body).PeekKind() == '[' }

// rpcValue is a value in the params of a JSON-RPC 2.0 request.
func (q *Asked) rpcValue(at pointer) (string, bool, error) {
	body, err := q.Plain()
	if err != nil {
		return "", false, err
	}
	if isBatch(body) {
		return "", false, ErrBatch
	}
	return q.jsonValue(append(pointer{"params"}, at...))
}

// fieldOf is a field of a target's query.
func fieldOf(target []byte, name string) (string, bool, error) {
	_, query, _ := bytes.Cut(target, []byte{'?'})
	return oneOf(string(query), name)
}

// oneOf is the value of a name among pairs of a form or a query. If it is there several
// times, all must have the same value.
func oneOf(pairs, name string) (value string, there bool, err error) {
	for pair := range strings.SplitSeq(pairs, "&") {
		left, right, _ := strings.Cut(pair, "=")
		if key, err := url.QueryUnescape(left); err != nil || key != name {
			continue
		}
		one, err := url.QueryUnescape(right)
		switch {
		case err != nil:
			return "", false, errEncoding
		case there && one != value:
			return "", false, ErrKeysDiffer
		}
		value, there = one, true
	}
	return value, there, nil
}

var errEncoding = fmt.Errorf("%w: it has a malformed percent-encoding", ErrKeyValue)

// segmentOf is a segment of a target's path, from 1, decoded.
func segmentOf(target []byte, n int) (string, bool, error) {
	path, _, _ := bytes.Cut(target, []byte{'?'})
	segments := segmentsOf(string(path))
	if n > len(segments) {
		return "", false, nil
	}
	value, err := url.PathUnescape(segments[n-1])
	if err != nil {
		return "", false, errEncoding
	}
	return value, true, nil
}

// segmentsOf are those of a path, as they are spelled, without dot segments and empty ones:
// where a route takes such a path at all, it looks at the path without them, too.
func segmentsOf(path string) (all []string) {
	if !strings.HasPrefix(path, "/") { // OPTIONS *
		return nil
	}
	for segment := range strings.SplitSeq(path, "/") {
		switch strings.ReplaceAll(strings.ToLower(segment), "%2e", ".") {
		case "", ".":
		case "..":
			all = all[:max(len(all)-1, 0)]
		default:
			all = append(all, segment)
		}
	}
	return all
}

// formValue is a field of a form.
func (q *Asked) formValue(name string) (string, bool, error) {
	body, err := q.Plain()
	if err != nil {
		return "", false, err
	}
	if q.mediaType() == multipartType {
		return q.multipartValue(body, name)
	}
	return oneOf(string(body), name)
}

// multipartValue is a field of a multipart form. A file is none.
func (q *Asked) multipartValue(body []byte, name string) (value string, there bool, err error) {
	_, params, err := mime.ParseMediaType(string(q.Head.ContentType()))
	if err != nil || params["boundary"] == "" {
		return "", false, fmt.Errorf("%w: it has no boundary", ErrUnreadable)
	}
	for r := partsOf(body, params["boundary"]); ; {
		part, err := r.NextRawPart()
		if isLastPart(err) {
			return value, there, nil
		}
		if err != nil {
			return "", false, fmt.Errorf("%w: its parts are malformed", ErrUnreadable)
		}
		if part.FormName() != name || part.FileName() != "" {
			continue
		}
		content, err := io.ReadAll(part)
		one := string(content)
		switch {
		case err != nil:
			return "", false, fmt.Errorf("%w: its parts are malformed", ErrUnreadable)
		case there && one != value:
			return "", false, ErrKeysDiffer
		}
		value, there = one, true
	}
}
