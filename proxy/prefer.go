package proxy

import (
	"bytes"
	"errors"
	"strconv"
	"time"
)

var errPrefer = errors.New("the Prefer header's wait must be a number of seconds: Prefer: wait=10")

// wishes settles how long the request waits for a key in progress: what the
// client prefers, within what the route allows.
func (id *identity) wishes() error {
	if id.rules.Wait {
		id.wait = id.rules.MaxWait
	}
	if len(id.prefer) == 0 {
		return nil
	}
	wait, found, err := preferredWait(id.prefer)
	if err != nil {
		return err
	}
	if found {
		id.wait = min(wait, id.rules.MaxWait)
	}
	return nil
}

// preferredWait looks for wait=N in a Prefer field (RFC 7240). Names have no
// case, a value may be quoted, parameters are ignored, and of several the first
// counts (section 2).
func preferredWait(prefer []byte) (wait time.Duration, found bool, err error) {
	for len(prefer) > 0 {
		var one []byte
		one, prefer = cutUnquoted(prefer, ',')
		one, _ = cutUnquoted(one, ';')
		name, value, _ := bytes.Cut(one, []byte{'='})
		if !equalFold(bytes.TrimSpace(name), "wait") {
			continue
		}
		value = bytes.TrimSpace(value)
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		seconds, err := strconv.ParseUint(string(value), 10, 31)
		if err != nil {
			return 0, false, errPrefer
		}
		return time.Duration(seconds) * time.Second, true, nil
	}
	return 0, false, nil
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
