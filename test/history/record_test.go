package history

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/idemproxy/idemproxy/idem"
)

// store is what the histories use.
type store interface {
	idem.Store
	idem.Inspector
}

// world is one history's surroundings.
type world struct {
	processes []store // that share their records
	// lag is how long a process may go on replaying from its memory what another
	// one purged: a push is on its way to it.
	lag time.Duration
	// lies: what is said to have certainly not been done may have been.
	lies bool
	// patient has clients rest, so that a history is longer than the lag, keep most of what
	// they complete for an hour, and be operators more often.
	patient bool
	wipes   *spans // at which all keys are forgotten, of which a process hears by wipeLag later than of a purge
	wipeLag time.Duration
	// failovers are when a server may show what no other one has. What was only seen then, and
	// changed nothing, says nothing.
	failovers *spans
	// lasting has all records stay for an hour, and leases for long enough to outlive a
	// failover; replicated has clients do only what is not acknowledged before replicas have it.
	lasting, replicated bool
	watches             []*watch // of each process; nil: nobody renews
	sound               bool     // nothing is broken: few calls may fail
	crowded             bool     // processes hold many other leases, of which some end all the time
	// onHistory looks at each history as well, if it is not nil.
	onHistory func(t *testing.T, begun time.Time, history []porcupine.Operation)
}

// endings are how many kinds of endings clients use.
func (w *world) endings() int {
	if w.replicated {
		return 2 // a release is not waited for
	}
	return 3
}

// patience is for how long a history may be searched. Of a patient one, few calls fail; of one
// with lies, many do on a busy machine, and an undecided one must be no error there.
func (w *world) patience() time.Duration {
	if w.patient || w.lies {
		return patience / 4
	}
	return patience
}

// lease is for how long a claim holds its key.
func (w *world) lease() time.Duration {
	if w.lasting {
		return 400 * time.Millisecond
	}
	return ttl
}

// sizes of a history.
const (
	clients = 4
	steps   = 90 // a client's; each is one to three operations
	keys    = 2
	ttl     = 8 * time.Millisecond
)

// within is how long after its call an acquire with a deadline may be granted.
const within = 300 * time.Millisecond

// recorder collects operations.
type recorder struct {
	begun   time.Time
	prefix  string
	owners  atomic.Int64
	serials atomic.Int64

	mu  sync.Mutex
	ops []porcupine.Operation // guarded by mu
}

func (r *recorder) add(client int, in asked, out told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, porcupine.Operation{
		ClientId: client, Input: in, Output: out, Call: int64(in.call), Return: int64(in.ret),
	})
}

// history is what was recorded, but for what came out of a process's memory
// while a purge was under way, or just after another process's: that is allowed
// to be stale, and says nothing. Nor does what was seen of a server during a failover.
func (r *recorder) history(w world) (kept []porcupine.Operation) {
	r.mu.Lock()
	ops := slices.Clone(r.ops) // renewals go on
	r.mu.Unlock()
	doubtful := w.failovers.since(r.begun)
	fleeting := func(in asked, out told) bool {
		return !changes(in, out) && slices.ContainsFunc(doubtful, func(at [2]time.Duration) bool { return in.call <= at[1] && at[0] <= in.ret })
	}
	stale := func(in asked) bool {
		for _, op := range ops {
			p := op.Input.(asked) //nolint:forcetypeassert // ours
			until := p.ret
			if op.Output.(told).failed { //nolint:forcetypeassert // ours
				until += inTransit
			}
			if p.process != in.process {
				until += w.lag
			}
			if p.kind == wipe {
				until += w.wipeLag
			}
			if (p.kind == purge || p.kind == wipe) && p.key == in.key && p.call <= in.ret && in.call <= until {
				return true
			}
		}
		return false
	}
	for _, op := range ops {
		in, out := op.Input.(asked), op.Output.(told) //nolint:forcetypeassert // ours
		if (!out.local || !stale(in)) && !fleeting(in, out) {
			kept = append(kept, op)
		}
	}
	return kept
}

// changes says whether a key may be another one after the call.
func changes(in asked, out told) bool {
	switch in.kind {
	case look, list:
		return false
	case acquire:
		return out.failed || out.verdict == idem.VerdictAcquired || out.verdict == idem.VerdictYours
	case purge:
		return !out.absent
	default:
		return out.failed || out.verdict == idem.VerdictOK
	}
}

func (r *recorder) since() time.Duration { return time.Since(r.begun) }

func (r *recorder) key(n int) idem.Key {
	k, err := idem.ParseKey(fmt.Sprintf("%s-%d", r.prefix, n))
	if err != nil {
		panic(err)
	}
	return k
}
