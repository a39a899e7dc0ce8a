// Package config is the configuration: one struct, filled from its defaults, a
// YAML file, the environment and flags, in that order, each setting by one name
// in three spellings (lock_ttl, IDEMPROXY_LOCK_TTL, --lock-ttl). All that is known
// of a setting stands in one line of a table (settings.go, rulelines.go,
// upstream.go), its place in the proxy's own Config too. Only app and cli know this
// package; no room that does work does.
package config

import (
	"time"
)

// Config is every setting. Durations and sizes have units when written: 30s,
// 1MiB.
type Config struct {
	// Listen are the addresses that clients connect to.
	Listen []string
	// Store is where records are kept: embedded:DIR, or a Redis or PostgreSQL URL.
	Store string
	// Admin is the address of metrics and health. Empty: none.
	Admin string

	// Rules are for the requests that no route matches.
	Rules
	// Routes have rules of their own; only a file can set them.
	Routes []Route
	// Upstream is where requests go unless their route says otherwise.
	Upstream
	// Upstreams are further ones, which routes can name; only a file can set them.
	Upstreams []NamedUpstream

	// MaxHeader is the largest request header. Every client connection holds a
	// buffer of that size.
	MaxHeader Size

	// TrustedProxies are the addresses and networks of those who may say where a
	// request came from.
	TrustedProxies []string
	// ProxyProtocol has trusted proxies begin each connection with a PROXY header.
	ProxyProtocol bool
	// ReusePort lets another process listen on the same port.
	ReusePort bool
	// MaxClients bounds clients' connections, MaxClientsPerIP those from one
	// address; 0: no bound.
	MaxClients, MaxClientsPerIP int
	// IdleTimeout, HeaderTimeout, BodyTimeout and SendTimeout bound how long a
	// client may be silent, send a header or a body, and take nothing of a
	// response.
	IdleTimeout, HeaderTimeout, BodyTimeout, SendTimeout time.Duration
	// BodyMinRate is how many bytes a second a body with a key must come in.
	BodyMinRate Size
	// Traceparent is what requests without one get: see message.ParseTraceparent.
	Traceparent string
	// OutcomesPath is where clients ask what became of their keys.
	OutcomesPath string
	// OTLP is the URL that spans are sent to; empty: none are made.
	OTLP string
	// EarlyHints passes interim responses on.
	EarlyHints bool

	// AcceptOrphans goes on with settings that lose records: see proxy.Plan.
	AcceptOrphans bool
	// StoreSchema is where a PostgreSQL store has its tables; StoreMigrate has them made,
	// or brought up to date, at the start.
	StoreSchema  string
	StoreMigrate bool
	// Namespace starts the name of every record in Redis.
	Namespace string
	// StoreTimeout bounds an operation of the store.
	StoreTimeout time.Duration
	// CacheSize bounds the responses kept in memory for replays.
	CacheSize Size
	// WaitReplicas is how many Redis replicas must have what is written.
	WaitReplicas Replicas
	// StoreJournal is for how long what Redis acknowledged is kept, to be asserted
	// after a failover; 0: not.
	StoreJournal time.Duration
	// StoreCA is a file of CA certificates for rediss:// and PostgreSQL.
	StoreCA string
	// StoreCert and StoreKey are PEM files of the certificate chain that a
	// rediss:// store is shown, and its key; empty: none is.
	StoreCert, StoreKey string
	// CompressFrom is the size from which responses are compressed in the store;
	// 0 for never.
	CompressFrom Size
	// EncryptionKeys is a file of keys for responses in the store.
	EncryptionKeys string
	// SecretFile is a file with the secret that fingerprints and identities are
	// hashed with, one a line: the first is used, the others are earlier ones.
	SecretFile string
	// TLSCert and TLSKey are PEM files of the certificate chain that clients are
	// shown, and its key; empty: plain text. TLSClientCA, if set, is a file of the
	// authorities that clients' certificates must come from.
	TLSCert, TLSKey, TLSClientCA string
	// AdminTokenFile has the token that keys and profiles are shown for; empty:
	// they are for this machine only.
	AdminTokenFile string
	// MaxInFlight bounds the requests under way.
	MaxInFlight int
	// MaxBuffered bounds the bytes of requests and responses with a key that are
	// in memory.
	MaxBuffered Size
	// MaxWaiters bounds the requests that wait for keys in progress.
	MaxWaiters int
	// SettleEvery is how often the store is looked through for attempts in doubt; 0:
	// never.
	SettleEvery time.Duration
	// CountEvery is how often the store is looked through for keys whose outcome is
	// unknown, to be counted; 0: never.
	CountEvery time.Duration
	// ReadyRequires are the checks that must hold for /readyz to say so.
	ReadyRequires []string
	// DrainDelay is how long requests are still taken after the process was asked
	// to stop, so that balancers notice.
	DrainDelay time.Duration
	// DrainTimeout bounds the wait for requests under way at shutdown, which are cut
	// then. 0: no bound.
	DrainTimeout time.Duration

	// LogLevel is the least severe level that is logged.
	LogLevel string
	// LogFormat is auto, console or json.
	LogFormat string
	// Demo starts the demo backend on the backend's address.
	Demo bool

	// Origin is where the settings came from; Load sets it.
	Origin Origin
}
