package config

import (
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
)

// Rules are the settings that a route may have of its own.
type Rules struct {
	// Preset names the API whose clients the route is for; empty for none.
	Preset string
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
	// Key is where else keys are: see operation.ParseSources. KeyMethods are the methods
	// for which they count, none for all. LenientKey takes a body that cannot be read for
	// one without a key.
	Key, KeyMethods []string
	LenientKey      bool
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
	// Receipts is the URL of the backend's endpoint that settles what is in doubt,
	// ReceiptsSecretFile has what is shown to it. A request waits for it up to
	// SettleWithin, and is forwarded again up to SettleAttempts times after it was voided.
	Receipts, ReceiptsSecretFile string
	SettleWithin                 time.Duration
	SettleAttempts               int
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
	// InProgress is what a request does while its key is in progress.
	InProgress Meanwhile
	// MaxWait bounds such waiting, by "Prefer: wait=N" too.
	MaxWait time.Duration
	// MaxPerCaller, MaxPerAddress and MaxPerKey bound the requests of one caller,
	// from one address, or with one key, that are under way; 0: no bound.
	// MaxPerAddress may be SameAs: as many as MaxPerCaller.
	MaxPerCaller, MaxPerAddress, MaxPerKey int
	// Stream has responses passed on as they come while they are recorded, those of unknown
	// length and those above StreamAbove. ReadOn is how long one goes on without clients.
	Stream      bool
	StreamAbove Size
	ReadOn      time.Duration
	// Outcomes lets clients ask what became of their keys; RespondAsync answers 202 to
	// those that prefer it, and lets them ask. Expose has first answers say what they
	// promise.
	Outcomes, RespondAsync, Expose bool
	// NotReplayed names response headers that replays leave out.
	NotReplayed []string
	// Observe has requests only observed. Enforce is the share of keys that are not.
	Observe bool
	Enforce Percent
	// ErrorsAs is the form of the route's own errors, MismatchStatus and InProgressStatus
	// are those of a key used for something else and of one in progress; ReplayMarker is a
	// header of replays.
	ErrorsAs                         string
	MismatchStatus, InProgressStatus int
	ReplayMarker                     string
	// CORSOrigins and those that follow say which scripts in browsers may send
	// requests and read answers: see proxy.CORS.
	CORSOrigins, CORSMethods, CORSHeaders, CORSExpose []string
	CORSCredentials                                   bool
	CORSMaxAge                                        time.Duration
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

type routeSetting = setting[Route, proxy.Route]

// ofRoute are the settings of one of routes.
func ofRoute() []setting[Route, proxy.Route] {
	type matching = line[Route, proxy.Route, string]
	return slices.Concat([]setting[Route, proxy.Route]{
		&matching{
			name: "name", as: aText(), of: func(r *Route) *string { return &r.Name },
			usage: "what logs call the route", to: func(s string, p *proxy.Route) { p.Name = s },
		},
		&matching{
			name: "host", as: aText(), of: func(r *Route) *string { return &r.Host },
			usage: "host that it is for, or *.example.com", to: func(s string, p *proxy.Route) { p.Match.Host = s },
		},
		&matching{
			name: "path", as: aText(), of: func(r *Route) *string { return &r.Path },
			usage: "path that it is for: exact, with any segment in a place (/users/{id}), or everything below one (/payments/*)",
			to:    func(s string, p *proxy.Route) { p.Match.Path = s },
		},
		&line[Route, proxy.Route, []string]{
			name: "methods", as: aList(), of: func(r *Route) *[]string { return &r.Methods },
			usage: "methods that it is for", to: func(all []string, p *proxy.Route) { p.Match.Methods = all },
		},
		&matching{
			name: "upstream", as: aText(), of: func(r *Route) *string { return &r.Upstream },
			usage: "name of the upstream that its requests go to", to: func(s string, p *proxy.Route) { p.Rules.Upstream = s },
		},
	}, partOf(ofRules(), func(r *Route) *Rules { return &r.Rules }, func(p *proxy.Route) *proxy.Rules { return &p.Rules }))
}

func (r *Route) flags() *pflag.FlagSet { return flagsOf("route", ofRoute(), r) }
