package message

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
)

// X-Request-Id of a client is passed on; a request that has none gets one, so that
// backend, log and answer call it the same.
//
// A traceparent (W3C Trace Context) is passed on too. One is made only if the
// operator says whether it is sampled, since this proxy records no spans of its
// own: by "not sampled" backends would stop recording theirs, by "sampled" they
// would record every one.

// requestIDLen is 128 bits in hex: enough never to see one twice. They are no
// secrets.
const requestIDLen = 32

// RequestID is room for an id of our own.
type RequestID [requestIDLen]byte

// New makes an id. It does not allocate.
func (id *RequestID) New() []byte {
	var raw [requestIDLen / 2]byte
	binary.BigEndian.PutUint64(raw[:8], rand.Uint64()) //nolint:gosec // no secret
	binary.BigEndian.PutUint64(raw[8:], rand.Uint64()) //nolint:gosec // no secret
	hex.Encode(id[:], raw[:])
	return id[:]
}

// Traceparent says whether requests without a traceparent get one.
type Traceparent uint8

// What they get.
const (
	PassTraceparent Traceparent = iota // none
	Sampled                            // one that says that the trace is recorded
	Unsampled                          // one that says that it is not
)

// ErrTraceparent is a word for none of these.
var ErrTraceparent = errors.New("want pass, sampled or unsampled")

// ParseTraceparent reads pass, sampled or unsampled.
func ParseTraceparent(text string) (Traceparent, error) {
	for i, word := range []string{"pass", "sampled", "unsampled"} {
		if text == word {
			return Traceparent(i), nil
		}
	}
	return 0, fmt.Errorf("%q: %w", text, ErrTraceparent)
}

// New begins a trace (W3C Trace Context section 3.2).
func (wish Traceparent) New() []byte {
	var raw [24]byte
	for i := 0; i < len(raw); i += 8 {
		binary.BigEndian.PutUint64(raw[i:], rand.Uint64()|1) //nolint:gosec // no secret, and never all zeros
	}
	text := append(make([]byte, 0, leastTraceparent), "00-"...)
	text = append(hex.AppendEncode(text, raw[:16]), '-')
	text = append(hex.AppendEncode(text, raw[16:]), "-00"...)
	if wish == Sampled {
		text[len(text)-1] = '1'
	}
	return text
}

// leastTraceparent is the length of one of version 00.
const leastTraceparent = 55

// TraceID is the trace that a traceparent is about, or nil if it is malformed
// (W3C Trace Context section 3.2.2): version, 32 digits, 16 digits, flags.
func TraceID(traceparent []byte) []byte {
	const from, to = 3, 35
	if len(traceparent) < leastTraceparent || traceparent[from-1] != '-' || traceparent[to] != '-' {
		return nil
	}
	id := traceparent[from:to]
	for _, c := range id {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return nil
		}
	}
	return id
}
