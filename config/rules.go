package config

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/idem"
)

// Rules are the settings that a route may have of its own.
type Rules struct {
	// BackendTimeout bounds an exchange with the backend. 0: no bound.
	BackendTimeout time.Duration
	// LockTTL is how long a lease lasts unless renewed: how long a key stays
	// locked after its proxy has died.
	LockTTL time.Duration
	// Heartbeat is how often leases in flight are renewed. Below LockTTL.
	Heartbeat time.Duration
	// Retention is how long a response can be replayed, from its completion.
	Retention time.Duration
	// Remember is how long a completed key is known after that, without its response;
	// SameAs for as long as Retention.
	Remember time.Duration
	// OnAmbiguous is what becomes of a key whose request may have executed.
	OnAmbiguous idem.Ambiguity
	// ReleaseStatuses and AmbiguousStatuses are the statuses of responses that
	// are not kept: see idem.ParseStatuses.
	ReleaseStatuses, AmbiguousStatuses []string
	// KeyHeaders are the fields that carry the key.
	KeyHeaders []string
	// KeyFormat and KeyMinLength say which keys are taken: see
	// idem.ParseKeyFormat.
	KeyFormat    string
	KeyMinLength int
	// Fingerprint is what must not change between two uses of a key: see
	// operation.ParseFingerprint.
	Fingerprint []string
	// DeriveKey is how long a key lasts that is derived for a request without
	// one; 0 for none.
	DeriveKey time.Duration
	// DuplicateWindow is how long a payload is remembered, to notice it under
	// another key; RejectDuplicates refuses it then.
	DuplicateWindow  time.Duration
	RejectDuplicates bool
	// Resolver is a URL that is asked what became of a key whose outcome is
	// unknown; ResolverTimeout bounds that.
	Resolver        string
	ResolverTimeout time.Duration
	// FailOpen forwards unprotected what the store cannot answer for.
	FailOpen bool
	// FailStatus is the status of the refusal otherwise.
	FailStatus int
	// MaxRequestBody is the largest body of a request with a key.
	MaxRequestBody Size
	// MaxResponseBody is the largest response that is kept.
	MaxResponseBody Size
	// RequireKey refuses requests without a key whose method may change something.
	RequireKey bool
	// AllowAmbiguous takes targets that backends read in different ways.
	AllowAmbiguous bool
	// Bind names the headers that say who asks; RequireBind refuses requests with a
	// key that do not say.
	Bind        []string
	RequireBind bool
	// Scope is what partitions the keys: see caller.ParseScope. EarlierScopes is what
	// it was before: see caller.ParseEarlierScopes.
	Scope, EarlierScopes []string
	// JWKS is the file or URL of the keys that verify tokens for a scope of the
	// kind claim:NAME; JWTIssuer and JWTAudience must be those of the token.
	JWKS, JWTIssuer, JWTAudience string
	// Wait has a request wait while its key is in progress.
	Wait bool
	// MaxWait bounds such waiting, by "Prefer: wait=N" too.
	MaxWait time.Duration
	// MaxPerCaller, MaxPerAddress and MaxPerKey bound the requests of one caller,
	// from one address, or with one key, that are under way; 0: no bound.
	// MaxPerAddress may be SameAs: as many as MaxPerCaller.
	MaxPerCaller, MaxPerAddress, MaxPerKey int
	// NotReplayed names response headers that replays leave out.
	NotReplayed []string
}

// SameAs stands for what another setting says.
const SameAs = -1

// RememberFor is Remember, looked up.
func (r *Rules) RememberFor() time.Duration {
	if r.Remember == SameAs {
		return r.Retention
	}
	return r.Remember
}

// MostPerAddress is MaxPerAddress, looked up.
func (r *Rules) MostPerAddress() int {
	if r.MaxPerAddress == SameAs {
		return r.MaxPerCaller
	}
	return r.MaxPerAddress
}

// Route is a part of the traffic with rules of its own. What it does not set it
// has from the settings at large.
type Route struct {
	Rules
	// Name stands in logs and metrics; the place of the route in the file unless
	// set.
	Name string
	// Host, Path and Methods say which requests it is for: see proxy.Match.
	Host, Path string
	Methods    []string
	// Upstream names where its requests go; empty for the one at large.
	Upstream string

	origin Origin // where its settings came from
}

// bind binds the rules to flags.
func (r *Rules) bind(f *pflag.FlagSet) {
	f.DurationVar(&r.BackendTimeout, "backend-timeout", r.BackendTimeout,
		"bound of an exchange with the backend, from connecting to the end of the response; 0 for none")
	f.DurationVar(&r.LockTTL, "lock-ttl", r.LockTTL, "how long a key stays locked after its proxy died; from 100ms to 1h")
	f.DurationVar(&r.Heartbeat, "heartbeat", r.Heartbeat,
		"how often leases in flight are renewed; at most half of lock-ttl, a third of it unless set")
	f.DurationVar(&r.Retention, "retention", r.Retention,
		"how long a response can be replayed, from its completion; from 1s to 8760h")
	f.Var((*durationOrSame)(&r.Remember), "remember",
		"how long the key is known after that: a retry gets 410 and is not executed; same (as retention), 0 for not, to 87600h")
	f.Var((*ambiguity)(&r.OnAmbiguous), "on-ambiguous",
		"what becomes of a key whose request may have executed: release (a retry runs) or hold (until it is resolved)")
	f.StringSliceVar(&r.ReleaseStatuses, "release-statuses", r.ReleaseStatuses,
		"statuses, or classes such as 5xx, that say that nothing was done: the key is freed; all others are kept")
	f.StringSliceVar(&r.AmbiguousStatuses, "ambiguous-statuses", r.AmbiguousStatuses,
		"statuses, or classes, after which the request may have executed: see on-ambiguous")
	f.StringSliceVar(&r.KeyHeaders, "key-headers", r.KeyHeaders, "headers that carry the key; if several do, they must agree")
	f.StringVar(&r.KeyFormat, "key-format", r.KeyFormat,
		"which keys are taken: any, uuid, ulid, or a regular expression for the whole key")
	f.IntVar(&r.KeyMinLength, "key-min-length", r.KeyMinLength, "least length of a key, from 1 to 255")
	f.StringSliceVar(&r.Fingerprint, "fingerprint", r.Fingerprint,
		"what must not change between two uses of a key: method, target with its host (or path, without the query; any-host "+
			"besides, without the host), body with its media type (or json: in canonical form, RFC 8785; multipart: without its "+
			"boundary), header:NAME")
	f.DurationVar(&r.DeriveKey, "derive-key", r.DeriveKey,
		"how long a POST or PATCH without a key, of a caller that bind or a certificate knows, counts as a retry of the same payload; "+
			"0 for never")
	f.DurationVar(&r.DuplicateWindow, "duplicate-window", r.DuplicateWindow,
		"how long a caller's payload is remembered, to notice it under a second key; 0 for not")
	f.Var(&choice{&r.RejectDuplicates, "warn", "reject"}, "on-duplicate",
		"what then happens: warn (a response header) or reject (409)")
	f.StringVar(&r.Resolver, "resolver", r.Resolver,
		"URL that is asked what became of a key whose outcome is unknown: 200 with the response, 404 if it was not executed "+
			"and never will be; empty for none")
	f.DurationVar(&r.ResolverTimeout, "resolver-timeout", r.ResolverTimeout, "bound of asking the resolver")
	f.BoolVar(&r.FailOpen, "fail-open", r.FailOpen,
		"forward requests without protection when the store cannot answer: they may execute twice")
	f.IntVar(&r.FailStatus, "fail-status", r.FailStatus,
		"status of a request that is refused because the store cannot answer: 500, or 503 (with Retry-After)")
	f.Var(&r.MaxRequestBody, "max-request-body", "largest body of a request with a key; larger ones get 413")
	f.Var(&r.MaxResponseBody, "max-response-body",
		"largest response that is kept; larger ones are passed on and cannot be replayed")
	f.BoolVar(&r.RequireKey, "require-key", r.RequireKey,
		"refuse requests without a key whose method is not GET, HEAD, OPTIONS or TRACE")
	f.Var(&choice{&r.AllowAmbiguous, "refuse", "allow"}, "ambiguous-paths",
		"what becomes of targets that backends read in different ways (//, dot segments, semicolons, encoded delimiters), where a "+
			"route has a path: refuse (400) or allow")
	r.bindCallers(f)
	f.Var(&choice{&r.Wait, "reject", "wait"}, "in-progress",
		"what a request does while its key is in progress: reject (409 at once, unless the client says Prefer: wait=N) or wait")
	f.DurationVar(&r.MaxWait, "max-wait", r.MaxWait,
		"longest wait for a key in progress, also by Prefer: wait=N; 0 for none")
	r.bindBounds(f)
	f.StringSliceVar(&r.NotReplayed, "not-replayed", r.NotReplayed, "response headers that replays leave out")
}

// bindCallers binds what is about who asks, and for whom.
func (r *Rules) bindCallers(f *pflag.FlagSet) {
	f.StringSliceVar(&r.Bind, "bind", r.Bind,
		"headers that say who asks: the same key with other values is a mismatch")
	f.BoolVar(&r.RequireBind, "require-bind", r.RequireBind,
		"refuse requests with a key, also a derived one, that have none of those headers and no client certificate; otherwise all of "+
			"them are one caller")
	f.StringSliceVar(&r.Scope, "scope", r.Scope,
		"what partitions the keys: header:NAME (header:X-Account-Id, say), host, claim:NAME (of a verified bearer token)")
	f.StringSliceVar(&r.EarlierScopes, "earlier-scopes", r.EarlierScopes,
		"what scope was before, for as long as there may be records from then: keys are looked up and kept under those names too; "+
			"sources joined by + (header:X-Account-Id+host), none for no scope, v1: before it for names as they were made before "+
			"scopes were named")
	f.StringVar(&r.JWKS, "jwks", r.JWKS, "file or URL of the JSON Web Key Set that verifies tokens, for scope claim:NAME")
	f.StringVar(&r.JWTIssuer, "jwt-issuer", r.JWTIssuer, "issuer that tokens must have; empty for any")
	f.StringVar(&r.JWTAudience, "jwt-audience", r.JWTAudience, "audience that tokens must have; empty for any")
}

// bindBounds binds how much may be under way.
func (r *Rules) bindBounds(f *pflag.FlagSet) {
	f.IntVar(&r.MaxPerCaller, "max-per-caller", r.MaxPerCaller,
		"most requests of one caller (a client certificate, else the values of bind) under way; further ones get 429; 0 for any")
	f.Var((*countOrSame)(&r.MaxPerAddress), "max-per-address",
		"most requests without a client certificate from one address (IPv6: from one /64) under way, whatever their credentials; "+
			"further ones get 429; same (as max-per-caller), 0 for any")
	f.IntVar(&r.MaxPerKey, "max-per-key", r.MaxPerKey, "most requests with one key under way; further ones get 429; 0 for any")
}

// flags binds a route's settings, matching included.
func (r *Route) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("route", pflag.ContinueOnError)
	f.SortFlags = false
	f.StringVar(&r.Name, "name", r.Name, "what logs call the route")
	f.StringVar(&r.Host, "host", r.Host, "host that it is for, or *.example.com")
	f.StringVar(&r.Path, "path", r.Path,
		"path that it is for: exact, with any segment in a place (/users/{id}), or everything below one (/payments/*)")
	f.StringSliceVar(&r.Methods, "methods", r.Methods, "methods that it is for")
	f.StringVar(&r.Upstream, "upstream", r.Upstream, "name of the upstream that its requests go to")
	r.bind(f)
	return f
}

// durationOrSame is a duration, or SameAs.
type durationOrSame time.Duration

const wordSame = "same"

// String implements pflag.Value.
func (d *durationOrSame) String() string {
	if *d == SameAs {
		return wordSame
	}
	return time.Duration(*d).String()
}

// Set implements pflag.Value.
func (d *durationOrSame) Set(text string) error {
	if text == wordSame {
		*d = SameAs
		return nil
	}
	n, err := time.ParseDuration(text)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is neither %q nor a time such as 24h", text, wordSame)
	}
	*d = durationOrSame(n)
	return nil
}

// Type implements pflag.Value.
func (*durationOrSame) Type() string { return "duration" }

// countOrSame is a number, or SameAs.
type countOrSame int

// String implements pflag.Value.
func (n *countOrSame) String() string {
	if *n == SameAs {
		return wordSame
	}
	return strconv.Itoa(int(*n))
}

// Set implements pflag.Value.
func (n *countOrSame) Set(text string) error {
	if text == wordSame {
		*n = SameAs
		return nil
	}
	i, err := strconv.Atoi(text)
	if err != nil || i < 0 {
		return fmt.Errorf("%q is neither %q nor a number", text, wordSame)
	}
	*n = countOrSame(i)
	return nil
}

// Type implements pflag.Value.
func (*countOrSame) Type() string { return "int" }

// choice is a setting with two words to choose from.
type choice struct {
	to      *bool
	no, yes string
}

// String implements pflag.Value.
func (c *choice) String() string {
	if *c.to {
		return c.yes
	}
	return c.no
}

// Set implements pflag.Value.
func (c *choice) Set(text string) error {
	if text != c.no && text != c.yes {
		return fmt.Errorf("%q is neither %q nor %q", text, c.no, c.yes)
	}
	*c.to = text == c.yes
	return nil
}

// Type implements pflag.Value.
func (*choice) Type() string { return "policy" }
