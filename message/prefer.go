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
