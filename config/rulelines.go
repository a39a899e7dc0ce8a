package config

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
)

// rule is a setting that a route may have of its own.
type rule[T any] = line[Rules, proxy.Rules, T]

type settingOfRules = setting[Rules, proxy.Rules]

// ofRules are all rules. What verifies tokens is app's to make: see proxy.Rules.Tokens.
func ofRules() []settingOfRules {
	return slices.Concat(
		rulesOfLeases(), rulesOfKeys(), rulesOfSources(), rulesOfDoubt(), rulesOfReceipts(), rulesOfCallers(),
		rulesOfWaiting(), rulesOfStreams(), rulesOfAsking(),
		rulesOfRollOut(), rulesOfBrowsers(), rulesOfAnswers(),
	)
}

func rulesOfLeases() []settingOfRules {
	policy := idem.DefaultPolicy()
	released, ambiguous := idem.DefaultStatuses()
	return []settingOfRules{
		&rule[time.Duration]{
			name: "backend-timeout", as: aDuration(), of: func(r *Rules) *time.Duration { return &r.BackendTimeout },
			usage: "time limit of one exchange with the backend, from connecting to the end of the response; 0 for none",
			limit: noneOrTime(), to: func(d time.Duration, p *proxy.Rules) { p.BackendTimeout = d },
		},
		&rule[time.Duration]{
			name: "lock-ttl", as: aDuration(), of: func(r *Rules) *time.Duration { return &r.LockTTL },
			usage: "how long a key stays locked after its proxy died; from 100ms to 1h", def: policy.TTL,
			limit: lease(), to: func(d time.Duration, p *proxy.Rules) { p.Policy.TTL = d },
		},
		&rule[time.Duration]{
			name: "heartbeat", as: aDuration(), of: func(r *Rules) *time.Duration { return &r.Heartbeat },
			usage: "how often leases in flight are renewed; at most half of lock-ttl, a third of it unless set", def: policy.Heartbeat,
			unset: followTheLease, fits: oftenEnough, to: func(d time.Duration, p *proxy.Rules) { p.Policy.Heartbeat = d },
		},
		&rule[time.Duration]{
			name: "retention", as: aDuration(), of: func(r *Rules) *time.Duration { return &r.Retention },
			usage: "how long a response can be replayed, from its completion; from 1s to 8760h", def: policy.Retention,
			limit: from(time.Second, 8760*time.Hour), to: func(d time.Duration, p *proxy.Rules) { p.Policy.Retention = d },
		},
		&rule[time.Duration]{
			name: "remember", as: aDurationOrSame(), of: func(r *Rules) *time.Duration { return &r.Remember },
			usage: "how long the key is known after that: a retry gets 410 and is not executed; same (as retention); 0 for no " +
				"time; up to 87600h", def: SameAs,
			limit: sameOr(fromZero("not", 87600*time.Hour)),
			made:  func(r *Rules, p *proxy.Rules) error { p.Policy.Remember = r.RememberFor(); return nil },
		},
		&rule[idem.Ambiguity]{
			name: "on-ambiguous", as: anAmbiguity(), of: func(r *Rules) *idem.Ambiguity { return &r.OnAmbiguous },
			odd: opensWhatItHolds, fits: receiptsWhereSettled,
			usage: "what becomes of a key whose request may have executed: release (a retry runs), hold (until it is resolved), or " +
				"settle (the backend's receipts say, see receipts)",
			def: policy.OnAmbiguous, to: func(a idem.Ambiguity, p *proxy.Rules) { p.Policy.OnAmbiguous = a },
		},
		&rule[[]string]{
			name: "release-statuses", as: aList(), of: func(r *Rules) *[]string { return &r.ReleaseStatuses },
			odd:   releasesSuccess,
			usage: "statuses, or classes such as 5xx, that say that nothing was done: the key is freed; all others are kept",
			def:   released, made: statuses,
		},
		&rule[[]string]{
			name: "ambiguous-statuses", as: aList(), of: func(r *Rules) *[]string { return &r.AmbiguousStatuses },
			usage: "statuses, or classes, after which the request may have executed: see on-ambiguous", def: ambiguous,
		},
	}
}

func rulesOfKeys() []settingOfRules {
	return []settingOfRules{
		&rule[[]string]{
			name: "key-headers", as: aList(), of: func(r *Rules) *[]string { return &r.KeyHeaders },
			usage: "headers that carry the key; if several do, they must agree",
			def:   []string{"Idempotency-Key", "X-Idempotency-Key"}, careful: true,
			limit: eachOf("names of headers", math.MaxInt, isToken), fits: carriesKeys,
			idle: when("while key is set: keys are looked for in the places that key names",
				func(r *Rules) bool { return len(r.Key) > 0 }),
			to: func(all []string, p *proxy.Rules) { p.KeyHeaders = all },
		},
		&rule[string]{
			name: "key-format", as: aText(), of: func(r *Rules) *string { return &r.KeyFormat },
			usage: "which keys are accepted: any, uuid, ulid, or a regular expression for the whole key", def: "any", made: keyFormat,
		},
		&rule[int]{
			name: "key-min-length", as: aCount(), of: func(r *Rules) *int { return &r.KeyMinLength },
			usage: "least length of a key, from 1 to 255", def: 1, limit: from(1, 255), fits: longKeys,
		},
		&rule[[]string]{
			name: "fingerprint", as: aList(), of: func(r *Rules) *[]string { return &r.Fingerprint },
			usage: "what must not change between two uses of a key: method, target with its host (or path, without the query; query " +
				"besides, its fields in any order; any-host besides, without the host), body with its media type (or json: its value; " +
				"except:POINTER, only:POINTER: a part of that; form: its fields; multipart: without its boundary), header:NAME " +
				"(docs/fingerprint.md)",
			def: []string{"method", "target", "body"}, careful: true, fits: comparesFields, made: fingerprint,
		},
		&rule[time.Duration]{
			name: "derive-key", as: aDuration(), of: func(r *Rules) *time.Duration { return &r.DeriveKey },
			usage: "how long a POST or PATCH without a key, of a caller that bind or a certificate knows, counts as a retry of the same " +
				"payload; 0 for never", careful: true,
			limit: zeroOr("never", time.Second, time.Hour), to: func(d time.Duration, p *proxy.Rules) { p.DeriveKey = d },
		},
		&rule[time.Duration]{
			name: "duplicate-window", as: aDuration(), of: func(r *Rules) *time.Duration { return &r.DuplicateWindow },
			usage: "how long a caller's payload is remembered, to notice the same payload under a second key; 0 to turn this off",
			limit: zeroOr("not", time.Second, 24*time.Hour), to: func(d time.Duration, p *proxy.Rules) { p.DuplicateWindow = d },
		},
		&rule[bool]{
			name: "on-duplicate", as: eitherOr("warn", "reject"), of: func(r *Rules) *bool { return &r.RejectDuplicates },
			idle:  without("duplicate-window", func(r *Rules) bool { return r.DuplicateWindow == 0 }),
			usage: "what then happens: warn (a response header) or reject (409)",
			to:    func(yes bool, p *proxy.Rules) { p.RejectDuplicates = yes },
		},
	}
}

// rulesOfDoubt are about what is unknown, and what cannot be protected.
func rulesOfReceipts() []settingOfRules {
	return []settingOfRules{
		&rule[string]{
			name: "receipts", as: aURL(), of: func(r *Rules) *string { return &r.Receipts },
			idle: without("on-ambiguous: settle", settlesNothing),
			usage: "URL of the backend's endpoint that voids attempts or has their receipts (docs/receipts.md), for on-ambiguous: " +
				"settle; empty for none", made: receipts,
		},
		&rule[string]{
			name: "receipts-secret-file", as: aText(), of: func(r *Rules) *string { return &r.ReceiptsSecretFile }, file: true,
			idle:  without("receipts", func(r *Rules) bool { return r.Receipts == "" }),
			usage: "file with the secret that the proxy sends to that endpoint as a bearer token; empty for none",
		},
		&rule[time.Duration]{
			name: "settle-within", as: aDuration(), of: func(r *Rules) *time.Duration { return &r.SettleWithin },
			idle:  without("on-ambiguous: settle", settlesNothing),
			usage: "how long a request waits for that endpoint; then the key is held and the endpoint is asked in the background",
			def:   15 * time.Second, limit: from(10*time.Millisecond, time.Hour),
			to: func(d time.Duration, p *proxy.Rules) { p.SettleWithin = d },
		},
		&rule[int]{
			name: "settle-attempts", as: aCount(), of: func(r *Rules) *int { return &r.SettleAttempts },
			idle:  without("on-ambiguous: settle", settlesNothing),
			usage: "how often a request is forwarded again, as another attempt, after the backend has voided one; 0 to answer 502",
			limit: fromZero("not", 10), to: func(n int, p *proxy.Rules) { p.SettleAttempts = n },
		},
	}
}

func rulesOfDoubt() []settingOfRules {
	return []settingOfRules{
		&rule[string]{
			name: "resolver", as: aURL(), of: func(r *Rules) *string { return &r.Resolver },
			usage: "URL that is asked what became of a key whose outcome is unknown: 200 with the response, 404 if it was not executed " +
				"and never will be; empty for none", made: resolver,
		},
		&rule[time.Duration]{
			name: "resolver-timeout", as: aDuration(), of: func(r *Rules) *time.Duration { return &r.ResolverTimeout },
			idle:  without("resolver", func(r *Rules) bool { return r.Resolver == "" }),
			usage: "time limit of a question to the resolver", def: 5 * time.Second, limit: from(time.Millisecond, time.Hour),
		},
		&rule[bool]{
			name: "fail-open", as: aSwitch(), of: func(r *Rules) *bool { return &r.FailOpen },
			odd:   opensWhatItHolds,
			usage: "forward requests without protection when the store cannot answer: they may execute twice",
			to:    func(yes bool, p *proxy.Rules) { p.FailOpen = yes },
		},
		&rule[int]{
			name: "fail-status", as: aCount(), of: func(r *Rules) *int { return &r.FailStatus },
			usage: "status of a request that is refused because the store cannot answer: 500, or 503 (with Retry-After)",
			def:   500, limit: oneOf(500, 503), to: func(n int, p *proxy.Rules) { p.FailStatus = n },
		},
		&rule[Size]{
			name: "max-request-body", as: aSize(), of: func(r *Rules) *Size { return &r.MaxRequestBody },
			usage: "largest body of a request with a key; larger ones get 413",
			def:   1 << 20, limit: inMemory(1 << 30), to: func(n Size, p *proxy.Rules) { p.MaxRequestBody = int(n) },
		},
		&rule[Size]{
			name: "max-response-body", as: aSize(), of: func(r *Rules) *Size { return &r.MaxResponseBody },
			usage: "largest response that is kept; larger ones are passed on and cannot be replayed",
			def:   1 << 20, limit: inMemory(256 << 20), to: func(n Size, p *proxy.Rules) { p.MaxResponseBody = int(n) },
		},
		&rule[bool]{
			name: "require-key", as: aSwitch(), of: func(r *Rules) *bool { return &r.RequireKey },
			usage: "refuse requests without a key whose method is not GET, HEAD, OPTIONS or TRACE",
			to:    func(yes bool, p *proxy.Rules) { p.RequireKey = yes },
		},
		&rule[bool]{
			name: "ambiguous-paths", as: eitherOr("refuse", "allow"), of: func(r *Rules) *bool { return &r.AllowAmbiguous },
			usage: "what becomes of targets that backends read in different ways (//, dot segments, semicolons, encoded delimiters), " +
				"where a route has a path: refuse (400) or allow",
			to: func(yes bool, p *proxy.Rules) { p.AllowAmbiguous = yes },
		},
	}
}

// rulesOfCallers are about who asks, and for whom.
func rulesOfCallers() []settingOfRules {
	return []settingOfRules{
		&rule[[]string]{
			name: "bind", as: aList(), of: func(r *Rules) *[]string { return &r.Bind },
			usage: "headers that say who asks: the same key with other values is a mismatch",
			def:   []string{"Authorization"}, careful: true, limit: anyOfThem("names of headers", isToken), fits: bindsCallers,
			to: func(all []string, p *proxy.Rules) { p.BindHeaders = all },
		},
		&rule[bool]{
			name: "require-bind", as: aSwitch(), of: func(r *Rules) *bool { return &r.RequireBind },
			usage: "refuse requests with a key, also a derived one, that have none of those headers and no client certificate; " +
				"otherwise all of them are one caller", to: func(yes bool, p *proxy.Rules) { p.RequireBind = yes },
		},
		&rule[[]string]{
			name: "scope", as: aList(), of: func(r *Rules) *[]string { return &r.Scope },
			usage:   "what partitions the keys: header:NAME (header:X-Account-Id, say), host, claim:NAME (of a verified bearer token)",
			careful: true, fits: scopesByFields, made: scope,
		},
		&rule[[]string]{
			name: "earlier-scopes", as: aList(), of: func(r *Rules) *[]string { return &r.EarlierScopes },
			usage: "what scope was before, for as long as there may be records from then: keys are looked up and kept under those names " +
				"too; sources joined by + (header:X-Account-Id+host), none for no scope, v1: before it for names as they were made " +
				"before scopes were named",
			careful: true, made: earlierScopes,
		},
		&rule[string]{
			name: "jwks", as: aURLOrFile(), of: func(r *Rules) *string { return &r.JWKS },
			idle:  without("claim:NAME in scope", verifiesNothing),
			usage: "file or URL of the JSON Web Key Set that verifies tokens, for scope claim:NAME",
		},
		&rule[string]{
			name: "jwt-issuer", as: aText(), of: func(r *Rules) *string { return &r.JWTIssuer },
			idle:  without("claim:NAME in scope", verifiesNothing),
			usage: "issuer that tokens must have; empty for any",
		},
		&rule[string]{
			name: "jwt-audience", as: aText(), of: func(r *Rules) *string { return &r.JWTAudience },
			idle:  without("claim:NAME in scope", verifiesNothing),
			usage: "audience that tokens must have; empty for any",
		},
	}
}

// rulesOfWaiting are about how much may be under way, and what is replayed.
func rulesOfWaiting() []settingOfRules {
	return []settingOfRules{
		&rule[Meanwhile]{
			name: "in-progress", as: aMeanwhile(), of: func(r *Rules) *Meanwhile { return &r.InProgress },
			usage: "what a request does while its key is in progress: reject (409 at once, unless the client says Prefer: wait=N), " +
				"wait, or join (get what has come of the response, and the rest as it comes; wait where there is nothing to join)",
			fits: timeToWait, to: func(m Meanwhile, p *proxy.Rules) { p.Wait, p.Join = m == MeanwhileWait, m == MeanwhileJoin },
		},
		&rule[time.Duration]{
			name: "max-wait", as: aDuration(), of: func(r *Rules) *time.Duration { return &r.MaxWait },
			usage: "longest wait for a key in progress, also by Prefer: wait=N; 0 for none", def: 30 * time.Second,
			limit: fromZero("none", time.Hour), to: func(d time.Duration, p *proxy.Rules) { p.MaxWait = d },
		},
		&rule[int]{
			name: "max-per-caller", as: aCount(), of: func(r *Rules) *int { return &r.MaxPerCaller },
			usage: "most requests of one caller (a client certificate, else the values of bind) under way; further ones get " +
				"429; 0 for any",
			limit: fromZero("any", 1<<20), to: func(n int, p *proxy.Rules) { p.MaxPerCaller = n },
		},
		&rule[int]{
			name: "max-per-address", as: aCountOrSame(), of: func(r *Rules) *int { return &r.MaxPerAddress },
			usage: "most requests without a client certificate from one address (IPv6: from one /64) under way, whatever their " +
				"credentials; further ones get 429; same (as max-per-caller), 0 for any", def: SameAs,
			limit: sameOr(fromZero("any", 1<<20)),
			made:  func(r *Rules, p *proxy.Rules) error { p.MaxPerAddress = r.MostPerAddress(); return nil },
		},
		&rule[int]{
			name: "max-per-key", as: aCount(), of: func(r *Rules) *int { return &r.MaxPerKey },
			usage: "most requests with one key under way; further ones get 429; 0 for any",
			limit: fromZero("any", 1<<20), to: func(n int, p *proxy.Rules) { p.MaxPerKey = n },
		},
		&rule[[]string]{
			name: "not-replayed", as: aList(), of: func(r *Rules) *[]string { return &r.NotReplayed },
			usage: "response headers that replays leave out",
			def:   []string{"Set-Cookie"}, limit: anyOfThem("names of headers", isToken),
			to: func(all []string, p *proxy.Rules) { p.NotReplayed = all },
		},
	}
}

// followTheLease has a shorter lease renewed more often.
func followTheLease(r, above *Rules) {
	if r.LockTTL != above.LockTTL {
		r.Heartbeat = r.LockTTL / 3
	}
}

func lease() limit[time.Duration] { return from(100*time.Millisecond, time.Hour) }

func oftenEnough(r *Rules) string {
	if !lease().ok(r.LockTTL) {
		return "" // which is the mistake
	}
	if r.Heartbeat < time.Millisecond || r.Heartbeat > r.LockTTL/2 {
		return fmt.Sprintf("from 1ms to half of lock-ttl (%v), so that a renewal can fail once", r.LockTTL/2)
	}
	return ""
}

func timeToWait(r *Rules) string {
	if r.InProgress != MeanwhileReject && r.MaxWait <= 0 {
		return "a max-wait above 0 with it"
	}
	return ""
}

func statuses(r *Rules, p *proxy.Rules) (err error) {
	p.Policy.Statuses, err = idem.ParseStatuses(r.ReleaseStatuses, r.AmbiguousStatuses)
	return err
}

func keyFormat(r *Rules, p *proxy.Rules) (err error) {
	p.Keys, err = idem.ParseKeyFormat(r.KeyFormat, r.KeyMinLength)
	return err
}

// longKeys is about formats whose keys are all of one length.
func longKeys(r *Rules) (want string) {
	if length := map[string]int{"uuid": 36, "ulid": 26}[r.KeyFormat]; length > 0 && r.KeyMinLength > length {
		return fmt.Sprintf("at most %d, which is the length of a %s (key-format)", length, r.KeyFormat)
	}
	return ""
}

func fingerprint(r *Rules, p *proxy.Rules) (err error) {
	p.Fingerprint, err = operation.ParseFingerprint(r.Fingerprint)
	return err
}

func resolver(r *Rules, p *proxy.Rules) error {
	if r.Resolver == "" {
		return nil
	}
	made, err := proxy.NewHTTPResolver(r.Resolver, r.ResolverTimeout, int(r.MaxResponseBody))
	if err == nil {
		p.Resolver = made
	}
	return err
}

func receiptsWhereSettled(r *Rules) string {
	switch settles := r.OnAmbiguous == idem.AmbiguousSettle; {
	case settles && r.Receipts == "":
		return "receipts with it, the URL of the endpoint that it asks"
	case settles && r.DeriveKey > 0:
		return "no derive-key with it: a receipt would stand for every later request with the same payload"
	}
	return ""
}

// mostReceipt is the largest response that a receipt may have: more than what is kept of
// it, so that the client gets it, and its key ends.
const mostReceipt = 64 << 20

func receipts(r *Rules, p *proxy.Rules) error {
	if r.Receipts == "" {
		return nil
	}
	made, err := proxy.NewHTTPReceipts(r.Receipts, r.ReceiptsSecretFile, r.SettleWithin, max(mostReceipt, int(r.MaxResponseBody)))
	if err == nil {
		p.Receipts = made
	}
	return err
}

func scope(r *Rules, p *proxy.Rules) (err error) {
	p.Scope, err = caller.ParseScope(r.Scope)
	return err
}

func earlierScopes(r *Rules, p *proxy.Rules) (err error) {
	p.EarlierScopes, err = caller.ParseEarlierScopes(r.EarlierScopes)
	return err
}
