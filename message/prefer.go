package proxy

import (
	"bytes"
	"strconv"
	"time"
)

// wishes settles how long the request waits for a key in progress: what the
// client prefers, within what the route allows.
func (id *identity) wishes() {
	if id.rules.Wait {
		id.wait = id.rules.MaxWait
	}
	if len(id.prefer) == 0 {
		return
	}
	if wait, found := preferredWait(id.prefer); found {
		id.wait = min(wait, id.rules.MaxWait)
	}
}

// preferredWait looks for wait=N in a Prefer field (RFC 7240). Names have no
// case, a value may be quoted, parameters are ignored, and of several the first
// counts. One that is no number of seconds is as good as none: a server ignores
// preferences that it cannot honour (section 2).
func preferredWait(prefer []byte) (wait time.Duration, found bool) {
	for len(prefer) > 0 {
		var one []byte
		one, prefer = cutUnquoted(prefer, ',')
		one, _ = cutUnquoted(one, ';')
		name, value, _ := bytes.Cut(one, []byte{'='})
		if !equalFold(bytes.TrimSpace(name), "wait") {
			continue
		}
		seconds, err := strconv.ParseUint(string(bare(value)), 10, 31)
		if err != nil {
			return 0, false
		}
		return time.Duration(seconds) * time.Second, true
	}
	return 0, false
}

// cutUnquoted cuts at the first sep outside of a quoted string.
func cutUnquoted(b []byte, sep byte) (before, after []byte) {
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
