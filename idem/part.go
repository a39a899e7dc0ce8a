package idem

import "strings"

// Part is what differs from the first use of a key: PartNone; PartIdentity, and nothing
// else is said then; or PartPayload, with those of its parts that are known to differ.
type Part uint8

// What can differ. The first three are known to the Lua scripts.
const (
	PartNone     Part = 0
	PartIdentity Part = 1 << (iota - 1)
	PartPayload
	PartMethod
	PartTarget
	PartHeaders
	PartBody
)

// payloadParts are those that PartPayload has, in the order of [Hints].
const payloadParts = 4

// partNames are the parts' in the order of their bits.
func partNames() [2 + payloadParts]string {
	return [...]string{"identity", "payload", "method", "target", "headers", "body"}
}

// Has says whether all of other differs.
func (p Part) Has(other Part) bool { return p&other == other }

// String is the part's name, with the names of the payload's own parts.
func (p Part) String() string {
	if p == PartNone {
		return "none"
	}
	var names []string
	for i, name := range partNames() {
		if p&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Hints have one byte for each of method, target, headers and body, which says whether
// that part differs: two that differ are of two different parts, and two that are equal say
// nothing, since one difference in 256 is missed. They decide nothing: they only explain a
// mismatch of fingerprints. The zero value has none.
//
// A record has them in the last bytes of its owner token, where the releases before this
// one keep them without knowing.
type Hints [payloadParts]byte

// NewOwner is a token of 96 random bits with the hints.
func (h Hints) NewOwner() Owner {
	o := NewOwner()
	if h != (Hints{}) {
		copy(o[len(o)-len(h):], h[:])
	}
	return o
}

// in says whether a token has the hints. By chance a random one may, and is right then.
func (h Hints) in(o Owner) bool { return h != (Hints{}) && h == hintsIn(o) }

func hintsIn(o Owner) (h Hints) {
	copy(h[:], o[len(o)-len(h):])
	return h
}

// Differ is PartPayload and those parts that are known to differ.
func (h Hints) Differ(other Hints) Part {
	part := PartPayload
	if h == (Hints{}) || other == (Hints{}) {
		return part
	}
	for i := range h {
		if h[i] != other[i] {
			part |= PartMethod << i
		}
	}
	return part
}

// Hints are those of the request that the record is of; none if it does not have them.
func (r *Record) Hints() Hints {
	if !r.Hinted {
		return Hints{}
	}
	return hintsIn(r.Owner)
}
