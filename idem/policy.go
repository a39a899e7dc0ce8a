package idem

import (
	"fmt"
	"time"
)

// Ambiguity says what becomes of a key whose operation may have executed.
type Ambiguity uint8

const (
	// AmbiguousRelease frees the key at once, so that the client's retry runs.
	// At-least-once for what failed that way.
	AmbiguousRelease Ambiguity = iota
	// AmbiguousHold keeps the key as unknown until it is resolved.
	// At-most-once.
	AmbiguousHold
	// AmbiguousSettle asks the backend, which voids the attempt or has a receipt of
	// it. Exactly once. Until the backend has answered the key is held.
	AmbiguousSettle
)

// String is the word used in configuration, logs and metrics.
func (a Ambiguity) String() string {
	switch a {
	case AmbiguousHold:
		return "hold"
	case AmbiguousSettle:
		return "settle"
	case AmbiguousRelease:
	}
	return "release"
}

// Holds says that a key which may have executed is not free.
func (a Ambiguity) Holds() bool { return a != AmbiguousRelease }

// MarshalText implements encoding.TextMarshaler.
func (a Ambiguity) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText accepts "release", "hold" and "settle".
func (a *Ambiguity) UnmarshalText(b []byte) error {
	switch string(b) {
	case "release":
		*a = AmbiguousRelease
	case "hold":
		*a = AmbiguousHold
	case "settle":
		*a = AmbiguousSettle
	default:
		return fmt.Errorf("%q is none of %q, %q and %q", b, "release", "hold", "settle")
	}
	return nil
}

// Policy is how one route's keys are treated.
type Policy struct {
	// TTL is how long a lease lasts unless renewed. At least 3 ms.
	TTL time.Duration
	// Heartbeat is how often leases in flight are renewed; below TTL.
	Heartbeat time.Duration
	// Retention is how long a response can be replayed, from completion.
	Retention time.Duration
	// Remember is how long a completed key is known after that: nobody gets its
	// response any more, and nobody executes it.
	Remember time.Duration
	// OnAmbiguous is what becomes of a key that may have executed.
	OnAmbiguous Ambiguity
	// Statuses says what becomes of a response; nil for the default.
	Statuses *Statuses
}

// DefaultPolicy is what the proxy does unless told otherwise.
func DefaultPolicy() Policy {
	return Policy{
		TTL: 30 * time.Second, Heartbeat: 10 * time.Second,
		Retention: 24 * time.Hour, Remember: 24 * time.Hour, OnAmbiguous: AmbiguousRelease,
	}
}
