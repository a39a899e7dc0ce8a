package proxy

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// contentEncoding is the content coding of a stored response, empty for none.
func contentEncoding(r *idem.Response) []byte {
	for _, f := range r.Header {
		if equalFold(f.Name, "Content-Encoding") && !equalFold(f.Value, "identity") {
			return f.Value
		}
	}
	return nil
}

// accepts says whether a client takes a content coding, by its Accept-Encoding
// (RFC 9110 section 12.5.3). Without that field it takes all.
func accepts(h *fasthttp.RequestHeader, coding []byte) bool {
	there, star := false, false
	for name, value := range h.AllInOrder() {
		if !equalFold(name, "Accept-Encoding") {
			continue
		}
		there = true
		for one := range bytes.SplitSeq(value, []byte{','}) {
			token, params, _ := bytes.Cut(one, []byte{';'})
			token = bytes.TrimSpace(token)
			switch {
			case equalFold(token, string(coding)), // x-gzip: section 8.4.1.3
				equalFold(token, "x-"+string(coding)), equalFold(coding, "x-"+string(token)):
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
		if equalFold(bytes.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(string(bytes.TrimSpace(value)), 64)
			if err != nil {
				return 0
			}
			return q
		}
	}
	return 1
}

// maxDecoded bounds what a replay is decoded to.
const maxDecoded = 64 << 20

// decoded is r without its content coding, for a client that does not take
// that: same status, same content. A strong entity tag becomes a weak one, since
// the bytes are others (RFC 9110 section 8.8.1). ok is false if it cannot be
// decoded.
func decoded(r *idem.Response, coding []byte) (_ *idem.Response, ok bool) {
	var resp fasthttp.Response
	resp.SetBodyRaw(r.Body)
	resp.Header.SetContentEncodingBytes(bytes.TrimPrefix(bytes.ToLower(coding), []byte("x-")))
	body, err := resp.BodyUncompressedWithLimit(maxDecoded)
	if err != nil {
		return nil, false
	}
	out := &idem.Response{Status: r.Status, Body: body}
	for _, f := range r.Header {
		switch {
		case equalFold(f.Name, "Content-Encoding"), equalFold(f.Name, "Content-Length"), equalFold(f.Name, "Content-Digest"):
			continue // of the encoded bytes (RFC 9530 section 2)
		case equalFold(f.Name, "ETag") && !strings.HasPrefix(string(f.Value), "W/"):
			f.Value = append([]byte("W/"), f.Value...)
		}
		out.Header = append(out.Header, f)
	}
	return out, true
}
