package proxy

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// headerRequestID names a request across the services that it goes through. The
// client's is passed on; one that has none gets one on its way to the backend.
//
// A traceparent (W3C Trace Context) is passed on too, but none is made: whoever
// makes one decides whether the trace is sampled, and this proxy records no
// spans. With "not sampled" the backend would stop recording its own, with
// "sampled" it would record every one.
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

// traceID is the trace that a traceparent is about, or nil if it is malformed
// (W3C Trace Context section 3.2.2): version, 32 digits, 16 digits, flags.
func traceID(traceparent []byte) []byte {
	const least, from, to = 55, 3, 35
	if len(traceparent) < least || traceparent[from-1] != '-' || traceparent[to] != '-' {
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
	r.RequestID, r.TraceID = id.requestID, traceID(id.traceparent)
}
