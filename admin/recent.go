package admin

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// Request is what is kept of a request. Its byte slices, its key and its error are copied;
// its strings must be constants or of the settings.
type Request struct {
	At                               time.Time
	Outcome, Route                   string
	Settlement, Ending, Differs      string
	Would                            string // of one that was only observed
	Status                           int
	Method, Path, ID                 []byte
	Keyed                            bool
	Key                              idem.Key
	Attempt                          uint32
	Client                           netip.AddrPort // port 0: only the address is known
	Err                              error
	Duration, Backend, Waited, Store time.Duration
	// Notable requests are kept apart, so that those as usual do not push them out.
	Notable bool
}

// Bounds of what is kept. Longer texts are cut.
const (
	maxKept      = 4096 // requests of each kind
	maxMethod    = 16
	maxPath      = 256
	maxRequestID = 128
	maxErrorText = 256
)

// Recent keeps the last requests of the process in bounded memory. Once its rooms are
// full, keeping one allocates nothing, unless it has an error. Safe for concurrent use.
type Recent struct {
	seq            atomic.Uint64
	usual, notable ring
}

// NewRecent keeps as many requests of each kind; 0 and less: 4096.
func NewRecent(kept int) *Recent {
	if kept <= 0 {
		kept = maxKept
	}
	r := &Recent{}
	r.usual.slots, r.notable.slots = make([]slot, kept), make([]slot, kept)
	return r
}

// ring is the newest requests of one kind.
type ring struct {
	next  atomic.Uint64
	slots []slot
}

// slot has a lock of its own: two requests meet at one only if one laps the other.
type slot struct {
	mu   sync.Mutex
	seq  uint64 // 0: nothing is here
	made uint64 // its place in the ring's order
	kept Request
	text []byte // what the slices of kept, its key and its error were
	ends [6]int // of method, path, id, scope, key and error in text
}

// Keep takes a request in, and says which number it has in this process.
func (r *Recent) Keep(one *Request) uint64 {
	to := &r.usual
	if one.Notable {
		to = &r.notable
	}
	seq := r.seq.Add(1)
	made := to.next.Add(1)
	to.slots[(made-1)%uint64(len(to.slots))].write(one, seq, made)
	return seq
}

func (s *slot) write(one *Request, seq, made uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made > made {
		return // a newer one has lapped it
	}
	s.seq, s.made, s.kept = seq, made, *one
	s.kept.Method, s.kept.Path, s.kept.ID, s.kept.Key, s.kept.Err = nil, nil, nil, idem.Key{}, nil
	text := s.text[:0]
	for i, part := range [...][]byte{
		one.Method[:min(len(one.Method), maxMethod)], one.Path[:min(len(one.Path), maxPath)], one.ID[:min(len(one.ID), maxRequestID)],
	} {
		text = append(text, part...)
		s.ends[i] = len(text)
	}
	if one.Keyed {
		text = append(text, one.Key.Scope()...)
	}
	s.ends[3] = len(text)
	if one.Keyed {
		text = append(text, one.Key.Value()...)
	}
	s.ends[4] = len(text)
	if one.Err != nil {
		why := one.Err.Error()
		text = append(text, why[:min(len(why), maxErrorText)]...)
	}
	s.ends[5] = len(text)
	s.text = text
}

// read gives the request as it is shown, or false if there is none.
func (s *slot) read() (e Event, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seq == 0 {
		return e, false
	}
	k := &s.kept
	e = Event{
		Seq: s.seq, At: k.At, Outcome: k.Outcome, Status: k.Status, Method: s.part(0), Path: s.part(1),
		Request: s.part(2), Route: k.Route,
		Attempt: k.Attempt, Settled: k.Settlement, Ending: k.Ending, Differs: k.Differs, Would: k.Would, Error: s.part(5),
		Millis: millis(k.Duration), Backend: millis(k.Backend), WaitedMS: millis(k.Waited), Store: millis(k.Store),
	}
	if k.Keyed {
		if key, err := idem.ParseKey(s.part(4)); err == nil {
			e.Key = key.InScope(s.part(3)).String()
		}
	}
	switch {
	case k.Client.Port() != 0:
		e.Client = k.Client.String()
	case k.Client.IsValid():
		e.Client = k.Client.Addr().String()
	}
	return e, true
}

// part is one of the texts.
func (s *slot) part(i int) string {
	from := 0
	if i > 0 {
		from = s.ends[i-1]
	}
	return string(s.text[from:s.ends[i]])
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// each calls f with every request that is there, in no order.
func (r *ring) each(f func(Event)) {
	for i := range r.slots {
		if e, ok := r.slots[i].read(); ok {
			f(e)
		}
	}
}
