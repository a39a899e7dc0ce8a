package message

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// ContentCoding is the content coding of a stored response, empty for none.
func ContentCoding[L Line](header []L) []byte {
	for _, line := range header {
		if f := plain(line); EqualFold(f.Name, "Content-Encoding") && !EqualFold(f.Value, "identity") {
			return f.Value
		}
	}
	return nil
}

// Accepts says whether a client takes a content coding, by its Accept-Encoding
// (RFC 9110 section 12.5.3). Without that field it takes all.
func (h *Head) Accepts(coding []byte) bool {
	there, star := false, false
	for value := range h.Named("Accept-Encoding") {
		there = true
		for one := range bytes.SplitSeq(value, []byte{','}) {
			token, params, _ := bytes.Cut(one, []byte{';'})
			token = bytes.TrimSpace(token)
			switch {
			case EqualFold(token, string(coding)), // x-gzip: section 8.4.1.3
				EqualFold(token, "x-"+string(coding)), EqualFold(coding, "x-"+string(token)):
				return quality(params) > 0
			case string(token) == "*":
				star = quality(params) > 0
			}
		}
	}
	return !there || star
}

// quality is the weight among an element's parameters (section 12.4.2), 1
// unless given.
func quality(params []byte) float64 {
	for p := range bytes.SplitSeq(params, []byte{';'}) {
		name, value, _ := bytes.Cut(p, []byte{'='})
		if EqualFold(bytes.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(string(bytes.TrimSpace(value)), 64)
			if err != nil {
				return 0
			}
			return q
		}
	}
	return 1
}

// mostCodings is how many content codings are undone, one after another.
const mostCodings = 3

// Undo takes the content codings off a body, of most bytes at most, in the order in
// which they were put on (RFC 9110 section 8.4). The error is fasthttp's: ErrBodyTooLarge
// for a body that becomes larger.
func Undo(codings [][]byte, body []byte, most int) ([]byte, error) {
	if len(codings) > mostCodings {
		return nil, fasthttp.ErrContentEncodingUnsupported
	}
	for i := len(codings) - 1; i >= 0; i-- {
		var resp fasthttp.Response
		resp.SetBodyRaw(body)
		resp.Header.SetContentEncodingBytes(bytes.TrimPrefix(bytes.ToLower(codings[i]), []byte("x-")))
		var err error
		if body, err = resp.BodyUncompressedWithLimit(most); err != nil {
			return nil, err //nolint:wrapcheck // the caller says what for
		}
	}
	return body, nil
}

// TooLarge says of an error of Undo that the body is larger than it may be.
func TooLarge(err error) bool { return errors.Is(err, fasthttp.ErrBodyTooLarge) }

// maxDecoded bounds what a replay is decoded to: a coding can make a thousand times
// as much of a body.
const maxDecoded = 16 << 20

// Decode takes the content coding off a stored response, for a client that does not
// take it: same content, of most bytes at most. A strong entity tag becomes a weak
// one, since the bytes are others (RFC 9110 section 8.8.1), and digests over the
// coded form go. ok is false if it cannot be decoded, or must not be (no-transform,
// section 7.7 and RFC 9111 section 5.2.2.6).
func Decode[L Line](header []L, body, coding []byte, most int) (_ []L, _ []byte, ok bool) {
	for _, line := range header {
		if f := plain(line); EqualFold(f.Name, "Cache-Control") && ListHas(f.Value, []byte("no-transform")) {
			return nil, nil, false
		}
	}
	var resp fasthttp.Response
	resp.SetBodyRaw(body)
	resp.Header.SetContentEncodingBytes(bytes.TrimPrefix(bytes.ToLower(coding), []byte("x-")))
	body, err := resp.BodyUncompressedWithLimit(min(most, maxDecoded))
	if err != nil {
		return nil, nil, false
	}
	var out []L
	for _, line := range header {
		f := plain(line)
		switch {
		case EqualFold(f.Name, "Content-Encoding"), EqualFold(f.Name, "Content-Length"), EqualFold(f.Name, "Content-Digest"),
			EqualFold(f.Name, "Repr-Digest"), EqualFold(f.Name, "Digest"), EqualFold(f.Name, "Content-MD5"):
			continue // of the encoded bytes (RFC 9530 sections 2 and 3, and those before it)
		case EqualFold(f.Name, "ETag") && !strings.HasPrefix(string(f.Value), "W/"):
			f.Value = append([]byte("W/"), f.Value...)
		}
		out = append(out, L(f))
	}
	return out, body, true
}
