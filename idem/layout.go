package idem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Record layout, version 2; integers are big-endian. Everything that decides an
// acquire is in a head of fixed size, so that a store can read it (Redis:
// GETRANGE) without touching the body. It is below 100 bytes, since that much is
// kept of a key whose response is not. The Lua scripts of rstore know these
// offsets.
//
//	 0  u8   layout version
//	 1  u8   state
//	 2  u8   flags: bit 0 = hold on lapse; bit 1 = completed, and the response is
//	         not in here
//	 3  u8   flags that explain: bit 0 = the owner's last 4 bytes are hints
//	 4  u32  attempt
//	 8  16B  owner
//	24  16B  fingerprint
//	40  16B  binding
//	56  u32  recipe
//	60  u48  in progress: lease until, ms; completed: replay until, ms; else 0
//	66  u48  created, ms
//	72  u48  updated, ms
//	78  u48  expires, ms; 0 for never
//	84  u48  retention, ms
//	90  u48  remember, ms
//	96  u16  scope length, u16 value length, scope, value
//	..  response, when completed, without bit 1:
//	    u16 status, u8 flags (bit 0 = body omitted, bit 1 = sealed, bit 2 =
//	    redirect; others: a later layout), u16 fields,
//	    each u16 name length, u32 value length, name, value;
//	    u32 body length, body;
//	    with bit 2: u32 from length, from, u32 to length, to
//
// Layout 1, which is read and not written any more, has a head of 120 bytes: up
// to the attempt alike, then u64 lease until, 16B owner, 32B fingerprint, 32B
// binding, u64 created, updated and expires. Of its hashes the first halves are
// those of layout 2.
const (
	// LayoutVersion is the first byte of every record this build writes.
	LayoutVersion = 2
	// HeadSize is the size of the part of fixed size.
	HeadSize = 96

	layout1   = 1
	headSize1 = 120

	flagHinted      = 1 << 0
	flagHoldOnLapse = 1 << 0
	flagNoResponse  = 1 << 1
	flagBodyOmitted = 1 << 0
	flagSealed      = 1 << 1
	flagRedirect    = 1 << 2
)

// ErrCorrupt is a record that breaks its own layout.
var ErrCorrupt = errors.New("record is corrupt")

// ErrTooLarge is a response that the layout has no room for: over 65,535
// fields, a field name over 64 KiB or a body over 4 GiB.
var ErrTooLarge = errors.New("response is too large for a record")

// AppendHead appends the part of fixed size.
func (r *Record) AppendHead(dst []byte) []byte {
	var flags byte
	if r.HoldOnLapse {
		flags |= flagHoldOnLapse
	}
	until := int64(0)
	switch r.State {
	case InProgress:
		until = r.LeaseUntil
	case Completed:
		until = r.ReplayUntil
	case Absent, Unknown, Lapsed, Expired:
	}
	if r.State == Completed && r.Response == nil {
		flags |= flagNoResponse
	}
	var explain byte
	if r.Hinted {
		explain |= flagHinted
	}
	dst = append(dst, LayoutVersion, byte(r.State), flags, explain)
	dst = binary.BigEndian.AppendUint32(dst, r.Attempt)
	dst = append(dst, r.Owner[:]...)
	dst = append(dst, r.Fingerprint[:]...)
	dst = append(dst, r.Binding[:]...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.Recipe))
	for _, n := range [...]int64{until, r.Created, r.Updated, r.Expires, r.Retention, r.Remember} {
		dst = append(dst, byte(n>>40), byte(n>>32)) //nolint:gosec // the upper two of six bytes
		dst = binary.BigEndian.AppendUint32(dst, uint32(n&math.MaxUint32))
	}
	return dst
}

// AppendTail appends what follows the head: the key's names and, if response is
// not nil, the response.
func AppendTail(dst []byte, key Key, response *Response) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(key.scope))) //nolint:gosec // scopes are bounded by CheckScope
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(key.value))) //nolint:gosec // at most MaxKeyLen
	dst = append(dst, key.scope...)
	dst = append(dst, key.value...)
	if response != nil {
		dst = AppendResponse(dst, response)
	}
	return dst
}

// Append appends the whole record: of a completed one without a Response (it has
// expired, or is kept elsewhere), what is left.
func (r *Record) Append(dst []byte) []byte {
	response := r.Response
	if r.State != Completed {
		response = nil
	}
	return AppendTail(r.AppendHead(dst), r.Key, response)
}

// CheckResponse returns ErrTooLarge for what the layout has no room for.
func CheckResponse(r *Response) error {
	if len(r.Header) > math.MaxUint16 || len(r.Body) > math.MaxUint32 {
		return ErrTooLarge
	}
	for _, f := range r.Header {
		if len(f.Name) > math.MaxUint16 || len(f.Value) > math.MaxUint32 {
			return ErrTooLarge
		}
	}
	return nil
}

// AppendResponse appends a response alone, as it stands in a record.
func AppendResponse(dst []byte, r *Response) []byte {
	var flags byte
	if r.BodyOmitted {
		flags |= flagBodyOmitted
	}
	if r.Sealed {
		flags |= flagSealed
	}
	if r.Redirect != nil {
		flags |= flagRedirect
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Status)) //nolint:gosec // 100 to 999
	dst = append(dst, flags)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(r.Header))) //nolint:gosec // see CheckResponse
	for _, f := range r.Header {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(f.Name)))  //nolint:gosec // see CheckResponse
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(f.Value))) //nolint:gosec // see CheckResponse
		dst = append(dst, f.Name...)
		dst = append(dst, f.Value...)
	}
	dst = appendLong(dst, r.Body)
	if r.Redirect != nil {
		dst = appendLong(appendLong(dst, r.Redirect.From), r.Redirect.To)
	}
	return dst
}

func appendLong(dst, b []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(b))) //nolint:gosec // see CheckResponse
	return append(dst, b...)
}

// DecodeHead reads the part of fixed size; Key and Response stay empty. A
// version that is neither ours nor the one before is ErrVersion, anything else
// amiss ErrCorrupt.
func DecodeHead(b []byte) (Record, error) {
	r, _, err := decodeHead(b)
	return r, err
}

func decodeHead(b []byte) (r Record, rest []byte, err error) {
	if len(b) == 0 {
		return Record{}, nil, fmt.Errorf("%w: empty", ErrCorrupt)
	}
	size, decode := HeadSize, decodeHead2
	switch b[0] {
	case LayoutVersion:
	case layout1:
		size, decode = headSize1, decodeHead1
		if !timesFit(b) {
			return Record{}, nil, fmt.Errorf("%w: a time of more than 48 bits", ErrCorrupt)
		}
	default:
		return Record{}, nil, fmt.Errorf("%w: layout %d, this build reads up to %d", ErrVersion, b[0], LayoutVersion)
	}
	if len(b) < size {
		return Record{}, nil, fmt.Errorf("%w: %d bytes, the head alone has %d", ErrCorrupt, len(b), size)
	}
	if r = decode(b); r.State > Unknown {
		return Record{}, nil, fmt.Errorf("%w: state %d", ErrCorrupt, b[1])
	}
	return r, b[size:], nil
}

func decodeHead2(b []byte) Record {
	var n [6]int64
	for i := range n {
		at := b[60+6*i:]
		n[i] = int64(at[0])<<40 | int64(at[1])<<32 | int64(binary.BigEndian.Uint32(at[2:]))
	}
	r := Record{
		State: State(b[1]), HoldOnLapse: b[2]&flagHoldOnLapse != 0, Hinted: b[3]&flagHinted != 0,
		Attempt: binary.BigEndian.Uint32(b[4:]),
		Owner:   Owner(b[8:24]), Fingerprint: Fingerprint(b[24:40]), Binding: Binding(b[40:56]),
		Recipe: Recipe(binary.BigEndian.Uint32(b[56:])), Created: n[1], Updated: n[2], Expires: n[3], Retention: n[4], Remember: n[5],
	}
	return r.until(n[0])
}

// until puts a time where the state has it.
func (r Record) until(t int64) Record {
	switch r.State {
	case InProgress:
		r.LeaseUntil = t
	case Completed:
		r.ReplayUntil = t
	case Absent, Unknown, Lapsed, Expired:
	}
	return r
}

// timesFit says whether the times of layout 1, which have 64 bits, are ones that
// can be written in layout 2.
func timesFit(b []byte) bool {
	for _, at := range []int{8, 96, 104, 112} {
		if at+8 <= len(b) && binary.BigEndian.Uint64(b[at:])>>48 != 0 {
			return false
		}
	}
	return true
}

// decodeHead1 reads layout 1, where all that is kept ends together, and a
// record's retention is known from its times.
func decodeHead1(b []byte) Record {
	r := Record{
		State: State(b[1]), HoldOnLapse: b[2]&flagHoldOnLapse != 0, Attempt: binary.BigEndian.Uint32(b[4:]),
		Owner: Owner(b[16:32]), Fingerprint: Fingerprint(b[32:48]), Binding: Binding(b[64:80]), Recipe: LegacyRecipe,
		Created: int64(binary.BigEndian.Uint64(b[96:])),  //nolint:gosec // ms since 1970
		Updated: int64(binary.BigEndian.Uint64(b[104:])), //nolint:gosec // ms since 1970
		Expires: int64(binary.BigEndian.Uint64(b[112:])), //nolint:gosec // ms since 1970
	}
	r.Retention = r.Expires - r.Updated
	switch r.State {
	case InProgress:
		r.LeaseUntil = int64(binary.BigEndian.Uint64(b[8:])) //nolint:gosec // ms since 1970
		if r.Retention = r.Expires - r.LeaseUntil; r.HoldOnLapse {
			r.Expires = 0
		}
	case Completed:
		r.ReplayUntil = r.Expires
	case Unknown:
		r.Expires = 0
	case Absent, Lapsed, Expired:
	}
	r.Retention = max(r.Retention, 1) // as layout1.lua of rstore has it
	return r
}

// DecodeRecord reads a whole record. A completed one may have no response: see
// Append. The response shares b's bytes, which the caller hereby gives away.
func DecodeRecord(b []byte) (Record, error) {
	r, rest, err := decodeNamed(b)
	if err == nil && r.State == Completed && b[2]&flagNoResponse == 0 {
		r.Response, err = DecodeResponse(rest)
	}
	if err != nil {
		return Record{}, err
	}
	return r, nil
}

// DecodeNamed reads a record without its response, which need not be in b.
func DecodeNamed(b []byte) (Record, error) {
	r, _, err := decodeNamed(b)
	return r, err
}

func decodeNamed(b []byte) (r Record, rest []byte, err error) {
	if r, rest, err = decodeHead(b); err != nil {
		return Record{}, nil, err
	}
	c := cursor{b: rest}
	scopeLen, valueLen := int(c.u16()), int(c.u16())
	r.Key = Key{scope: string(c.take(scopeLen)), value: string(c.take(valueLen))}
	if c.failed {
		return Record{}, nil, fmt.Errorf("%w: its names are cut short", ErrCorrupt)
	}
	return r, c.b, nil
}

// DecodeResponse reads what AppendResponse wrote. The response shares b's bytes,
// which the caller hereby gives away.
func DecodeResponse(b []byte) (*Response, error) {
	c := cursor{b: b}
	r := &Response{Status: int(c.u16())}
	flags := c.u8()
	if flags&^(flagBodyOmitted|flagSealed|flagRedirect) != 0 {
		return nil, fmt.Errorf("%w: response flags %#x", ErrVersion, flags)
	}
	r.BodyOmitted, r.Sealed = flags&flagBodyOmitted != 0, flags&flagSealed != 0
	if n := int(c.u16()); n > 0 && n*6 <= len(c.b) {
		r.Header = make([]Field, n)
		for i := range r.Header {
			nameLen, valueLen := int(c.u16()), int(c.u32())
			r.Header[i] = Field{Name: c.take(nameLen), Value: c.take(valueLen)}
		}
	} else if n > 0 {
		c.failed = true
	}
	r.Body = c.take(int(c.u32()))
	if flags&flagRedirect != 0 {
		r.Redirect = &Redirect{From: c.take(int(c.u32())), To: c.take(int(c.u32()))}
	}
	if c.failed || len(c.b) != 0 {
		return nil, fmt.Errorf("%w: its response does not add up", ErrCorrupt)
	}
	return r, nil
}

// cursor reads from the front of b; past the end it returns zeros and
// remembers that it failed.
type cursor struct {
	b      []byte
	failed bool
}

func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.failed = true
		c.b = nil
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) u8() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}
