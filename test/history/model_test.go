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
	look
	purge
	resolveComplete
	resolveRetry
	take // by an operator who looked at it
	list // which shows the key
	wipe // of all keys at once, by who has the server
	renew
)

func (k kind) String() string {
	return [...]string{"acquire", "complete", "release", "hold", "look", "purge", "resolve-complete", "resolve-retry", "take", "list", "wipe", "renew"}[k]
}

// request is what makes two requests under a key the same.
type request struct {
	host, payload byte
}

// asked is a call.
type asked struct {
	kind    kind
	key     int
	process int
	owner   int
	request request
	recipe  idem.Recipe // by which the request's hashes are made
	holds   bool        // a lapsed lease makes the key unknown
	serial  int         // of the response, for complete and resolve-complete
	ttl     time.Duration
	// retention and remember are the two horizons. inherit: an ending does not name
	// them.
	retention, remember time.Duration
	inherit             bool
	within              time.Duration // see idem.Claim
	// call and ret are when it was made and answered: leases are of real time.
	call, ret time.Duration
}

// told is the answer. failed says that there was none: it may have happened.
type told struct {
	verdict idem.Verdict
	phase   idem.State // of look
	owner   int        // of look
	recipe  idem.Recipe
	attempt uint32
	serial  int
	absent  bool // of purge: there was nothing
	twice   bool // of list: it has shown the key before
	failed  bool
	local   bool // from a process's memory
}

// state is a key in the model: design section 2. Times are the earliest at which
// something may end, but for replaysBy. The zero value is a key of which nothing
// is known.
type state struct {
	phase               idem.State
	owner               int
	request             request
	recipe              idem.Recipe
	attempt             uint32
	holds               bool
	serial              int
	retention, remember time.Duration
	lapsesAt            time.Duration // in progress
	replaysTo           time.Duration // completed
	replaysBy           time.Duration // completed: the latest end of retention
	endsAt              time.Duration // when nothing is known any more; 0 for never
}

// rounding is what milliseconds and two clocks may differ by.
const rounding = 3 * time.Millisecond

// step is every state that the answer leaves possible; none if it is impossible.
func step(s state, in asked, out told) []state {
	switch in.kind {
	case acquire:
		return stepAcquire(s, in, out)
	case look, list:
		return stepLook(s, in, out)
	case renew:
		return stepRenew(s, in, out)
	case wipe:
		return []state{{}}
	case purge:
		return stepPurge(s, in, out)
	case resolveComplete, resolveRetry:
		return stepResolve(s, in, out)
	default:
		return stepEnd(s, in, out)
	}
}

// stands are the phases that s may be in while the call was under way, what time
// does included.
func stands(s state, in asked) (all []state) {
	latest := in.ret + rounding
	// A store may refuse for longer than it must, while the owner's late ending is
	// on its way to the disk: that a lease lapses is other tests' affair, that it
	// does not lapse too early is this one's. A response is different: after its
	// retention nobody gets it.
	if s.phase != idem.Completed || in.call <= s.replaysBy+rounding {
		all = append(all, s)
	}
	switch {
	case s.phase == idem.InProgress && latest >= s.lapsesAt:
		lapsed := s
		lapsed.phase = idem.Lapsed
		if s.holds {
			lapsed.phase = idem.Unknown
		}
		all = append(all, lapsed)
	case s.phase == idem.Completed && latest >= s.replaysTo:
		expired := s
		expired.phase = idem.Expired
		all = append(all, expired)
	}
	if s.endsAt != 0 && latest >= s.endsAt {
		all = append(all, state{})
	}
	return all
}

// seen is what s has become for good when somebody was told that it is now. Not
// so a lease that was seen lapsed: while the owner's late ending is on its way to
// the disk, the embedded store says in progress of what was unknown just before.
func seen(s, now state) state {
	if now.phase == idem.Expired || now == (state{}) {
		return now
	}
	return s
}

// taken is a key with the lease that in asks for.
func taken(in asked, attempt uint32) state {
	mine := state{
		phase: idem.InProgress, owner: in.owner, request: in.request, recipe: in.recipe, attempt: attempt,
		holds: in.holds, retention: in.retention, remember: in.remember, lapsesAt: in.call + in.ttl,
	}
	if !in.holds {
		mine.endsAt = mine.lapsesAt + in.retention
	}
	return mine
}

func stepAcquire(before state, in asked, out told) (next []state) {
	if out.failed {
		next = append(next, before)
	}
	for _, s := range stands(before, in) {
		free := s.phase == idem.Absent || s.phase == idem.Lapsed
		same := s.recipe == in.recipe && s.request == in.request
		yours := s.owner == in.owner && same && (s.phase == idem.InProgress || s.phase == idem.Lapsed)
		attempt := s.attempt
		if !yours {
			attempt++
		}
		switch {
		case out.failed: // with several tries, anything between nothing and the lease
			if free || yours {
				next = append(next, taken(in, attempt))
			}
		case out.verdict == idem.VerdictAcquired && free || out.verdict == idem.VerdictYours && yours:
			if out.attempt == attempt {
				next = append(next, taken(in, attempt))
			}
		case refused(s, in, out, same):
			next = append(next, seen(before, s))
		}
	}
	return next
}

// refused says whether out is the answer to a claim that s does not grant.
func refused(s state, in asked, out told, same bool) bool {
	stands := s.phase != idem.Absent && s.phase != idem.Lapsed
	switch out.verdict {
	case idem.VerdictInProgress:
		return s.phase == idem.InProgress && same && s.owner != in.owner
	case idem.VerdictCompleted:
		return s.phase == idem.Completed && same && s.serial == out.serial
	case idem.VerdictExpired:
		return s.phase == idem.Expired && same
	case idem.VerdictUnknown:
		return s.phase == idem.Unknown && same
	case idem.VerdictMismatch:
		return stands && s.recipe == in.recipe && !same
	case idem.VerdictOtherRecipe:
		return stands && s.recipe != in.recipe && s.recipe == out.recipe
	default:
		return false
	}
}

// ended is s after an ending.
func ended(s state, to idem.State, in asked) state {
	s.phase, s.lapsesAt, s.endsAt = to, 0, 0
	switch to {
	case idem.Completed:
		s.serial = in.serial
		s.replaysTo, s.replaysBy = in.call+s.retention, in.ret+s.retention
		s.endsAt = s.replaysTo + s.remember
	case idem.Absent:
		s.endsAt = in.call + s.retention
	default:
	}
	return s
}

func stepEnd(before state, in asked, out told) (next []state) {
	to := map[kind]idem.State{complete: idem.Completed, release: idem.Absent, take: idem.Absent, hold: idem.Unknown}[in.kind]
	if out.failed {
		next = append(next, before)
	}
	for _, s := range stands(before, in) {
		mine := s.owner == in.owner && s.owner != 0
		done := mine && (s.phase == to || s.phase == idem.Expired && to == idem.Completed)
		may := mine && !done && (s.phase == idem.InProgress || s.phase == idem.Lapsed || s.phase == idem.Unknown && in.kind != take)
		switch {
		case may && (out.failed || out.verdict == idem.VerdictOK):
			next = append(next, ended(s, to, in))
		case out.failed:
		case done && out.verdict == idem.VerdictOK, !may && !done && out.verdict == idem.VerdictLost:
			next = append(next, seen(before, s))
		}
	}
	return next
}

func stepLook(before state, in asked, out told) (next []state) {
	if out.failed {
		return []state{before}
	}
	if out.twice {
		return nil
	}
	for _, s := range stands(before, in) {
		free := s.phase == idem.Absent || s.phase == idem.Lapsed
		alike := s.phase == out.phase && s.owner == out.owner && s.recipe == out.recipe && s.attempt == out.attempt &&
			(s.phase != idem.Completed || s.serial == out.serial || in.kind == list)
		if free && out.phase == idem.Absent || !free && alike {
			next = append(next, seen(before, s))
		}
	}
	return next
}

func stepPurge(before state, in asked, out told) []state {
	if out.failed {
		return []state{before, {}}
	}
	for _, s := range stands(before, in) {
		// Of a key that is free a store may know how often it was tried, and say
		// either.
		free := s.phase == idem.Absent || s.phase == idem.Lapsed
		if out.absent && free || !out.absent && s != (state{}) {
			return []state{{}}
		}
	}
	return nil
}

func stepResolve(before state, in asked, out told) (next []state) {
	to := idem.Absent
	if in.kind == resolveComplete {
		to = idem.Completed
	}
	if out.failed {
		next = append(next, before)
	}
	for _, s := range stands(before, in) {
		meant := in.owner == 0 || in.owner == s.owner
		switch {
		case s.phase == idem.Unknown && meant && (out.failed || out.verdict == idem.VerdictOK):
			resolved := ended(s, to, in)
			resolved.owner = 0 // the operator's: no attempt's late ending is what was done
			next = append(next, resolved)
		case s.phase != idem.Unknown && !out.failed && out.verdict == idem.VerdictNotUnknown,
			s.phase == idem.Unknown && !meant && !out.failed && out.verdict == idem.VerdictLost:
			next = append(next, seen(before, s))
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
			return describe(in.(asked), out.(told)) //nolint:forcetypeassert // ours
		},
	}
	return m.ToModel()
}

func describe(in asked, out told) string {
	text := fmt.Sprintf("%v by %d", in.kind, in.owner)
	if in.kind == acquire {
		if out.local {
			text += " (from memory)"
		}
		text += fmt.Sprintf(" of %c at host %c by recipe %d for %v and %v", in.request.payload, in.request.host, in.recipe,
			in.retention, in.remember)
	}
	switch {
	case out.failed:
		return text + ": failed"
	case in.kind == list && out.twice:
		return text + ": once more"
	case in.kind == look, in.kind == list:
		return fmt.Sprintf("%s: %v of %d, attempt %d, recipe %d, response %d", text, out.phase, out.owner, out.attempt,
			out.recipe, out.serial)
	case in.kind == purge:
		return fmt.Sprintf("%s: found %v", text, !out.absent)
	}
	return fmt.Sprintf("%s: %v, attempt %d, recipe %d, response %d", text, out.verdict, out.attempt, out.recipe, out.serial)
}
