package message

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"

	"github.com/valyala/fasthttp"
)

// Heads are the headers of stored responses as they were parsed. A header whose text
// comes again is copied instead of parsed: what fasthttp makes of a text depends on
// the text, and on settings that are the same for all responses of one server. So one
// Heads is for the responses of one server. It keeps a bounded number of them, whatever
// is replayed. The zero value is ready; it is safe for concurrent use.
type Heads struct {
	slots [headSlots]headSlot
}

const (
	// headSlots is how many headers are kept at most.
	headSlots = 64
	// longestHead is up to which length a header is kept, so that all of them take no
	// more than some hundred KiB.
	longestHead = 2 << 10
)

// headSlot has the header that lately came twice.
type headSlot struct {
	// last is the hash of the text that was parsed last: what comes once only is not
	// worth a copy.
	last atomic.Uint64
	head atomic.Pointer[parsedHead]
}

// parsedHead does not change once it is in a slot.
type parsedHead struct {
	text   []byte
	header fasthttp.ResponseHeader
}

//nolint:gochecknoglobals // a constant, of a kind that Go has no word for
var headSeed = maphash.MakeSeed()

// read parses what p was given into h, or copies what came of the same text before.
// Without Heads (nil) it parses.
func (s *Heads) read(p *headerParser, h *fasthttp.ResponseHeader) error {
	if s == nil || len(p.text) > longestHead {
		return p.read(h)
	}
	sum := maphash.Bytes(headSeed, p.text)
	slot := &s.slots[sum%headSlots]
	if known := slot.head.Load(); known != nil && bytes.Equal(known.text, p.text) {
		known.header.CopyTo(h)
		return nil
	}
	again := slot.last.Swap(sum) == sum
	text := p.text // read appends to it
	if err := p.read(h); err != nil {
		return err
	}
	if again {
		known := &parsedHead{text: bytes.Clone(text)}
		h.CopyTo(&known.header)
		slot.head.Store(known)
	}
	return nil
}
