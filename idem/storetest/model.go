package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// op is one step of a random history. Who and what are indexes, so that a step
// means the same when the steps before it are cut away.
type op struct {
	event idem.Event
	key   int
	owner int
	other bool // another payload
	made  bool // by another recipe
	hold  bool // hold on lapse
	lapse bool // an acquire whose lease is let lapse at once
	any   bool // a resolve of whichever attempt is unknown
}

func (o op) String() string {
	return fmt.Sprintf("%v key=%d owner=%d other=%v made=%v hold=%v lapse=%v any=%v",
		o.event, o.key, o.owner, o.other, o.made, o.hold, o.lapse, o.any)
}

const (
	modelKeys   = 3
	modelOwners = 3
)

func randomOps(r *rand.Rand, n int) []op {
	ops := make([]op, n)
	for i := range ops {
		ops[i] = op{
			event: idem.Event(r.IntN(int(idem.EventTake) + 1)),
			key:   r.IntN(modelKeys), owner: r.IntN(modelOwners),
			other: r.IntN(8) == 0, made: r.IntN(8) == 0, hold: r.IntN(3) == 0, lapse: r.IntN(30) == 0, any: r.IntN(2) == 0,
		}
		if r.IntN(3) == 0 {
			ops[i].event = idem.EventAcquire
		}
	}
	return ops
}

// histories runs random histories against the store and against the reference
// and shrinks the first that disagrees.
func histories(e *env) error {
	n := e.h.Histories
	if n == 0 {
		n = 50
	}
	seed := uint64(time.Now().UnixNano())
	for i := range n {
		ops := randomOps(rand.New(rand.NewPCG(seed, uint64(i))), 40)
		if err := e.compare(ops, fmt.Sprintf("h%d", i)); err != nil {
			short := e.shrink(ops, i)
			return fmt.Errorf("seed %d, history %d: %w; shrunk to %v", seed, i, err, short)
		}
	}
	return nil
}

func (e *env) shrink(ops []op, history int) []op {
	for i, try := 0, 0; i < len(ops); try++ {
		fewer := slices.Delete(slices.Clone(ops), i, i+1)
		if e.compare(fewer, fmt.Sprintf("h%d-shrink%d", history, try)) != nil {
			ops = fewer
		} else {
			i++
		}
	}
	return ops
}

// compare runs ops on keys of their own, against the store and a new reference.
func (e *env) compare(ops []op, name string) error {
	ref := &env{tb: e.tb, h: e.h, ctx: e.ctx, s: NewMemory()}
	owners := make([]idem.Owner, modelOwners)
	for i := range owners {
		owners[i] = idem.NewOwner()
	}
	for i, o := range ops {
		c := claim(fmt.Sprintf("%s/%d", name, o.key))
		c.Owner, c.HoldOnLapse = owners[o.owner], o.hold
		if o.other {
			c.Fingerprint = idem.Fingerprint{77}
		}
		if o.made {
			c.Recipe = 77
		}
		got, want := e.step(o, c), ref.step(o, c)
		if got != want {
			return fmt.Errorf("step %d (%v): %s, the reference says %s", i, o, got, want)
		}
		if o.lapse && o.event == idem.EventAcquire {
			e.h.Pass(2 * e.h.Tick)
		}
	}
	return nil
}

// step applies one op and tells in words what is now to be seen.
func (e *env) step(o op, c idem.Claim) string {
	var err error
	var out idem.Outcome
	if o.any && o.event.Resolves() {
		c.Owner = idem.Owner{}
	}
	switch o.event {
	case idem.EventAcquire:
		if o.lapse {
			c.TTL = e.h.Tick
		}
		out, err = e.s.Acquire(e.ctx, c)
	case idem.EventRenew:
		err = e.renews(c)()
	case idem.EventComplete:
		err = e.completes(c, response(fmt.Sprint(o.owner)))()
	case idem.EventRelease:
		err = e.releases(c)()
	case idem.EventHold:
		err = e.holds(c)()
	case idem.EventResolveComplete:
		err = e.s.Resolve(e.ctx, c.Key, c.Owner, response("resolved"))
	case idem.EventResolveRetry:
		err = e.s.Resolve(e.ctx, c.Key, c.Owner, nil)
	case idem.EventTake:
		err = e.s.Take(e.ctx, c.Key, c.Owner)
	}
	body := "-"
	if out.Response != nil {
		body = string(out.Response.Body)
	}
	r, getErr := e.s.Get(e.ctx, c.Key)
	return fmt.Sprintf("%v attempt=%d part=%v recipe=%d body=%s err=%v; then %v attempt=%d recipe=%d ends=%v err=%v",
		out.Kind, out.Attempt, out.Part, out.Recipe, body, kind(err), r.State, r.Attempt, r.Recipe, r.Expires != 0, kind(getErr))
}

// kind is the sentinel behind an error: stores word theirs as they like.
func kind(err error) error {
	for _, sentinel := range []error{
		idem.ErrLeaseLost, idem.ErrUnavailable, idem.ErrClosed,
		idem.ErrVersion, idem.ErrNotFound, idem.ErrNotUnknown,
	} {
		if errors.Is(err, sentinel) {
			return sentinel
		}
	}
	return err
}

// Missing lists what h does not offer, for a store's own test to assert on.
func (h Harness) Missing(tb testing.TB) []string {
	tb.Helper()
	var missing []string
	for _, n := range []need{needSecond, needReopen, needSever} {
		if m := h.missing(n); m != "" {
			missing = append(missing, m)
		}
	}
	return missing
}
