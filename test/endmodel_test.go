package test_test

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
)

// endAct is what a history of TestClientHistories consists of. A request that reached
// the backend is two operations: it begins between its client's call and its arrival
// at the backend, and ends between that arrival and its answer.
type endAct uint8

const (
	endBegin    endAct = iota // the backend got the request
	endFinish                 // and its key has an outcome
	endReplayed               // the response of another request was given
	endProgress               // 409, in progress
	endUnknown                // 409, outcome unknown
	endReused                 // 422
	endExecuted               // a question: it was executed
	endNone                   // a question: there is no such operation
	endFailed                 // nobody knows what the request did, but that the backend did not get it
	endPurge
	endPurgeNone // 404
	endLook      // an operator saw which attempt is held
	endTake      // an operator took the lease
	endComplete  // an operator resolved the key with a response
	endRetry     // an operator resolved the key as not executed
)

var endActs = [...]string{
	"begins", "finishes", "is told a response", "is told: in progress", "is told: unknown", "is told: another request", "is told: executed", "is told: no such operation", "fails",
	"is purged", "is not there", "is looked at", "is taken from its owner", "is resolved with a response", "is resolved: retry",
}

// endFate is what may become of a key when the request that has it finishes.
type endFate uint8

const (
	fateDone  endFate = 1 << iota // its response is kept
	fateFree                      // a retry executes
	fateHeld                      // unknown
	fateStays                     // what was asked did not happen
)

// endInput is an operation on one key.
type endInput struct {
	act     endAct
	key     string
	request int // which one, from 1; of a resolve, a number of its own
	payload int
	told    int     // endReplayed: whose response
	owner   string  // endLook: which attempt is held; endRetry: which one is resolved, if not empty
	lagged  bool    // endReplayed, endReused: so soon after a purge that another proxy may not have heard of that
	moved   bool    // endFinish: the response redirects
	joined  bool    // endReplayed: its proxy executed it, and may have given it while it came
	early   bool    // endReplayed: it may have been given although the store does not have it yet
	settles bool    // a key whose outcome is unknown gets one by itself
	lapses  bool    // endBegin: the lease may lapse, and the key be unknown until the request finishes after all
	astray  bool    // endFailed: it may never give back what it has
	fates   endFate // endFinish: what can be; the acts of operators: fateStays if nobody knows whether they happened
}

// endState is a key. The zero value is a free one.
type endState struct {
	phase   endPhase
	request int
	payload int
	taken   string // the requests whose lease an operator took or purged, and which finish later
	loose   bool   // a request that failed may have a lease on the free key
	astray  bool   // and may never have given it back, so that the key is held
	lapses  bool   // running, and the lease may have lapsed
	counted bool   // free, and the count of its attempts is still there
	purged  int    // whose response was purged last
	owner   string // of what is held, once somebody has looked
	owners  string // of what was held before
}

type endPhase uint8

const (
	endFree endPhase = iota
	endRunning
	endDone
	endHeld
)

func (s endState) String() string {
	text := [...]string{"free", "running", "done", "held"}[s.phase]
	if s.phase != endFree {
		text += fmt.Sprint(" ", s.request)
	}
	if s.loose {
		text += ", or a failed request has it"
	}
	return text
}

// anyPayload is the payload of a key that a failed request has: nobody knows which one
// it was.
const anyPayload = -1

// may says that a request with this payload may be the same as the key's. A question has
// none.
func (s endState) may(payload int) bool {
	return s.payload == payload || s.payload == anyPayload || payload == anyPayload
}

func mark(request int) string { return fmt.Sprintf("/%d/", request) }

// gone is the state of a key whose record is taken away.
func (s endState) gone() endState {
	switch s.phase {
	case endRunning:
		s.taken += mark(s.request)
	case endDone:
		s.purged = s.request
	case endFree, endHeld:
	}
	return s.freed(false)
}

// is says that an attempt which an operator saw can be the one that is held.
func (s endState) is(owner string) bool {
	return owner == "" || s.owner == owner || s.owner == "" && !strings.Contains(s.owners, owner)
}

// unheld is the state of a key that is not held any more.
func (s endState) unheld() endState {
	s.owners, s.owner = s.owners+s.owner, ""
	return s
}

// freed is the state of a key that is free again.
func (s endState) freed(counted bool) endState {
	s = s.unheld()
	s.phase, s.request, s.payload, s.counted, s.lapses = endFree, 0, 0, counted, false
	return s
}

// next are the states that the key may be in after the operation; none, if it cannot
// have happened.
func (s endState) next(in endInput) []endState {
	free := s.phase == endFree
	stays := func(ok bool) []endState {
		if ok {
			return []endState{s}
		}
		return nil
	}
	switch in.act {
	case endBegin:
		if !free {
			return nil
		}
		s.phase, s.request, s.payload, s.counted, s.lapses = endRunning, in.request, in.payload, false, in.lapses
		return []endState{s}
	case endFinish:
		return s.finish(in)
	case endReplayed:
		there := s.phase == endDone || in.early && s.phase == endRunning
		return stays(there && s.request == in.told && s.may(in.payload) ||
			in.joined && strings.Contains(s.taken, mark(in.told)) || in.lagged && s.purged == in.told)
	case endProgress:
		return stays(s.phase == endRunning || free && s.loose)
	case endUnknown:
		return stays(s.held(in))
	case endReused:
		return stays(!free && (s.payload != in.payload || s.payload == anyPayload) || free && s.loose || in.lagged && s.purged != 0)
	case endExecuted:
		return stays(s.phase == endDone || in.lagged && s.purged != 0)
	case endNone:
		return stays(free)
	case endFailed:
		s.loose, s.astray = true, s.astray || in.astray
		return []endState{s}
	default:
		return s.operated(in)
	}
}

// finish is what becomes of the key when the request that has it ends. One whose lease
// was taken ends without effect.
func (s endState) finish(in endInput) (all []endState) {
	if strings.Contains(s.taken, mark(in.request)) {
		s.taken = strings.Replace(s.taken, mark(in.request), "", 1)
		return []endState{s}
	}
	if s.phase != endRunning || s.request != in.request {
		return nil
	}
	if in.fates&fateFree != 0 {
		all = append(all, s.freed(true))
	}
	if in.fates&fateDone != 0 {
		next := s
		next.phase, next.lapses = endDone, false
		all = append(all, next)
	}
	if in.fates&fateHeld != 0 {
		next := s
		next.phase, next.lapses = endHeld, false
		all = append(all, next)
	}
	return all
}

// held says that the key's outcome may be unknown.
func (s endState) held(in endInput) bool {
	return s.phase == endHeld || s.phase == endFree && s.astray || s.phase == endRunning && (in.settles || s.lapses)
}

// without is the state in which the request that has the key, if one does, ends without effect.
func (s endState) without() endState {
	if s.phase == endRunning {
		s.taken += mark(s.request)
		s.lapses = false
	}
	return s
}

// operated is what an operator's act does.
func (s endState) operated(in endInput) (all []endState) {
	free := s.phase == endFree
	if in.fates&fateStays != 0 {
		all = append(all, s)
	}
	switch in.act {
	case endPurgeNone:
		if free {
			return []endState{s}
		}
	case endPurge:
		if !free || s.counted || s.loose || in.fates&fateStays != 0 {
			all = append(all, s.gone())
		}
	case endLook:
		if !free && s.held(in) && s.is(in.owner) {
			s.owner = in.owner
			return []endState{s}
		}
		if free && s.loose {
			return []endState{s}
		}
	case endTake:
		if s.phase == endRunning || free && s.loose {
			next := s.gone()
			next.counted = true
			all = append(all, next)
		}
		if free && s.counted { // from the owner who has released it, or from whom another operator took it
			all = append(all, s)
		}
	case endComplete:
		if s.held(in) {
			next := s.without().unheld()
			if next.phase, next.request = endDone, in.request; free {
				next.payload, next.counted = anyPayload, false
			}
			all = append(all, next)
		}
	case endRetry:
		if s.held(in) && (free || s.is(in.owner)) {
			all = append(all, s.without().freed(true))
		}
		if free && in.owner != "" && strings.Contains(s.owners, in.owner) { // another operator has just done it
			all = append(all, s)
		}
	case endBegin, endFinish, endReplayed, endProgress, endUnknown, endReused, endExecuted, endNone, endFailed: // not an operator's
	}
	return all
}

// followed is the payload of a request for the place that a redirect leads to.
const followed = 3

// endKey is a key, and what it goes on as where a redirect leads. The zero value is one
// that nobody has used.
type endKey struct {
	first, then endState
	moved       bool // the first may have a response that redirects, or have had it
}

// next is as that of endState. A request that follows a redirect is one for the operation
// there; it is one for the key itself if that has no such response any more.
func (k endKey) next(in endInput) (all []endKey) {
	for _, s := range k.first.next(in) {
		next := k
		next.first, next.moved = s, k.moved || s.phase == endDone && in.moved
		if in.act == endPurge && k.moved { // what it went on as may go, too
			gone := next
			gone.then = k.then.gone()
			all = append(all, gone)
		}
		all = append(all, next)
	}
	if !k.moved || in.payload != followed {
		return all
	}
	for _, s := range k.then.next(in) {
		next := k
		next.then = s
		all = append(all, next)
	}
	return all
}

func (k endKey) String() string {
	text := k.first.String()
	if k.moved {
		text += ", redirected to: " + k.then.String()
	}
	return text
}

// endModel is what clients of a service may be told, a key at a time.
func endModel() porcupine.Model {
	model := porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
			index := map[string]int{}
			for _, op := range history {
				key := op.Input.(endInput).key //nolint:forcetypeassert // ours
				i, ok := index[key]
				if !ok {
					i, parts = len(parts), append(parts, nil)
					index[key] = i
				}
				parts[i] = append(parts[i], op)
			}
			return parts
		},
		Init: func() []any { return []any{endKey{}} },
		Step: func(state, input, _ any) (next []any) {
			for _, s := range state.(endKey).next(input.(endInput)) { //nolint:forcetypeassert // ours
				next = append(next, s)
			}
			return next
		},
		DescribeOperation: func(input, _ any) string {
			in := input.(endInput) //nolint:forcetypeassert // ours
			text := fmt.Sprintf("request %d (payload %d) %s", in.request, in.payload, endActs[in.act])
			if in.act >= endPurge {
				text = fmt.Sprintf("the key %s (%d)", endActs[in.act], in.request)
			}
			if in.act == endReplayed {
				text += fmt.Sprintf(", that of %d", in.told)
			}
			if in.owner != "" {
				text += ", the attempt " + in.owner
			}
			for i, name := range [...]string{"kept", "free", "held", "nothing"} {
				if in.fates&(1<<i) != 0 {
					text += ", " + name
				}
			}
			return text
		},
		DescribeState: func(state any) string { return state.(endKey).String() }, //nolint:forcetypeassert // ours
		Equal:         func(a, b any) bool { return a == b },
	}
	return model.ToModel()
}
