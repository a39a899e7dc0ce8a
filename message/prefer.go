package message

import (
	"bytes"
	"strconv"
	"time"
)

// PreferredWait looks for wait=N in a Prefer field (RFC 7240). Names have no
// case, a value may be quoted, parameters are ignored, and of several the first
// counts. One that is no number of seconds is as good as none: a server ignores
// preferences that it cannot honour (section 2).
func PreferredWait(prefer []byte) (wait time.Duration, found bool) {
	for len(prefer) > 0 {
		var one []byte
		one, prefer = CutUnquoted(prefer, ',')
		one, _ = CutUnquoted(one, ';')
		name, value, _ := bytes.Cut(one, []byte{'='})
		if !EqualFold(bytes.TrimSpace(name), "wait") {
			continue
		}
		seconds, err := strconv.ParseUint(string(Bare(value)), 10, 31)
		if err != nil {
			return 0, false
		}
		return time.Duration(seconds) * time.Second, true
	}
	return 0, false
}

// PrefersAsync says whether a Prefer field asks for an answer before the work is done:
// respond-async (RFC 7240 section 4.1).
func PrefersAsync(prefer []byte) bool {
	for len(prefer) > 0 {
		var one []byte
		one, prefer = CutUnquoted(prefer, ',')
		if isAsync(one) {
			return true
		}
	}
	return false
}

// isAsync: a preference that has the name, whatever its value and parameters.
func isAsync(preference []byte) bool {
	preference, _ = CutUnquoted(preference, ';')
	name, _, _ := bytes.Cut(preference, []byte{'='})
	return EqualFold(bytes.TrimSpace(name), "respond-async")
}

// withoutAsync is a Prefer field without that preference; empty if there is no other.
func withoutAsync(prefer []byte) (rest []byte) {
	for len(prefer) > 0 {
		var one []byte
		one, prefer = CutUnquoted(prefer, ',')
		if one = bytes.TrimSpace(one); len(one) == 0 || isAsync(one) {
			continue
		}
		if len(rest) > 0 {
			rest = append(rest, ", "...)
		}
		rest = append(rest, one...)
	}
	return rest
}
