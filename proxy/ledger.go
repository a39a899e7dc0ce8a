package proxy

import (
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// mostObserved is how many keys a ledger has, about 300 bytes each.
const mostObserved = 1 << 18

// ledger has the records that requests would have had which are only observed. It is
// in this process's memory and nowhere else, for three reasons: a request that is let
// pass must not depend on the store, not even on how quickly it takes something in the
// background; what was only observed must never be met by a request that is enforced;
// and observing should be possible before there is a store that one relies on. The
// price is that a retry is not seen which another process gets, or this one after it
// was started anew: counts are lower bounds.
//
// When it is full, the oldest record is forgotten. It is safe for concurrent use.
type ledger struct {
	most int

	mu             sync.Mutex
	entries        map[[16]byte]*entry // guarded by mu
	oldest, newest *entry              // guarded by mu, and so is all of each entry
	forgotten      uint64              // guarded by mu: records that had to make room
}

// entry is one key's record.
type entry struct {
	id           [16]byte
	state        idem.State // Absent: it is in no ledger
	fingerprint  idem.Fingerprint
	binding      idem.Binding
	recipe       idem.Recipe
	hints        idem.Hints
	bodyOmitted  bool
	traits       traits
	ended        time.Time // when its execution did; zero: it has not
	until, known time.Time // of Completed: how long the response is kept, and the key known
	prev, next   *entry
}

func newLedger(most int) *ledger { return &ledger{most: most, entries: map[[16]byte]*entry{}} }

// at is where the key stands at that time.
func (e *entry) at(now time.Time) idem.State {
	switch {
	case e == nil:
		return idem.Absent
	case e.state != idem.Completed || now.Before(e.until):
		return e.state
	case now.Before(e.known):
		return idem.Expired
	}
	return idem.Absent
}

// begin is what acquiring the key would have been answered; mine is the record, if it
// would have been acquired, and is due to end; and otherwise what was met.
func (l *ledger) begin(r *idem.Request, t *traits, now time.Time) (would Would, met *meeting, mine *entry) {
	id := r.Key.ID()
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.entries[id]
	from := was.at(now)
	same := idem.SamePayload
	if from != idem.Absent {
		met = &meeting{first: was.traits, after: -1}
		if same, met.differs, met.same = was.compare(r); !was.ended.IsZero() {
			met.after = max(0, now.Sub(was.ended))
		}
	}
	_, verdict := idem.Next(from, idem.EventAcquire, idem.Stranger, same)
	if verdict != idem.VerdictAcquired {
		return was.would(verdict), met, nil
	}
	l.drop(was)
	mine = &entry{
		id: id, state: idem.InProgress, fingerprint: r.Fingerprint, binding: r.Binding, recipe: r.Recipe,
		hints: r.Hints, traits: *t,
	}
	l.add(mine, now)
	return WouldExecute, nil, mine
}

// compare is by the record's own recipe. repeats says that the payload is the same, whoever
// asks.
func (e *entry) compare(r *idem.Request) (same idem.Same, differs idem.Part, repeats bool) {
	by := idem.Hashes{Fingerprint: r.Fingerprint, Binding: r.Binding, Hints: r.Hints}
	if e.recipe != r.Recipe {
		var known bool
		if by, known = r.Under(e.recipe); !known {
			return idem.OtherRecipe, idem.PartNone, false
		}
	}
	repeats = by.Fingerprint == e.fingerprint
	switch {
	case by.Binding != e.binding:
		return idem.OtherPayload, idem.PartIdentity, repeats
	case !repeats:
		return idem.OtherPayload, e.hints.Differ(by.Hints), false
	}
	return idem.SamePayload, idem.PartNone, true
}

func (e *entry) would(v idem.Verdict) Would {
	switch v {
	case idem.VerdictInProgress:
		return WouldConflict
	case idem.VerdictCompleted:
		if e.bodyOmitted {
			return WouldNotReplay
		}
		return WouldReplay
	case idem.VerdictMismatch:
		return WouldMismatch
	case idem.VerdictUnknown:
		return WouldBeUnknown
	case idem.VerdictExpired:
		return WouldExpire
	default:
		return WouldNotBeCompared
	}
}

// end is due once for each record that begin made. retention and remember are from now.
func (l *ledger) end(e *entry, ending idem.Ending, bodyOmitted bool, now time.Time, retention, remember time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.ended = now
	switch {
	case e.state != idem.InProgress: // it was forgotten meanwhile
	case ending == idem.Stored:
		e.state, e.bodyOmitted = idem.Completed, bodyOmitted
		e.until = now.Add(retention)
		e.known = e.until.Add(remember)
	case ending == idem.Held:
		e.state = idem.Unknown
	default:
		l.drop(e)
	}
}

// add is called with mu held. It makes room, and clears up what nobody would know any more.
func (l *ledger) add(e *entry, now time.Time) {
	for n := 0; l.oldest != nil && (len(l.entries) >= l.most || n < 2 && l.oldest.at(now) == idem.Absent); n++ {
		if l.oldest.at(now) != idem.Absent {
			l.forgotten++
		}
		l.drop(l.oldest)
	}
	l.entries[e.id] = e
	if e.prev = l.newest; e.prev != nil {
		e.prev.next = e
	} else {
		l.oldest = e
	}
	l.newest = e
}

func (l *ledger) forgot() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forgotten
}

// drop is called with mu held, and forgets e, if there is one.
func (l *ledger) drop(e *entry) {
	if e == nil || e.state == idem.Absent {
		return
	}
	delete(l.entries, e.id)
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.oldest = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.newest = e.prev
	}
	e.state, e.prev, e.next = idem.Absent, nil, nil
}
