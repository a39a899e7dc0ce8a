package message

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// EqualFold compares ASCII without case and without allocating.
func EqualFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(s) {
		x, y := b[i], s[i]
		if x != y && (x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z') {
			return false
		}
	}
	return true
}

// ResponseValue is the first value of a field of a response, in whatever case its
// name is spelled (RFC 9110 section 5.1): fasthttp's own Peek compares names as they
// were sent. Nil for none.
func ResponseValue(h *fasthttp.ResponseHeader, name string) []byte {
	for n, value := range h.All() {
		if EqualFold(n, name) {
			return value
		}
	}
	return nil
}

// RequestValue is the same of a request.
func RequestValue(h *fasthttp.RequestHeader, name string) []byte {
	for n, value := range h.All() {
		if EqualFold(n, name) {
			return value
		}
	}
	return nil
}

// AppendLower appends ASCII letters in lower case, and all else as it is.
func AppendLower(dst, b []byte) []byte {
	for _, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// ListHas looks for a token in a comma-separated list.
func ListHas(list, name []byte) bool {
	for token := range bytes.SplitSeq(list, []byte{','}) {
		if bytes.EqualFold(bytes.TrimSpace(token), name) {
			return true
		}
	}
	return false
}

// IsPrintable says that there is at least one character, and that all are of
// printable ASCII.
func IsPrintable(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return len(b) > 0
}

// Bare is a parameter's value without white space around it, and quotes.
func Bare(value []byte) []byte {
	value = bytes.TrimSpace(value)
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	return value
}

// CutUnquoted cuts at the first sep outside of a quoted string.
func CutUnquoted(b []byte, sep byte) (before, after []byte) {
	quoted := false
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			quoted = !quoted
		case quoted && b[i] == '\\':
			i++
		case !quoted && b[i] == sep:
			return b[:i], b[i+1:]
		}
	}
	return b, nil
}

// isTwin says of a field's name that a backend may take it for want: CGI and its kin
// name fields in capitals with underscores, and know no difference between those,
// dashes and further signs.
func isTwin(name []byte, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range len(want) {
		x, y := name[i], want[i]
		if x != y && (isSign(x) != isSign(y) || !isSign(x) && !EqualFold(name[i:i+1], want[i:i+1])) {
			return false
		}
	}
	return true
}

// isSign: of a token's characters.
func isSign(c byte) bool {
	return !isDigit(c) && (c|0x20 < 'a' || c|0x20 > 'z')
}

// isOdd says of a field's name that it has signs other than dashes.
func isOdd(name []byte) bool {
	for _, c := range name {
		if c != '-' && isSign(c) {
			return true
		}
	}
	return false
}
