// Package config is the configuration: one struct, filled from its defaults, a
// YAML file, the environment and flags, in that order, each setting by one name
// in three spellings (lock_ttl, IDEMPROXY_LOCK_TTL, --lock-ttl). Only app knows
// this package; every other room has a small Config of its own.
package config

import (
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// Config is every setting. Durations and sizes have units when written: 30s,
// 1MiB.
type Config struct {
	// Listen is the address that clients connect to.
	Listen string
	// Backend is the origin that requests are forwarded to.
	Backend string
	// Store is where records are kept: embedded:DIR, or a Redis URL.
	Store string
	// Admin is the address of metrics and health. Empty: none.
	Admin string

	// LockTTL is how long a lease lasts unless renewed: how long a key stays
	// locked after its proxy has died.
	LockTTL time.Duration
	// Heartbeat is how often leases in flight are renewed. Below LockTTL.
	Heartbeat time.Duration
	// Retention is how long a response can be replayed, from its completion.
	Retention time.Duration
	// OnAmbiguous is what becomes of a key whose request may have executed.
	OnAmbiguous idem.Ambiguity

	// BackendTimeout bounds an exchange with the backend. 0: no bound.
	BackendTimeout time.Duration
	// ConnectTimeout bounds connecting to the backend.
	ConnectTimeout time.Duration
	// MaxConns bounds the connections to the backend.
	MaxConns int
	// MaxRequestBody is the largest body of a request with a key.
	MaxRequestBody Size
	// MaxResponseBody is the largest response that is kept.
	MaxResponseBody Size

	// MaxHeader is the largest request header. Every client connection holds a
	// buffer of that size.
	MaxHeader Size

	// RequireKey refuses requests without a key.
	RequireKey bool
	// Bind names the headers that say who asks.
	Bind []string
	// ScopeHeader names a header whose value partitions the keys.
	ScopeHeader string
	// NotReplayed names response headers that replays leave out.
	NotReplayed []string
	// TrustForwarded keeps the client's X-Forwarded-Proto and -Host.
	TrustForwarded bool

	// Namespace starts the name of every record in Redis.
	Namespace string
	// StoreTimeout bounds an operation of the Redis store.
	StoreTimeout time.Duration
	// CacheSize bounds the responses kept in memory for replays.
	CacheSize Size
	// DrainTimeout bounds the wait for requests under way at shutdown. 0: no
	// bound.
	DrainTimeout time.Duration

	// LogLevel is the least severe level that is logged.
	LogLevel string
	// LogFormat is auto, console or json.
	LogFormat string
	// Demo starts the demo backend on Backend's address.
	Demo bool
}

// Default is the configuration of a proxy that was told nothing.
func Default() Config {
	policy := idem.DefaultPolicy()
	return Config{
		Listen: ":8080", Backend: "http://127.0.0.1:9000", Store: "embedded:", Admin: "127.0.0.1:8081",
		LockTTL: policy.TTL, Heartbeat: policy.Heartbeat, Retention: policy.Retention, OnAmbiguous: policy.OnAmbiguous,
		ConnectTimeout: 5 * time.Second, MaxConns: 4096,
		MaxRequestBody: 1 << 20, MaxResponseBody: 1 << 20, MaxHeader: 16 << 10,
		Bind: []string{"Authorization"}, NotReplayed: []string{"Set-Cookie"},
		Namespace: "idem", StoreTimeout: 2 * time.Second, CacheSize: 64 << 20,
		LogLevel: "info", LogFormat: "auto",
	}
}
