package message

import (
	"bytes"
	"errors"
)

// Errors of Ambiguous.
var (
	errEmptySegment   = errors.New("the request target has an empty segment (//)")
	errDotSegment     = errors.New("the request target has a segment . or .., plain or encoded")
	errBackslash      = errors.New("the request target has a backslash")
	errPathParameters = errors.New("the request target has a semicolon in its path")
	errEncoded        = errors.New("the request target encodes a delimiter, a control character or %, or has a malformed encoding")
)

// Plain says that a path is spelled the only way there is, by far the most are.
func Plain(path []byte) bool {
	for i, c := range path {
		switch c {
		case '%', '\\', ';':
			return false
		case '/':
			if i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.') {
				return false
			}
		}
	}
	return true
}

// Ambiguous says why servers read a path in different ways. Some decode it before
// they split it into segments, some after, some twice, some not at all; some merge
// segments or take parameters off them. What they all read alike is no error: an
// encoded letter, say (RFC 3986 section 6.2.2.2).
func Ambiguous(path []byte) error {
	if len(path) == 0 || path[0] != '/' { // OPTIONS *
		return nil
	}
	rest := path[1:]
	for more := true; more; {
		var segment []byte
		segment, rest, more = bytes.Cut(rest, []byte{'/'})
		if len(segment) == 0 && more {
			return errEmptySegment
		}
		if err := ambiguousSegment(segment); err != nil {
			return err
		}
	}
	return nil
}

func ambiguousSegment(segment []byte) error {
	length, dots := 0, 0
	for i := 0; i < len(segment); i++ {
		c := segment[i]
		switch c {
		case '\\':
			return errBackslash
		case ';':
			return errPathParameters
		case '%':
			var ok bool
			if c, ok = unhex(segment[i+1:]); !ok || c < ' ' || c == 0x7f || bytes.IndexByte([]byte(`/\?#;%`), c) >= 0 {
				return errEncoded
			}
			i += 2
		}
		length++
		if c == '.' {
			dots++
		}
	}
	if dots == length && (dots == 1 || dots == 2) {
		return errDotSegment
	}
	return nil
}

// unhex reads the two digits of a percent encoding.
func unhex(b []byte) (byte, bool) {
	if len(b) < 2 {
		return 0, false
	}
	high, ok1 := hexDigit(b[0])
	low, ok2 := hexDigit(b[1])
	return high<<4 | low, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}
