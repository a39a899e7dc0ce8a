package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"mime/multipart"
	"slices"
	"strings"
	"sync"

	"github.com/gowebpki/jcs"
	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

//nolint:gochecknoglobals // a pool is made to be shared
var hashers = sync.Pool{New: func() any { return &hasher{Hash: sha256.New()} }}

// hasher keeps the sum beside the state, where both are reused.
type hasher struct {
	hash.Hash
	sum idem.Fingerprint
}

// fingerprint is the SHA-256 of method, target and body. A method holds no
// space and a target no line feed (RFC 9112 section 3), so no two requests are
// written to the hash alike.
func fingerprint(method, target, body []byte) idem.Fingerprint {
	h := hashers.Get().(*hasher) //nolint:forcetypeassert // see New
	defer hashers.Put(h)
	h.Reset()
	_, _ = h.Write(method)
	_, _ = h.Write(space)
	_, _ = h.Write(target)
	_, _ = h.Write(newline)
	_, _ = h.Write(body)
	h.Sum(h.sum[:0])
	return h.sum
}

//nolint:gochecknoglobals // constants, of a kind that Go has no word for
var space, newline = []byte{' '}, []byte{'\n'}

// Fingerprint says what must not change between two uses of a key. The nil
// Fingerprint is method, target and body.
type Fingerprint struct {
	parts []string
}

// FingerprintParts are the parts that ParseFingerprint knows, besides
// header:NAME.
func FingerprintParts() []string {
	return []string{"method", "target", "path", "body", "json", "multipart"}
}

// ParseFingerprint reads a list of parts:
//
//   - method;
//   - target: path and query as sent; or path: without the query;
//   - body: its bytes; or json: those of a JSON body in the canonical form of
//     RFC 8785, so that white space and the order of members do not matter, of
//     any other its bytes; or multipart: the parts of a multipart body without
//     the boundary that each try makes anew, of any other its bytes. Both may
//     be given. Without any of the three the body does not matter;
//   - header:NAME: the values of that field.
func ParseFingerprint(parts []string) (*Fingerprint, error) {
	f := &Fingerprint{}
	for _, part := range parts {
		name, isHeader := strings.CutPrefix(part, "header:")
		switch {
		case isHeader && name == "", !isHeader && !slices.Contains(FingerprintParts(), part):
			return nil, fmt.Errorf("%q is none of %s or header:NAME", part, strings.Join(FingerprintParts(), ", "))
		case slices.Contains(f.parts, part):
			return nil, fmt.Errorf("%q is there twice", part)
		}
		f.parts = append(f.parts, part)
	}
	slices.Sort(f.parts) // so that their order in the configuration does not matter
	switch {
	case f.has("target") && f.has("path"):
		return nil, errors.New("target has the path already")
	case f.has("body") && (f.has("json") || f.has("multipart")):
		return nil, errors.New("body is all of the body already: leave it out, or json and multipart")
	case len(f.parts) == 0:
		return nil, errors.New("nothing to tell two requests apart by")
	case slices.Equal(f.parts, []string{"body", "method", "target"}):
		return nil, nil //nolint:nilnil // the default, which has a way of its own
	}
	return f, nil
}

func (f *Fingerprint) has(part string) bool { return slices.Contains(f.parts, part) }

// of is the request's fingerprint.
func (f *Fingerprint) of(req *fasthttp.Request, body []byte) idem.Fingerprint {
	h := &req.Header
	if f == nil {
		return fingerprint(h.Method(), h.RequestURI(), body)
	}
	sum := sha256.New()
	for _, part := range f.parts {
		switch part {
		case "method":
			writePart(sum, part, h.Method())
		case "target":
			writePart(sum, part, h.RequestURI())
		case "path":
			path, _, _ := bytes.Cut(h.RequestURI(), []byte{'?'})
			writePart(sum, part, path)
		case "body", "json", "multipart": // below, once
		default:
			name := strings.TrimPrefix(part, "header:")
			for key, value := range h.AllInOrder() {
				if equalFold(key, name) {
					writePart(sum, strings.ToLower(part), value)
				}
			}
		}
	}
	f.writeBody(sum, string(h.ContentType()), body)
	return idem.Fingerprint(sum.Sum(nil))
}

// writePart writes what a part is, its length and it, so that no two lists of
// parts are written alike.
func writePart(w io.Writer, part string, value []byte) {
	var b [4]byte
	_, _ = io.WriteString(w, part)
	binary.BigEndian.PutUint32(b[:], uint32(len(value))) //nolint:gosec // bounded by the request's limits
	_, _ = w.Write(append([]byte{0}, b[:]...))
	_, _ = w.Write(value)
}

func (f *Fingerprint) writeBody(w io.Writer, contentType string, body []byte) {
	mediaType, params, err := mime.ParseMediaType(contentType)
	switch {
	case err == nil && f.has("json") && (mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")):
		if canonical, ok := canonicalJSON(body); ok {
			writePart(w, "json", canonical)
			return
		}
	case err == nil && f.has("multipart") && strings.HasPrefix(mediaType, "multipart/"):
		if parts, ok := multipartHash(body, params["boundary"]); ok {
			writePart(w, "multipart", append([]byte(mediaType+"\x00"), parts...))
			return
		}
	case !f.has("body") && !f.has("json") && !f.has("multipart"):
		return
	}
	writePart(w, "body", body)
}

// canonicalJSON is body in RFC 8785's form. That form has IEEE doubles for
// numbers: two long ones that differ in their last digit become one. A body with
// such a number has no canonical form here.
func canonicalJSON(body []byte) ([]byte, bool) {
	if hasLongNumber(body) {
		return nil, false
	}
	canonical, err := jcs.Transform(body)
	return canonical, err == nil
}

// hasLongNumber: 15 significant digits survive a double, 16 may not.
func hasLongNumber(body []byte) bool {
	quoted, digits := false, 0
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c >= '0' && c <= '9':
			if digits++; digits > 15 {
				return true
			}
		case c != '.':
			digits = 0
		}
	}
	return false
}

// multipartHash is the SHA-256 over the parts' headers and contents, in order.
func multipartHash(body []byte, boundary string) ([]byte, bool) {
	if boundary == "" {
		return nil, false
	}
	sum := sha256.New()
	for r := multipart.NewReader(bytes.NewReader(body), boundary); ; {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return sum.Sum(nil), true
		}
		if err != nil {
			return nil, false
		}
		names := make([]string, 0, len(part.Header))
		for name := range part.Header {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			for _, value := range part.Header[name] {
				writePart(sum, name, []byte(value))
			}
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return nil, false
		}
		writePart(sum, "", content)
	}
}
