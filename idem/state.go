package idem

// State is where a key stands. The numbers are part of the record layout: do
// not reorder.
type State uint8

// The states of a key. Lapsed and Expired are never written: the store's clock
// makes them. Lapsed is what an in-progress record is after its lease, where
// lapsing releases the key; where lapsing holds it, such a record is Unknown.
// Expired is what a completed record is after its retention: the response is
// gone, the key is still remembered.
const (
	Absent State = iota
	InProgress
	Completed
	Unknown
	Lapsed
	Expired
)

// String is the state's name in logs, metrics and documents.
func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case InProgress:
		return "in-progress"
	case Completed:
		return "completed"
	case Unknown:
		return "unknown"
	case Lapsed:
		return "lapsed"
	case Expired:
		return "expired"
	}
	return "invalid"
}

// Event is something that a store is asked to do to a key.
type Event uint8

// The events of a key; the passing of time is not among them, see [Lapsed] and [Expired].
const (
	EventAcquire Event = iota
	EventRenew
	EventComplete
	EventRelease
	EventHold
	EventResolveComplete
	EventResolveRetry
	EventTake // an operator takes the lease of an attempt in progress; known to the Lua script and to PostgreSQL
)

// String is the event's name in logs, metrics and documents.
func (e Event) String() string {
	switch e {
	case EventAcquire:
		return "acquire"
	case EventRenew:
		return "renew"
	case EventComplete:
		return "complete"
	case EventRelease:
		return "release"
	case EventHold:
		return "hold"
	case EventResolveComplete:
		return "resolve-complete"
	case EventResolveRetry:
		return "resolve-retry"
	case EventTake:
		return "take"
	}
	return "invalid"
}

// Resolves says that the event is an operator's answer to what became of an unknown key.
func (e Event) Resolves() bool { return e == EventResolveComplete || e == EventResolveRetry }

// Who tells whether the event shows the owner token that stands in the record. To
// resolve without a token is to be the Holder: it means whichever attempt is unknown.
type Who uint8

// Whose event it is.
const (
	Anyone Who = iota // the token does not matter
	Holder
	Stranger
)

// Same tells whether payload and identity are those of the record.
type Same uint8

// Whose payload it is. Under OtherRecipe it cannot be told: the record's hashes
// were made by another [Recipe] than the claim's.
const (
	AnyPayload Same = iota
	SamePayload
	OtherPayload
	OtherRecipe
)

// Verdict is a store's answer to an event. The numbers are known to the Lua
// scripts: do not reorder.
type Verdict uint8

// The verdicts. The first six and the last two are an acquire's, and so an
// [Outcome]'s Kind.
const (
	VerdictAcquired    Verdict = iota // the lease is now the asker's
	VerdictYours                      // it already was; its lease starts anew
	VerdictInProgress                 // somebody else has it
	VerdictCompleted                  // there is a response
	VerdictMismatch                   // same key, another payload or caller
	VerdictUnknown                    // it may have executed; held until resolved
	VerdictOK                         // done, or done before by the same owner
	VerdictLost                       // the token is not the record's: ErrLeaseLost
	VerdictNotUnknown                 // only what is unknown can be resolved: ErrNotUnknown
	VerdictOtherRecipe                // ask again, with hashes made by the record's recipe
	VerdictExpired                    // it was completed; its response is not kept any more
)

// String is the verdict's name in logs, metrics and documents.
func (v Verdict) String() string {
	names := [...]string{
		"acquired", "yours", "in-progress", "completed", "mismatch",
		"unknown", "ok", "lost", "not-unknown", "other-recipe", "expired",
	}
	if int(v) < len(names) {
		return names[v]
	}
	return "invalid"
}

// Transition is one cell of the table: in From, on Event by Who with Same
// payload, the key goes to To and the asker gets Verdict.
type Transition struct {
	From    State
	Event   Event
	Who     Who
	Same    Same
	To      State
	Verdict Verdict
}

// Transitions is the whole state machine, the only statement of it: [Next]
// reads it for the stores written in Go, the contract suite walks every cell
// against every store (the Lua scripts included), and docs/reference/states.md
// is printed from it. The first cell that fits counts.
func Transitions() []Transition { //nolint:funlen // a table
	return []Transition{
		{Absent, EventAcquire, Anyone, AnyPayload, InProgress, VerdictAcquired},
		{Absent, EventRelease, Holder, AnyPayload, Absent, VerdictOK}, // a release whose reply was lost
		{Absent, EventRenew, Anyone, AnyPayload, Absent, VerdictLost},
		{Absent, EventComplete, Anyone, AnyPayload, Absent, VerdictLost},
		{Absent, EventRelease, Stranger, AnyPayload, Absent, VerdictLost},
		{Absent, EventHold, Anyone, AnyPayload, Absent, VerdictLost},
		{Absent, EventResolveComplete, Anyone, AnyPayload, Absent, VerdictNotUnknown},
		{Absent, EventResolveRetry, Anyone, AnyPayload, Absent, VerdictNotUnknown},

		{InProgress, EventAcquire, Anyone, OtherRecipe, InProgress, VerdictOtherRecipe},
		{InProgress, EventAcquire, Anyone, OtherPayload, InProgress, VerdictMismatch},
		{InProgress, EventAcquire, Holder, SamePayload, InProgress, VerdictYours}, // an acquire whose reply was lost
		{InProgress, EventAcquire, Stranger, SamePayload, InProgress, VerdictInProgress},
		{InProgress, EventRenew, Holder, AnyPayload, InProgress, VerdictOK},
		{InProgress, EventComplete, Holder, AnyPayload, Completed, VerdictOK},
		{InProgress, EventRelease, Holder, AnyPayload, Absent, VerdictOK},
		{InProgress, EventHold, Holder, AnyPayload, Unknown, VerdictOK},
		{InProgress, EventRenew, Stranger, AnyPayload, InProgress, VerdictLost},
		{InProgress, EventComplete, Stranger, AnyPayload, InProgress, VerdictLost},
		{InProgress, EventRelease, Stranger, AnyPayload, InProgress, VerdictLost},
		{InProgress, EventHold, Stranger, AnyPayload, InProgress, VerdictLost},
		{InProgress, EventResolveComplete, Anyone, AnyPayload, InProgress, VerdictNotUnknown},
		{InProgress, EventResolveRetry, Anyone, AnyPayload, InProgress, VerdictNotUnknown},

		// A lapsed lease is free for the next, but until somebody takes it the
		// old owner can still prove that nobody did.
		{Lapsed, EventAcquire, Holder, SamePayload, InProgress, VerdictYours},
		{Lapsed, EventAcquire, Anyone, AnyPayload, InProgress, VerdictAcquired},
		{Lapsed, EventRenew, Holder, AnyPayload, InProgress, VerdictOK},
		{Lapsed, EventComplete, Holder, AnyPayload, Completed, VerdictOK},
		{Lapsed, EventRelease, Holder, AnyPayload, Absent, VerdictOK},
		{Lapsed, EventHold, Holder, AnyPayload, Unknown, VerdictOK},
		{Lapsed, EventRenew, Stranger, AnyPayload, Lapsed, VerdictLost},
		{Lapsed, EventComplete, Stranger, AnyPayload, Lapsed, VerdictLost},
		{Lapsed, EventRelease, Stranger, AnyPayload, Lapsed, VerdictLost},
		{Lapsed, EventHold, Stranger, AnyPayload, Lapsed, VerdictLost},
		{Lapsed, EventResolveComplete, Anyone, AnyPayload, Lapsed, VerdictNotUnknown},
		{Lapsed, EventResolveRetry, Anyone, AnyPayload, Lapsed, VerdictNotUnknown},

		{Completed, EventAcquire, Anyone, OtherRecipe, Completed, VerdictOtherRecipe},
		{Completed, EventAcquire, Anyone, OtherPayload, Completed, VerdictMismatch},
		{Completed, EventAcquire, Anyone, SamePayload, Completed, VerdictCompleted},
		{Completed, EventComplete, Holder, AnyPayload, Completed, VerdictOK}, // a complete whose reply was lost
		{Completed, EventComplete, Stranger, AnyPayload, Completed, VerdictLost},
		{Completed, EventRenew, Anyone, AnyPayload, Completed, VerdictLost},
		{Completed, EventRelease, Anyone, AnyPayload, Completed, VerdictLost},
		{Completed, EventHold, Anyone, AnyPayload, Completed, VerdictLost},
		{Completed, EventResolveComplete, Anyone, AnyPayload, Completed, VerdictNotUnknown},
		{Completed, EventResolveRetry, Anyone, AnyPayload, Completed, VerdictNotUnknown},

		// Its response is gone, but not that it was executed: nobody may run it.
		{Expired, EventAcquire, Anyone, OtherRecipe, Expired, VerdictOtherRecipe},
		{Expired, EventAcquire, Anyone, OtherPayload, Expired, VerdictMismatch},
		{Expired, EventAcquire, Anyone, SamePayload, Expired, VerdictExpired},
		{Expired, EventComplete, Holder, AnyPayload, Expired, VerdictOK}, // a complete whose reply was lost, long ago
		{Expired, EventComplete, Stranger, AnyPayload, Expired, VerdictLost},
		{Expired, EventRenew, Anyone, AnyPayload, Expired, VerdictLost},
		{Expired, EventRelease, Anyone, AnyPayload, Expired, VerdictLost},
		{Expired, EventHold, Anyone, AnyPayload, Expired, VerdictLost},
		{Expired, EventResolveComplete, Anyone, AnyPayload, Expired, VerdictNotUnknown},
		{Expired, EventResolveRetry, Anyone, AnyPayload, Expired, VerdictNotUnknown},

		// The owner of an unknown key may still say what happened; nobody may
		// run it again, its owner included.
		{Unknown, EventAcquire, Anyone, OtherRecipe, Unknown, VerdictOtherRecipe},
		{Unknown, EventAcquire, Anyone, OtherPayload, Unknown, VerdictMismatch},
		{Unknown, EventAcquire, Anyone, SamePayload, Unknown, VerdictUnknown},
		{Unknown, EventComplete, Holder, AnyPayload, Completed, VerdictOK},
		{Unknown, EventRelease, Holder, AnyPayload, Absent, VerdictOK},
		{Unknown, EventHold, Holder, AnyPayload, Unknown, VerdictOK},
		{Unknown, EventRenew, Anyone, AnyPayload, Unknown, VerdictLost},
		{Unknown, EventComplete, Stranger, AnyPayload, Unknown, VerdictLost},
		{Unknown, EventRelease, Stranger, AnyPayload, Unknown, VerdictLost},
		{Unknown, EventHold, Stranger, AnyPayload, Unknown, VerdictLost},
		{Unknown, EventResolveComplete, Holder, AnyPayload, Completed, VerdictOK},
		{Unknown, EventResolveRetry, Holder, AnyPayload, Absent, VerdictOK},
		{Unknown, EventResolveComplete, Stranger, AnyPayload, Unknown, VerdictLost}, // what is known is of another attempt
		{Unknown, EventResolveRetry, Stranger, AnyPayload, Unknown, VerdictLost},

		// An operator takes the lease from the owner that was looked at. What became
		// unknown since that look is not free for it: it is resolved.
		{Absent, EventTake, Holder, AnyPayload, Absent, VerdictOK}, // a take whose reply was lost
		{Absent, EventTake, Stranger, AnyPayload, Absent, VerdictLost},
		{InProgress, EventTake, Holder, AnyPayload, Absent, VerdictOK},
		{InProgress, EventTake, Stranger, AnyPayload, InProgress, VerdictLost},
		{Lapsed, EventTake, Holder, AnyPayload, Absent, VerdictOK},
		{Lapsed, EventTake, Stranger, AnyPayload, Lapsed, VerdictLost},
		{Completed, EventTake, Anyone, AnyPayload, Completed, VerdictLost},
		{Expired, EventTake, Anyone, AnyPayload, Expired, VerdictLost},
		{Unknown, EventTake, Anyone, AnyPayload, Unknown, VerdictLost},
	}
}

// transitions indexes the table once; it is never written to afterwards.
var transitions = indexTransitions() //nolint:gochecknoglobals // constant data, computed

type cellKey struct {
	from  State
	event Event
	who   Who
	same  Same
}

func indexTransitions() map[cellKey]Transition {
	index := make(map[cellKey]Transition)
	for _, t := range Transitions() {
		for _, who := range []Who{Holder, Stranger} {
			for _, same := range []Same{SamePayload, OtherPayload, OtherRecipe} {
				fits := (t.Who == Anyone || t.Who == who) && (t.Same == AnyPayload || t.Same == same)
				key := cellKey{t.From, t.Event, who, same}
				if _, taken := index[key]; fits && !taken {
					index[key] = t
				}
			}
		}
	}
	return index
}

// Next looks the transition up. who is Holder or Stranger and same is
// SamePayload, OtherPayload or OtherRecipe; an event that carries no payload is SamePayload.
// What the table does not have changes nothing and is Lost, which no caller
// can take for a permission.
func Next(from State, event Event, who Who, same Same) (State, Verdict) {
	t, ok := transitions[cellKey{from, event, who, same}]
	if !ok {
		return from, VerdictLost
	}
	return t.To, t.Verdict
}
