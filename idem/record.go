package idem

import (
	"slices"
	"time"
)

// Field is one header field, name and value as the backend wrote them.
type Field struct {
	Name, Value []byte
}

// Response is what a backend answered: the part of it that a replay repeats.
type Response struct {
	// Status is the HTTP status code.
	Status int
	// Header holds the end-to-end fields in the order received, repeats
	// included.
	Header []Field
	// Body is the whole body as it came over the wire (still compressed, if it
	// was).
	Body []byte
	// BodyOmitted says that the body was larger than the store takes. The
	// operation is completed all the same; it cannot be replayed.
	BodyOmitted bool
	// Redirect is where a kept 307 or 308 leads, nil for none.
	Redirect *Redirect
	// Sealed says that a [Codec] made it: Body is the codec's envelope, which
	// holds header and body, and Header is empty.
	Sealed bool
}

// Redirect says that an operation continues elsewhere (RFC 9110 sections 15.4.8
// and 15.4.9): a request with the same key that is alike but for its target is
// that continuation, an operation of its own.
type Redirect struct {
	// From and To are targets, host included, in the form that fingerprints have.
	From, To []byte
}

// Size is about how many bytes the response takes in memory.
func (r *Response) Size() int {
	n := len(r.Body) + 64
	if r.Redirect != nil {
		n += len(r.Redirect.From) + len(r.Redirect.To) + 48
	}
	for _, f := range r.Header {
		n += len(f.Name) + len(f.Value) + 48
	}
	return n
}

// Clone is a copy that shares no bytes with r.
func (r *Response) Clone() *Response {
	clone := *r
	clone.Body = slices.Clone(r.Body)
	if r.Redirect != nil {
		clone.Redirect = &Redirect{From: slices.Clone(r.Redirect.From), To: slices.Clone(r.Redirect.To)}
	}
	clone.Header = CloneFields(r.Header)
	return &clone
}

// CloneFields copies fields, all bytes of them into one slice.
func CloneFields(fields []Field) []Field {
	size := 0
	for _, f := range fields {
		size += len(f.Name) + len(f.Value)
	}
	clone, room := make([]Field, len(fields)), make([]byte, 0, size)
	copied := func(b []byte) []byte {
		from := len(room)
		room = append(room, b...)
		return room[from:len(room):len(room)]
	}
	for i, f := range fields {
		clone[i] = Field{Name: copied(f.Name), Value: copied(f.Value)}
	}
	return clone
}

// Record is what a store knows of a key. Times are milliseconds on the store's
// clock, comparable with each other and with nothing else.
type Record struct {
	Key         Key
	State       State
	HoldOnLapse bool // a lapsed lease makes the key unknown, not free
	Hinted      bool // see Hints
	Attempt     uint32
	Owner       Owner
	Fingerprint Fingerprint
	Binding     Binding
	Recipe      Recipe
	LeaseUntil  int64 // only when InProgress
	ReplayUntil int64 // only when Completed
	Created     int64
	Updated     int64
	Expires     int64 // when the record ends; 0: never
	// Retention and Remember are the claim's, in ms.
	Retention, Remember int64
	Response            *Response // only when Completed
	ReadAt              int64     // what the store's clock showed; set by an Inspector only
}

// StateAt is the record's state when the store's clock shows now.
func (r *Record) StateAt(now int64) State {
	switch {
	case r.State == Completed && now >= r.ReplayUntil:
		return Expired
	case r.State != InProgress || now < r.LeaseUntil:
		return r.State
	case r.HoldOnLapse:
		return Unknown
	}
	return Lapsed
}

// Ended says that the record is to be forgotten.
func (r *Record) Ended(now int64) bool { return r.Expires != 0 && now >= r.Expires }

// Acquire is what [EventAcquire] does to a record (nil: there is none) when the
// store's clock shows now. It returns the record to write, nil if nothing
// changes, and the outcome. It is pure: a store calls it under its own lock.
func (r *Record) Acquire(c Claim, now int64) (*Record, Outcome) {
	current, who, same := r, Stranger, OtherPayload
	if r == nil {
		current = &noRecord
	} else if r.Owner == c.Owner {
		who = Holder
	}
	part := current.differs(&c)
	switch {
	case current.Recipe != c.Recipe:
		same = OtherRecipe
	case part == PartNone:
		same = SamePayload
	}
	_, verdict := Next(current.StateAt(now), EventAcquire, who, same)
	out := Outcome{Kind: verdict, Attempt: current.Attempt}
	switch verdict {
	case VerdictAcquired:
		out.Attempt++
		return newInProgress(current, c, now), out
	case VerdictYours:
		next := *current
		next.LeaseUntil, next.HoldOnLapse = now+c.TTL.Milliseconds(), c.HoldOnLapse
		next.Updated = now
		next.keep(c.Retention, c.Remember)
		return &next, out
	case VerdictInProgress:
		out.Remaining = time.Duration(current.LeaseUntil-now) * time.Millisecond
	case VerdictCompleted:
		out.Response = current.Response
	case VerdictMismatch:
		out.Part = part
	case VerdictOtherRecipe:
		out.Recipe = current.Recipe
	case VerdictUnknown, VerdictOK, VerdictLost, VerdictNotUnknown, VerdictExpired:
	}
	return nil, out
}

// noRecord stands for none; it is never written to.
var noRecord Record //nolint:gochecknoglobals // constant

func newInProgress(before *Record, c Claim, now int64) *Record {
	r := &Record{
		Key: c.Key.Clone(), State: InProgress, HoldOnLapse: c.HoldOnLapse,
		Attempt: before.Attempt + 1, LeaseUntil: now + c.TTL.Milliseconds(), Owner: c.Owner,
		Fingerprint: c.Fingerprint, Binding: c.Binding, Recipe: c.Recipe, Hinted: c.Hinted(),
		Created: now, Updated: now,
	}
	r.keep(c.Retention, c.Remember)
	return r
}

// keep sets when the record ends, counted from its last change: what may have
// executed never does.
func (r *Record) keep(retention, remember time.Duration) {
	if retention > 0 {
		r.Retention, r.Remember = retention.Milliseconds(), remember.Milliseconds()
	}
	r.Expires, r.ReplayUntil = r.Updated+r.Retention, 0
	switch r.State {
	case InProgress:
		if r.Expires = r.LeaseUntil + r.Retention; r.HoldOnLapse {
			r.Expires = 0
		}
	case Completed:
		r.ReplayUntil = r.Updated + r.Retention
		r.Expires = r.ReplayUntil + r.Remember
	case Unknown:
		r.Expires = 0
	case Absent, Lapsed, Expired:
	}
}

// differs compares the identity first, so that a stranger who guessed a key
// does not learn whether the payload was the same.
func (r *Record) differs(c *Claim) Part {
	switch {
	case r.Binding != c.Binding:
		return PartIdentity
	case r.Fingerprint != c.Fingerprint:
		return r.Hints().Differ(c.Hints)
	}
	return PartNone
}

// Apply is what a later event does to a record (nil: there is none): the owner's
// renew, complete, release and hold, and an operator's take and resolve. To resolve
// with the zero Owner is to resolve whichever attempt is unknown. It returns the
// record to write, nil if nothing changes, and nil, ErrLeaseLost or ErrNotUnknown.
// It is pure.
func (r *Record) Apply(e Event, l Lease, response *Response, now int64) (*Record, error) {
	var current Record
	if r != nil {
		current = *r
	}
	who := Stranger
	if r != nil && (current.Owner == l.Owner || e.Resolves() && l.Owner == Owner{}) {
		who = Holder
	}
	from := current.StateAt(now)
	to, verdict := Next(from, e, who, SamePayload)
	switch {
	case verdict == VerdictNotUnknown:
		return nil, ErrNotUnknown
	case verdict != VerdictOK:
		return nil, ErrLeaseLost
	case from == to && e != EventRenew: // done before by the same owner
		return nil, nil //nolint:nilnil // nothing to write, and nothing amiss
	}
	current.Key, current.State, current.Updated, current.LeaseUntil = l.Key, to, now, 0
	if to == InProgress {
		current.LeaseUntil = now + l.TTL.Milliseconds()
	}
	if to == Completed {
		current.Response = response
	}
	if e.Resolves() {
		// What stands is the operator's: a late ending of the attempt is not what was done.
		current.Owner, current.Hinted = Owner{}, false
	}
	current.keep(l.Retention, l.Remember)
	return &current, nil
}

// Inspect is what an [Inspector]'s Get answers of a record (nil: there is none)
// when the store's clock shows now.
func (r *Record) Inspect(now int64) (Record, error) {
	if r == nil {
		return Record{}, ErrNotFound
	}
	current := *r
	current.State, current.ReadAt = r.StateAt(now), now
	switch current.State {
	case Absent, Lapsed:
		return Record{}, ErrNotFound
	case Expired:
		current.Response = nil
	case InProgress, Completed, Unknown:
	}
	return current, nil
}

// Outcome is what an acquire of the same request would answer of a record that an
// [Inspector]'s Get returned.
func (r *Record) Outcome() Outcome {
	out := Outcome{Attempt: r.Attempt, Response: r.Response}
	switch r.State {
	case InProgress:
		out.Kind, out.Remaining = VerdictInProgress, time.Duration(r.LeaseUntil-r.ReadAt)*time.Millisecond
	case Completed:
		out.Kind = VerdictCompleted
	case Unknown:
		out.Kind = VerdictUnknown
	case Expired:
		out.Kind = VerdictExpired
	case Absent, Lapsed: // which no Get returns
	}
	return out
}

// ResolveEvent is the event of resolving an unknown key with a response, or
// with nil.
func ResolveEvent(r *Response) Event {
	if r == nil {
		return EventResolveRetry
	}
	return EventResolveComplete
}
