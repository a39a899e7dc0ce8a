package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
)

// headerRequestID names a request across the services that it goes through. The
// client's is passed on; one that has none gets one on its way to the backend.
//
// A traceparent (W3C Trace Context) is passed on too. One is made only if the
// operator says whether it is sampled, since this proxy records no spans of its
// own: by "not sampled" backends would stop recording theirs, by "sampled" they
// would record every one.
const headerRequestID = "X-Request-Id"

// requestIDLen is 128 bits in hex: enough never to see one twice. They are no
// secrets.
const requestIDLen = 32

// newRequestID does not allocate; the id ends with the request.
func (id *identity) newRequestID() {
	var raw [requestIDLen / 2]byte
	binary.BigEndian.PutUint64(raw[:8], rand.Uint64()) //nolint:gosec // no secret
	binary.BigEndian.PutUint64(raw[8:], rand.Uint64()) //nolint:gosec // no secret
	hex.Encode(id.ownID[:], raw[:])
	id.requestID = id.ownID[:]
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

// newTraceparent begins a trace (W3C Trace Context section 3.2).
func (id *identity) newTraceparent(wish Traceparent) {
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
	id.traceparent = text
}

// leastTraceparent is the length of one of version 00.
const leastTraceparent = 55

// traceID is the trace that a traceparent is about, or nil if it is malformed
// (W3C Trace Context section 3.2.2): version, 32 digits, 16 digits, flags.
func traceID(traceparent []byte) []byte {
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

// correlate has a request on its way to the backend carry an id, and the trace
// be told of it.
func (id *identity) correlate(r *Request) {
	r.RequestID, r.TraceID, r.Traceparent = id.requestID, traceID(id.traceparent), id.traceparent
}
