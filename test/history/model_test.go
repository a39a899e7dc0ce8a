package history

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/idemproxy/idemproxy/idem"
)

// kind is what was asked of the store.
type kind uint8

const (
	acquire kind = iota
	complete
	release
	hold
	purge
)

func (k kind) String() string {
	return [...]string{"acquire", "complete", "release", "hold", "purge"}[k]
}

// asked is a call.
type asked struct {
	kind    kind
	key     int
	process int
	owner   int
	payload byte
	holds   bool // a lapsed lease makes the key unknown
	serial  int  // of the response, for complete
	ttl     time.Duration
	// call and ret are when it was made and answered: leases are of real time.
	call, ret time.Duration
}

// told is the answer. failed says that there was none: it may have happened.
type told struct {
	verdict idem.Verdict
	serial  int
	failed  bool
	local   bool // from a process's memory
}

// state is a key in the model: design section 2, with the earliest time at
// which its lease lapses.
type state struct {
	phase    idem.State
	owner    int
	payload  byte
	holds    bool
	serial   int
	lapsesAt time.Duration
}

// rounding is what milliseconds and two clocks may differ by.
const rounding = 3 * time.Millisecond

// step is every state that the answer leaves possible; none if it is impossible.
func step(s state, in asked, out told) []state {
	switch in.kind {
	case acquire:
		return stepAcquire(s, in, out)
	case purge:
		if out.failed {
			return []state{s, {}}
		}
		return []state{{}}
	default:
		return stepEnd(s, in, out)
	}
}

// stands are the phases that s may be in while the call was under way, lapses
// included.
func stands(s state, in asked) (all []state) {
	if s.phase != idem.InProgress {
		return []state{s}
	}
	// A store may refuse for longer than it must, while the owner's late ending is
	// on its way to the disk: that a lease lapses is other tests' affair, that it
	// does not lapse too early is this one's.
	all = append(all, s)
	if in.ret+rounding >= s.lapsesAt {
		lapsed := s
		lapsed.phase = idem.Lapsed
		if s.holds {
			lapsed.phase = idem.Unknown
		}
		all = append(all, lapsed)
	}
	return all
}

func stepAcquire(s state, in asked, out told) (next []state) {
	mine := state{
		phase: idem.InProgress, owner: in.owner, payload: in.payload, holds: in.holds,
		lapsesAt: in.call + in.ttl,
	}
	before := s
	for _, s := range stands(s, in) {
		free := s.phase == idem.Absent || s.phase == idem.Lapsed
		same := s.payload == in.payload
		yours := s.owner == in.owner && same && (s.phase == idem.InProgress || s.phase == idem.Lapsed)
		if out.failed { // with several tries, anything between nothing and the lease
			next = append(next, s)
			if free || yours {
				next = append(next, mine)
			}
			continue
		}
		fits := false
		switch out.verdict {
		case idem.VerdictAcquired:
			fits = free
		case idem.VerdictYours:
			fits = yours
		case idem.VerdictInProgress:
			fits = s.phase == idem.InProgress && same && s.owner != in.owner
		case idem.VerdictCompleted:
			fits = s.phase == idem.Completed && same && s.serial == out.serial
		case idem.VerdictMismatch:
			fits = !free && !same
		case idem.VerdictUnknown:
			fits = s.phase == idem.Unknown && same
		default:
		}
		switch {
		case fits && (out.verdict == idem.VerdictAcquired || out.verdict == idem.VerdictYours):
			next = append(next, mine)
		case fits:
			// Not s: that somebody saw the lease lapsed does not end it. While the
			// owner's late ending is on its way to the disk, the embedded store says
			// in progress of what was unknown just before.
			next = append(next, before)
		}
	}
	return next
}

func stepEnd(s state, in asked, out told) (next []state) {
	to := map[kind]idem.State{complete: idem.Completed, release: idem.Absent, hold: idem.Unknown}[in.kind]
	for _, s := range stands(s, in) {
		mine := s.owner == in.owner && s.owner != 0
		may := mine && (s.phase == idem.InProgress || s.phase == idem.Lapsed || s.phase == idem.Unknown)
		done := mine && s.phase == to
		after := s
		after.phase = to
		if in.kind == complete {
			after.serial = in.serial
		}
		if out.failed {
			next = append(next, s)
			if may {
				next = append(next, after)
			}
			continue
		}
		switch {
		case out.verdict == idem.VerdictOK && (may || done):
			next = append(next, after)
		case out.verdict == idem.VerdictLost && !may && !done:
			next = append(next, s)
		}
	}
	return next
}

// model is the sequential specification, a key at a time.
func model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
			byKey := map[int][]porcupine.Operation{}
			for _, op := range all {
				key := op.Input.(asked).key //nolint:forcetypeassert // ours
				byKey[key] = append(byKey[key], op)
			}
			var parts [][]porcupine.Operation
			for _, part := range byKey {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() []any { return []any{state{}} },
		Step: func(s, in, out any) []any {
			var next []any
			for _, one := range step(s.(state), in.(asked), out.(told)) { //nolint:forcetypeassert // ours
				next = append(next, one)
			}
			return next
		},
		DescribeOperation: func(in, out any) string {
			i, o := in.(asked), out.(told) //nolint:forcetypeassert // ours
			if o.failed {
				return fmt.Sprintf("%v by %d of %c: failed", i.kind, i.owner, i.payload)
			}
			return fmt.Sprintf("%v by %d of %c: %v %d", i.kind, i.owner, i.payload, o.verdict, o.serial)
		},
	}
	return m.ToModel()
}
