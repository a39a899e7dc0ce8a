package proxy

import (
	"errors"
	"slices"
	"time"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/upstream"
)

// Rules are how the requests of one route are treated. Whoever makes them does
// not change them once a server has them.
type Rules struct {
	// Upstream names the one that requests go to; empty for Config.Upstream.
	Upstream string
	// BackendTimeout bounds an exchange with the backend, from sending to the
	// end of the response. 0: no bound.
	BackendTimeout time.Duration
	// Policy is how keys are treated.
	Policy idem.Policy
	// MaxRequestBody is the largest body of a keyed request, which must be read
	// whole to be fingerprinted. Larger ones get 413. Default 1 MiB.
	MaxRequestBody int
	// MaxResponseBody is the largest body that is kept for replays. Larger
	// responses are passed on; their key is completed without a body. Default
	// 1 MiB.
	MaxResponseBody int
	// RequireKey answers 400 to requests without a key that may change something: see
	// message.Head.MayChange.
	RequireKey bool
	// AllowAmbiguous takes targets that backends read in different ways: see
	// message.Ambiguous. Otherwise they get 400 where any route has a path.
	AllowAmbiguous bool
	// KeyHeaders are the fields that carry the key. Default Idempotency-Key and
	// X-Idempotency-Key.
	KeyHeaders []string
	// Key is where keys are, beside headers: in the query, the path or the body. Nil:
	// in KeyHeaders, which do not count otherwise. It makes every request that its
	// sources may be in the body of be read whole, up to MaxRequestBody.
	Key *operation.Sources
	// LenientKey takes a body that cannot be read for one that has no key.
	LenientKey bool
	// KeyMethods are the methods for which keys count; nil for all. A request of another
	// one has no key.
	KeyMethods []string
	// Keys says which keys are taken; nil takes all that are well-formed.
	Keys *idem.KeyFormat
	// Fingerprint is what must not change between two uses of a key; nil for
	// method, target (host included) and body.
	Fingerprint *operation.Fingerprint
	// DeriveKey gives requests of a known caller that have no key one of their
	// payload's, which lasts that long after the response: double clicks and
	// blind retries. 0: such requests are passed through.
	DeriveKey time.Duration
	// DuplicateWindow has a payload noticed that comes under a second key within
	// that time from the same caller, which is then told, or refused if
	// RejectDuplicates. It costs two more operations of the store for each new
	// key. 0: nobody looks.
	DuplicateWindow  time.Duration
	RejectDuplicates bool
	// Resolver, if set, is asked before a retry of a key with an unknown outcome
	// is refused.
	Resolver Resolver
	// Receipts settles what is in doubt on a route of idem.AmbiguousSettle, which must
	// have one. A request waits up to SettleWithin for that (15 s if 0). One whose attempt
	// was voided is forwarded again as another one, up to SettleAttempts times.
	Receipts       Receipts
	SettleWithin   time.Duration
	SettleAttempts int
	// FailOpen forwards a keyed request unprotected when the store cannot
	// answer: it may then execute twice. Otherwise it is refused.
	FailOpen bool
	// FailStatus is the status of that refusal: 500 unless set; 503 comes with
	// Retry-After.
	FailStatus int
	// BindHeaders are the headers that say who asks (Authorization, say): the
	// same key with other values is a mismatch.
	BindHeaders []string
	// RequireBind answers 400 to requests with a key, given or derived, if none of
	// BindHeaders has a value and there is no client certificate. Otherwise all of
	// those are one caller.
	RequireBind bool
	// Scope is what partitions the keys; a key in one scope is another operation
	// than in another.
	Scope []caller.Source
	// EarlierScopes are former values of Scope. A key is looked up, and kept, under
	// the names that they make of it, too, so that a change of Scope has nothing
	// executed again. Each costs two more operations of the store for a new key.
	EarlierScopes []caller.EarlierScope
	// Tokens verifies bearer tokens; required by scopes of the kind claim:NAME.
	Tokens caller.TokenVerifier
	// MaxWait bounds how long a request waits for a key in progress, be it by
	// Wait or by the client's "Prefer: wait=N" (RFC 7240 section 4.3). 0: nobody
	// waits, all get 409 at once.
	MaxWait time.Duration
	// Wait has requests wait unless the client prefers otherwise.
	Wait bool
	// Stream has responses to requests with a key passed on as they come, while they are
	// recorded: those of unknown length, and those larger than StreamAbove (64 KiB if 0).
	// One that no client reads any more is read on for ReadOn; then it counts as cut.
	Stream      bool
	StreamAbove int
	ReadOn      time.Duration
	// Join has a request whose key is in progress in this process get what has come of the
	// response, and then the rest as it comes. Where there is nothing to join it waits.
	Join bool
	// Outcomes lets clients ask what became of keys in this route's scope, without sending
	// the payload again: see Config.OutcomesPath. RespondAsync answers 202 to requests that
	// prefer respond-async before they are executed, and lets clients ask, too.
	Outcomes, RespondAsync bool
	// Expose has the first answer say what it promises: see promise.
	Expose bool
	// MaxPerCaller bounds the requests of one caller that are under way at a time,
	// as known by certificate, or by BindHeaders; MaxPerAddress those from one
	// address (IPv6: from one /64) that no certificate came with, whatever they say
	// of themselves; MaxPerKey those with one key. Further ones get 429. 0: no
	// bound.
	MaxPerCaller, MaxPerAddress, MaxPerKey int
	// NotReplayed are response headers that are not kept for replays.
	NotReplayed []string
	// Observe has requests forwarded as if they had no key, and told of in traces what
	// would have become of them: see Would. ObservedShare has that done with only so many of 10,000 keys,
	// always the same ones, and with what has no key that could be read.
	Observe       bool
	ObservedShare int
	// Answers are how the route's own answers look.
	Answers Answers
	// CORS says which scripts in browsers may send requests and read answers.
	CORS CORS

	shape               *shape             // of errors; nil for problems
	finder              *finder            // of keys; nil where KeyHeaders are all
	recipe              operation.Recipe   // how records are compared
	guarded             []string           // fields that requests are told apart by
	unkeyed             []string           // those of a route that has no keys
	derived, duplicates idem.Policy        // of what unkeyed.go keeps
	upstream            *upstream.Upstream // that Upstream names
	sharing             *sharing           // CORS; nil for none
}

// Mistakes of who wired the server.
var (
	errNoTokens   = errors.New("a scope by claim needs Tokens")
	errNoReceipts = errors.New("on_ambiguous: settle needs receipts, the URL of the backend's endpoint")
	errDerived    = errors.New("derive_key and on_ambiguous: settle exclude each other: a receipt would stand for every later " +
		"request with the same payload")
)

// receiptsName is empty where nothing is settled.
func (r *Rules) receiptsName() string {
	if r.Receipts == nil || !r.settles() {
		return ""
	}
	return operation.ReceiptsName(r.Receipts.URL())
}

func (r *Rules) check() error {
	switch {
	case r.settles() && r.Receipts == nil:
		return errNoReceipts
	case r.settles() && r.DeriveKey > 0:
		return errDerived
	}
	all := r.Scope
	for _, earlier := range r.EarlierScopes {
		sources, _ := earlier.Sources()
		all = slices.Concat(all, sources)
	}
	for _, s := range all {
		if s.NeedsToken() && r.Tokens == nil {
			return errNoTokens
		}
	}
	return r.CORS.check()
}

func (r *Rules) setDefaults(s *operation.Secret) {
	r.recipe = operation.NewRecipe(r.Fingerprint, r.BindHeaders, r.receiptsName(), s)
	if r.SettleWithin <= 0 {
		r.SettleWithin = 15 * time.Second
	}
	if len(r.KeyHeaders) == 0 {
		r.KeyHeaders = []string{operation.HeaderKey, operation.HeaderKeyOld}
	}
	if r.MaxRequestBody <= 0 {
		r.MaxRequestBody = 1 << 20
	}
	if r.StreamAbove <= 0 {
		r.StreamAbove = 64 << 10
	}
	r.setDerived()
	r.finder = newFinder(r)
	if s, ok := shapes()[r.Answers.Shape]; ok {
		r.shape = &s
	}
	r.guarded, r.unkeyed = r.goneBy(), new(Rules).goneBy()
	r.sharing = newSharing(&r.CORS, r.guarded)
	if r.FailStatus == 0 {
		r.FailStatus = 500
	}
	if r.MaxResponseBody <= 0 {
		r.MaxResponseBody = 1 << 20
	}
}

// goneBy are the fields that the rules tell requests, callers and scopes apart by.
func (r *Rules) goneBy() []string {
	all := slices.Concat([]string{operation.HeaderKey, operation.HeaderKeyOld, "Content-Encoding"}, r.keyFields(),
		r.BindHeaders, r.Fingerprint.Headers())
	for _, source := range r.Scope {
		if name, ok := source.Header(); ok {
			all = append(all, name)
		}
	}
	return all
}
