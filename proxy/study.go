package proxy

import (
	"bytes"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/operation"
)

// What is learnt of a route while its requests are only observed, so that settings can be
// proposed for it. Everything is in memory of fixed size for each route, and of each key
// the ledger has a few bytes more.

// Observations are what was seen of a route's requests that were only observed.
type Observations struct {
	Route string    `json:"route"` // empty for the rules at large
	Since time.Time `json:"since"`
	// Keyless could change something and had no key. Would counts the others by what would
	// have become of them.
	Keyless uint64            `json:"keyless"`
	Would   map[string]uint64 `json:"would"`
	// Differs counts mismatches by each part that is known to differ; see DiffersIn.
	Differs map[string]uint64 `json:"differs"`
	// Spared counts mismatches that another part in fingerprint would not have seen: json and
	// multipart instead of body, path instead of target, any-host besides it.
	Spared map[string]uint64 `json:"spared"`
	// Executed is how long executions took, Retried how long after the end of the first
	// request with their key others came.
	Executed Spread `json:"executed"`
	Retried  Spread `json:"retried"`
	// Callers says what may tell who asks: bind as it is now, client-address, and fields.
	Callers map[string]Telling `json:"callers"`
	// Forgotten are keys of all routes that had to make room, so that retries with them were
	// not recognised.
	Forgotten uint64 `json:"forgotten"`
}

// Spread is how times are distributed.
type Spread struct {
	Count     uint64  `json:"count"`
	LongestMS float64 `json:"longest_ms"`
}

func (s *Spread) add(d time.Duration) {
	s.Count++
	s.LongestMS = max(s.LongestMS, float64(d.Microseconds())/1000)
}

// Telling is how something would do that is to tell who asks.
type Telling struct {
	// Present is how many of the requests with a key had it.
	Present uint64 `json:"present"`
	// Same and Changed are requests that repeated an earlier one with the same key in method,
	// target and body, and had it as that one did or otherwise. Apart are those that used a key
	// of another request, and had it otherwise: two callers with one key, perhaps.
	Same    uint64 `json:"same"`
	Changed uint64 `json:"changed"`
	Apart   uint64 `json:"apart"`
}

// tells are the candidates, in the order of traits.callers; those after the first two are
// names of fields.
func tells() [numTells]string {
	return [...]string{"bind", "client-address", "Authorization", "X-Api-Key", "Cookie", "X-Tenant-Id", "X-Account-Id", "X-User-Id"}
}

const (
	numTells  = 8
	numSpares = 3 // body by its form, target without query, target without host
)

// traits are what the ledger keeps of a request for the study; 0 is nothing.
type traits struct {
	callers [numTells]uint32
	spares  [numSpares]uint32
	form    string // what spares[0] is of: json or multipart; a constant
}

// meeting is a request that met a record.
type meeting struct {
	first   traits
	same    bool          // in what the fingerprint has
	differs idem.Part     // of a mismatch
	after   time.Duration // since the record's execution ended; below 0: it has not
}

// studies are those of all routes. It is safe for concurrent use.
type studies struct {
	seed maphash.Seed

	mu      sync.Mutex
	byRoute map[string]*Observations // guarded by mu, and so is all of each
}

// mostStudied bounds the routes: names can come with each reload.
const mostStudied = 1024

func newStudies() *studies {
	return &studies{seed: maphash.MakeSeed(), byRoute: map[string]*Observations{}}
}

// of is a route's study, nil if there are too many. It is called with mu held.
func (s *studies) of(route string) *Observations {
	o := s.byRoute[route]
	if o == nil && len(s.byRoute) < mostStudied {
		route = strings.Clone(route) // it may be a part of the settings, which a reload replaces
		o = &Observations{
			Route: route, Since: time.Now(), Would: map[string]uint64{}, Differs: map[string]uint64{},
			Spared: map[string]uint64{}, Callers: map[string]Telling{},
		}
		s.byRoute[route] = o
	}
	return o
}

// note has f add to a route's study.
func (s *studies) note(route string, f func(*Observations)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.of(route); o != nil {
		f(o)
	}
}

// all are copies, by their routes' names.
func (s *studies) all(forgotten uint64) []Observations {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Observations
	for _, name := range slices.Sorted(maps.Keys(s.byRoute)) {
		o := *s.byRoute[name]
		o.Would, o.Differs, o.Spared = maps.Clone(o.Would), maps.Clone(o.Differs), maps.Clone(o.Spared)
		o.Callers, o.Forgotten = maps.Clone(o.Callers), forgotten
		all = append(all, o)
	}
	return all
}

// Observations are what was learnt of routes whose requests are, or were, only observed,
// since the process began.
func (s *Server) Observations() []Observations { return s.studies.all(s.ledger.forgot()) }

// traitsOf looks at a request whose body, if it is in memory, has not been replaced by its
// hash yet.
func (s *studies) traitsOf(q *request) (t traits) {
	digest := q.who.Digest()
	t.callers[0] = s.sum(digest[:], digest != [len(digest)]byte{})
	network := q.who.Network()
	address := network.As16()
	t.callers[1] = s.sum(address[:], network.IsValid())
	names := tells()
	for i := 2; i < len(names); i++ {
		for value := range q.head.Named(names[i]) {
			t.callers[i] = s.sum(value, len(value) > 0)
			break
		}
	}
	if q.ctx.RequestBodyStream() == nil {
		if name, form := operation.FormOf(string(q.head.ContentType()), q.asked.Body); form != nil {
			t.form, t.spares[0] = name, s.sum(form, true)
		}
	}
	path, _, _ := bytes.Cut(q.asked.Target, []byte{'?'})
	t.spares[1] = s.sum(slices.Concat(q.asked.Host, path), true)
	t.spares[2] = s.sum(q.asked.Target, true)
	return t
}

// sum is never 0 for what is there.
func (s *studies) sum(b []byte, there bool) uint32 {
	if !there {
		return 0
	}
	return uint32(maphash.Bytes(s.seed, b)) | 1 //nolint:gosec // half of it is enough
}

// asked notes a request with a key, which met a record if m is not nil.
func (s *studies) asked(route string, t *traits, would Would, m *meeting) {
	s.note(route, func(o *Observations) {
		o.Would[would.String()]++
		for i, name := range tells() {
			tell := o.Callers[name]
			tell.add(t.callers[i], i, m)
			o.Callers[name] = tell
		}
		if m == nil {
			return
		}
		if would == WouldMismatch {
			o.mismatch(t, m)
		}
		if m.same && m.after >= 0 {
			o.Retried.add(m.after)
		}
	})
}

func (t *Telling) add(now uint32, i int, m *meeting) {
	if now != 0 {
		t.Present++
	}
	if m == nil || now == 0 && m.first.callers[i] == 0 {
		return
	}
	switch alike := now == m.first.callers[i]; {
	case m.same && alike:
		t.Same++
	case m.same:
		t.Changed++
	case !alike:
		t.Apart++
	}
}

// mismatch notes what differs, and what would have kept it from differing.
func (o *Observations) mismatch(t *traits, m *meeting) {
	for _, word := range DiffersIn(m.differs) {
		o.Differs[word]++
	}
	alike := func(i int) bool { return t.spares[i] != 0 && t.spares[i] == m.first.spares[i] }
	missed := m.differs == idem.PartPayload // one difference in 256: see idem.Hints
	target := m.differs == idem.PartPayload|idem.PartTarget || missed && (!alike(1) || !alike(2))
	body := m.differs == idem.PartPayload|idem.PartBody || missed && !target
	switch {
	case body && t.form == m.first.form && alike(0):
		o.Spared[t.form]++
	case target && alike(1):
		o.Spared["path"]++
	case target && alike(2):
		o.Spared["any-host"]++
	}
}
