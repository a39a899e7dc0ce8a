package idem

import (
	"context"
	"errors"
	"time"
)

// Errors of a store. None of them ever means "the key is busy": that is an
// [Outcome].
var (
	// ErrLeaseLost: the token is not that of the record. Nothing was written.
	// Somebody else may be running the operation, or the record is gone.
	ErrLeaseLost = errors.New("lease lost")
	// ErrUnavailable: the store could not be asked, or its answer did not
	// arrive. Nothing is known, what was asked may have happened: fail closed,
	// and ask again with the same owner token.
	ErrUnavailable = errors.New("store unavailable")
	// ErrRefused is wrapped together with ErrUnavailable where the store certainly
	// did not do what was asked: nothing of it was sent, or the server refused it.
	ErrRefused = errors.New("nothing was done")
	// errPendingFull: see [Config.PendingBytes].
	errPendingFull = errors.New("too many responses are waiting for the store")
	// ErrClosed: the store was closed by this process. Nothing was written.
	ErrClosed = errors.New("store closed")
	// ErrVersion: the record was written by a build whose layout this one does
	// not know. Fail closed.
	ErrVersion = errors.New("record has an unknown layout")
	// ErrNotFound: no record of that key.
	ErrNotFound = errors.New("no record")
	// ErrGaveUp: the store has too many records to look through all; what was looked
	// for may be among the others.
	ErrGaveUp = errors.New("not among the records that were looked at")
	// ErrRecipe: the record was made by a recipe that this process does not know,
	// so that nobody can tell whether the request is the same. Fail closed.
	ErrRecipe = errors.New("the record was made by settings that are not known any more")
	// ErrNotUnknown: the key that is to be resolved is in another state, or there is no
	// record of it.
	ErrNotUnknown = errors.New("only a key whose outcome is unknown can be resolved")
)

// Claim is a request to acquire a key.
type Claim struct {
	Key         Key
	Owner       Owner
	Fingerprint Fingerprint
	Binding     Binding
	// Recipe is how Fingerprint, Binding and Hints were made.
	Recipe Recipe
	// Hints say which part differs, should the fingerprint. The record has them only
	// if they are in Owner: see [Hints.NewOwner].
	Hints Hints
	// TTL is how long the lease lasts unless renewed.
	TTL time.Duration
	// Retention is how long a response can be replayed, and how long a record
	// outlives its last change otherwise. Remember is how long the key of a
	// completed record is known after that.
	Retention, Remember time.Duration
	// HoldOnLapse makes the key unknown, not free, if the lease lapses.
	HoldOnLapse bool
	// Within, if not zero, is how long after Acquire was called the store may
	// still grant the claim. A command that was stuck on its way and arrives later
	// than that has no effect: its sender gave up and has given the key back.
	Within time.Duration
}

// Lease names an attempt at a key: what renew, complete, release and hold need.
type Lease struct {
	Key   Key
	Owner Owner
	TTL   time.Duration
	// Retention and Remember are as in Claim; a zero Retention stands for what the
	// record says of both.
	Retention, Remember time.Duration
}

// Hinted says that its Owner has its Hints.
func (c *Claim) Hinted() bool { return c.Hints.in(c.Owner) }

// Lease is the lease that the claim asks for.
func (c Claim) Lease() Lease {
	return Lease{Key: c.Key, Owner: c.Owner, TTL: c.TTL, Retention: c.Retention, Remember: c.Remember}
}

// Outcome is what stands after an acquire.
type Outcome struct {
	// Kind is VerdictAcquired, VerdictYours, VerdictInProgress,
	// VerdictCompleted, VerdictMismatch, VerdictUnknown, VerdictOtherRecipe or
	// VerdictExpired.
	Kind Verdict
	// Attempt counts the executions started under this key, the current one
	// included, from 1.
	Attempt uint32
	// Remaining is how long the current lease lasts if it is not renewed
	// (InProgress).
	Remaining time.Duration
	// Part is what differs (Mismatch), as far as it is known: see [Part].
	Part Part
	// Recipe is the record's (OtherRecipe). Of what an Engine's Begin answers it is
	// the one that the request was compared by, or its attempt was granted by.
	Recipe Recipe
	// Response is shared and read-only (Completed).
	Response *Response
	// Local says that this process's memory answered, without a round trip.
	Local bool
}

// Store keeps records. Every method is safe for concurrent use, is bounded by
// its context and by the store's own timeout, and copies what it keeps.
// Implementations prove themselves with package idem/storetest.
type Store interface {
	// Acquire is one atomic check-and-set on the store, at most one round trip.
	//
	//  1. The key is free: the lease is the claimant's (Acquired).
	//  2. It is already this claimant's, whose first answer got lost: Yours.
	//  3. Somebody else's, same payload: InProgress, with the remaining lease.
	//  4. There is a response for the same payload: Completed, with it.
	//  5. Another payload or caller: Mismatch. No response is fetched.
	//  6. It may have executed and is held: Unknown.
	//  7. It was completed, and its response is not kept any more: Expired.
	//  8. What stands was made by another recipe: OtherRecipe, with which. Nothing
	//     was compared and nothing changed; ask again with hashes made by it.
	//
	// On ErrUnavailable the key may or may not have been acquired, and may still
	// be as long as the claim's Within lasts: ask again with the same owner, or
	// Release it until that has passed. With ErrRefused beside it, it was not and
	// will not be: there is nothing to release.
	Acquire(ctx context.Context, c Claim) (Outcome, error)

	// Renew starts each lease's TTL anew, all in one burst, and answers for
	// each at the same index: nil, ErrLeaseLost or ErrUnavailable.
	Renew(ctx context.Context, leases []Lease) []error

	// Complete stores the response; when it returns nil the response is as
	// durable as the store makes things and every later Acquire gets it. It may
	// be repeated. On ErrLeaseLost nothing was written.
	Complete(ctx context.Context, l Lease, r *Response) error

	// Release frees the key for the next claimant. It may be repeated.
	Release(ctx context.Context, l Lease) error

	// Hold makes the key unknown until it is resolved, however long that takes: an
	// unknown record has no end. It may be repeated.
	Hold(ctx context.Context, l Lease) error

	// Ping asks whether an Acquire could succeed now.
	Ping(ctx context.Context) error

	// Close frees what the store holds. Afterwards every method returns
	// ErrClosed. It may be repeated.
	Close() error
}

// Inspector is the operator's side of a store, kept apart from the hot path.
type Inspector interface {
	// Get reads a record as it stands now (its State is never Lapsed: that is
	// reported as Absent, which is what the next claimant meets). No record, or
	// one that says only how often the key was tried: ErrNotFound.
	Get(ctx context.Context, k Key) (Record, error)

	// Resolve ends an unknown key: with a response it is completed, and kept as
	// long as the record's claim said; with nil it is free again. It is one atomic
	// step. In any other state it is ErrNotUnknown. owner is whose attempt is meant, as
	// Get returned it: if another one is unknown by now, it is ErrLeaseLost. The zero
	// Owner stands for whichever it is. On either error nothing has happened.
	Resolve(ctx context.Context, k Key, owner Owner, r *Response) error

	// Take takes the lease of an attempt in progress from owner, whom Get returned: the
	// key is free, and the count of attempts goes on. It is one atomic step. If another
	// owner's record stands by now, or none, or the attempt has ended or become unknown,
	// it is ErrLeaseLost and nothing has happened.
	Take(ctx context.Context, k Key, owner Owner) error

	// List shows all records, as Get does but without their responses, to visit,
	// until it returns false. It reads every record there is, so it is for
	// operators only. What changes meanwhile may be there or not. A record that cannot
	// be read does not keep the others from being shown: if visit has had all of them,
	// the error is [ErrUnread], which names it. What is not a record is passed over.
	List(ctx context.Context, visit func(r *Record) bool) error

	// Find is the key of a record whose [Key.ID] begins with digest, as [Key.String]
	// shows it. None: ErrNotFound. A store that has to look through its names gives up
	// after a time: [ErrGaveUp]. It reads no records but those that it shows. If all
	// that there is cannot be read, the error is [ErrUnread].
	Find(ctx context.Context, digest []byte) (Key, error)

	// Purge forgets the key, whatever its state, in every process's memory too: in
	// this one's also when the answer is an error. An execution under way then finds
	// its lease lost. Nothing there: ErrNotFound.
	Purge(ctx context.Context, k Key) error
}

// Entry is something that is written down in a store beside its records.
type Entry struct {
	Name, Text string
	// Ended says that it has outlived what it was to be kept for.
	Ended bool
}

// Registry is the part of a store that remembers how its records were named and
// compared, for as long as there may be such records. It is small and seldom
// asked. Every process of the same data sees the same entries.
type Registry interface {
	// Entries are all that are there, those that have ended included.
	Entries(ctx context.Context) ([]Entry, error)
	// Enter writes an entry, or overwrites that of its name. It ends when keep has
	// passed on the store's clock, and never sooner than was once said for its
	// name; a keep of 0 has it never end.
	Enter(ctx context.Context, name, text string, keep time.Duration) error
	// Strike removes an entry; none is no error.
	Strike(ctx context.Context, name string) error
}
