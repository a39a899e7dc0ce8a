package config

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/upstream"
)

// EnvPrefix starts the name of every environment variable.
const EnvPrefix = "IDEMPROXY_"

// keyOf is a setting's name in a file, envOf in the environment.
func keyOf(name string) string { return strings.ReplaceAll(name, "-", "_") }
func envOf(name string) string { return EnvPrefix + strings.ToUpper(keyOf(name)) }

// Flags binds every setting of c to a flag.
func (c *Config) Flags() *pflag.FlagSet { return flagsOf("idemproxy", settings(), c) }

// Default is the configuration of a proxy that was told nothing.
func Default() Config {
	var c Config
	defaults(settings(), &c)
	return c
}

// large is a setting at large: what is neither a route's nor an upstream's. Those
// without a room in their line are for app, which has them from Config.
type large[T any] = line[Config, proxy.Config, T]

type settingAtLarge = setting[Config, proxy.Config]

// settings are all of them, in the order in which they are printed.
func settings() []settingAtLarge {
	return slices.Concat(listening(), settingsOfUpstreams(), storing(), settingsOfRules(), bounding(), ofClients(), ofRequests(),
		ofStores(), ofPostgres(), ofSecrets(), running())
}

func settingsOfUpstreams() []settingAtLarge {
	return partOf(ofUpstreams(), func(c *Config) *Upstream { return &c.Upstream },
		func(p *proxy.Config) *upstream.Config { return &p.Upstream })
}

func settingsOfRules() []settingAtLarge {
	return partOf(ofRules(), func(c *Config) *Rules { return &c.Rules }, func(p *proxy.Config) *proxy.Rules { return &p.Rules })
}

func listening() []settingAtLarge {
	return []settingAtLarge{
		&large[[]string]{
			name: "listen", as: addresses(), of: func(c *Config) *[]string { return &c.Listen },
			usage: "addresses that clients connect to: host:port, unix:/path, or fd:N of a socket that was handed over " +
				"(systemd's is fd:3)",
			def: []string{":8080"}, limit: eachOf("host:port, such as :8080, unix:/path or fd:N", math.MaxInt, isListen),
		},
		&large[string]{
			name: "tls-cert", as: aText(), of: func(c *Config) *string { return &c.TLSCert },
			usage: "PEM file of the certificate chain for clients; it is read again when it changes; empty for plain text",
		},
		&large[string]{
			name: "tls-key", as: aText(), of: func(c *Config) *string { return &c.TLSKey },
			usage: "PEM file of its key",
		},
		&large[string]{
			name: "tls-client-ca", as: aText(), of: func(c *Config) *string { return &c.TLSClientCA },
			usage:   "PEM file of the authorities that must have signed clients' certificates; empty: clients need no certificate",
			careful: true,
		},
	}
}

func storing() []settingAtLarge {
	return []settingAtLarge{
		&large[string]{
			name: "store", as: aURL(), of: func(c *Config) *string { return &c.Store },
			usage: "where records are kept: embedded:DIR (embedded: alone for the user's data directory), or a Redis URL: " +
				"redis://host:port/db, rediss://, unix://, with addr= for more nodes, master_set= for Sentinel; or a PostgreSQL URL: " +
				"postgres://user@host:port/database, host1:port,host2:port for more hosts",
			def: "embedded:", careful: true,
			limit: that("embedded:DIR, redis://host:port/db, rediss://, unix:// or postgres://user@host:port/database", isStore),
		},
		&large[string]{
			name: "admin", as: anAddress(), of: func(c *Config) *string { return &c.Admin },
			odd:   openToAll,
			usage: "address of metrics and health, host:port; empty for none",
			def:   "127.0.0.1:8081", limit: emptyOr("host:port, such as 127.0.0.1:8081", isAddr),
		},
		&large[string]{
			name: "admin-token-file", as: aText(), of: func(c *Config) *string { return &c.AdminTokenFile },
			idle:  without("admin", func(c *Config) bool { return c.Admin == "" }),
			usage: "file with a token of 16 bytes or more: who sends it may see and change keys; empty: only programs of this machine may",
		},
	}
}

func bounding() []settingAtLarge {
	return []settingAtLarge{
		&large[int]{
			name: "max-in-flight", as: aCount(), of: func(c *Config) *int { return &c.MaxInFlight },
			usage: "most requests under way; further ones get 503 at once",
			def:   8192, live: true, limit: from(1, 1<<20), to: func(n int, p *proxy.Config) { p.MaxInFlight = n },
		},
		&large[Size]{
			name: "max-buffered", as: aSize(), of: func(c *Config) *Size { return &c.MaxBuffered },
			usage: "most memory for bodies of requests with a key and for their responses; when it is used up, requests get 503",
			def:   256 << 20, live: true, to: func(n Size, p *proxy.Config) { p.MaxBuffered = int64(n) },
		},
		&large[Size]{
			name: "max-header", as: aSize(), of: func(c *Config) *Size { return &c.MaxHeader },
			usage: "largest request header; each client connection holds a buffer of that size; from 1KiB to 1MiB",
			def:   16 << 10, limit: from[Size](1<<10, 1<<20), to: func(n Size, p *proxy.Config) { p.MaxHeader = int(n) },
		},
	}
}

// ofClients are about clients and their connections.
func ofClients() []settingAtLarge {
	return []settingAtLarge{
		&large[int]{
			name: "max-clients", as: aCount(), of: func(c *Config) *int { return &c.MaxClients },
			usage: "most connections of clients; further ones get 503; unless it is set, no more than the limit of open files has " +
				"room for",
			def: 262_144, limit: from(1, 1<<24), to: func(n int, p *proxy.Config) { p.MaxClients = n },
		},
		&large[int]{
			name: "max-clients-per-ip", as: aCount(), of: func(c *Config) *int { return &c.MaxClientsPerIP },
			usage: "most connections from one address, or /64 of IPv6; further ones get 429; those of trusted-proxies do not count, but " +
				"with proxy-protocol those of the clients that these name; 0 for any",
			limit: fromZero("any", 1<<24), to: func(n int, p *proxy.Config) { p.MaxClientsPerIP = n },
		},
		&large[time.Duration]{
			name: "idle-timeout", as: aDuration(), of: func(c *Config) *time.Duration { return &c.IdleTimeout },
			usage: "how long a client's connection may be idle",
			def:   2 * time.Minute, limit: upToADay(), to: func(d time.Duration, p *proxy.Config) { p.IdleTimeout = d },
		},
		&large[time.Duration]{
			name: "header-timeout", as: aDuration(), of: func(c *Config) *time.Duration { return &c.HeaderTimeout },
			usage: "how long a request's header may take to arrive",
			def:   10 * time.Second, limit: upToADay(), to: func(d time.Duration, p *proxy.Config) { p.HeaderTimeout = d },
		},
		&large[Size]{
			name: "body-min-rate", as: aSizeOrZero(), of: func(c *Config) *Size { return &c.BodyMinRate },
			usage: "least bytes a second at which the body of a request with a key must arrive, after header-timeout has " +
				"passed; 0 for no limit",
			def: 240, limit: fromZero[Size]("any", 1<<30), to: func(n Size, p *proxy.Config) { p.BodyMinRate = int64(n) },
		},
		&large[time.Duration]{
			name: "body-timeout", as: aDuration(), of: func(c *Config) *time.Duration { return &c.BodyTimeout },
			usage: "how long a request's body may take to arrive",
			def:   time.Hour, limit: upToADay(), to: func(d time.Duration, p *proxy.Config) { p.BodyTimeout = d },
		},
		&large[time.Duration]{
			name: "send-timeout", as: aDuration(), of: func(c *Config) *time.Duration { return &c.SendTimeout },
			usage: "how long (up to twice that) a client may read nothing of its response; 0 for no limit",
			def:   time.Minute, limit: zeroOr("any time", 10*time.Millisecond, 24*time.Hour),
		},
	}
}

// ofRequests are about what comes with requests.
func ofRequests() []settingAtLarge {
	return []settingAtLarge{
		&large[[]string]{
			name: "trusted-proxies", as: aList(), of: func(c *Config) *[]string { return &c.TrustedProxies },
			odd: trustsAll,
			usage: "addresses or networks (10.0.0.0/8) of the proxies in front: this proxy believes their X-Forwarded-*, " +
				"X-Real-IP, CF-Connecting-IP, Forwarded and similar fields, and removes those of others",
			live: true, limit: that("addresses, or networks such as 10.0.0.0/8", arePrefixes), made: trust,
		},
		&large[bool]{
			name: "proxy-protocol", as: aSwitch(), of: func(c *Config) *bool { return &c.ProxyProtocol },
			usage: "trusted proxies begin each connection with a PROXY header (v1 or v2); others may not connect",
		},
		&large[bool]{
			name: "reuse-port", as: aSwitch(), of: func(c *Config) *bool { return &c.ReusePort },
			usage: "let other processes listen on the same port (SO_REUSEPORT)",
		},
		&large[bool]{
			name: "early-hints", as: aSwitch(), of: func(c *Config) *bool { return &c.EarlyHints },
			usage: "pass interim responses (103) on to clients; costs pipelining clients a little",
			to:    func(yes bool, p *proxy.Config) { p.EarlyHints = yes },
		},
		&large[string]{
			name: "outcomes-path", as: aText(), of: func(c *Config) *string { return &c.OutcomesPath },
			idle:  without("outcomes or respond-async", func(c *Config) bool { return !c.tellsOutcomes() }),
			usage: "path where clients ask what became of their keys (outcomes, respond-async); it does not reach backends then",
			def:   "/.idemproxy/outcomes", live: true, limit: that("a path without a query, such as /.idemproxy/outcomes", isBarePath),
			to: func(s string, p *proxy.Config) { p.OutcomesPath = s },
		},
		&large[string]{
			name: "traceparent", as: aText(), of: func(c *Config) *string { return &c.Traceparent },
			usage: "what the proxy does for a request without a traceparent: pass (it adds none), sampled or unsampled (it " +
				"adds one that says so)",
			def: "pass", limit: oneOf("pass", "sampled", "unsampled"), made: traceparent,
		},
		&large[string]{
			name: "otlp", as: aURL(), of: func(c *Config) *string { return &c.OTLP },
			usage: "URL that a span of each request is sent to (OpenTelemetry, OTLP over HTTP): http://host:4318/v1/traces; empty for " +
				"none; only in binaries built with -tags otel",
			limit: emptyOr("http://host:4318/v1/traces", isHTTP),
		},
	}
}

// ofPostgres are about a PostgreSQL store.
func ofPostgres() []settingAtLarge {
	return []settingAtLarge{
		&large[string]{
			name: "store-schema", as: aText(), of: func(c *Config) *string { return &c.StoreSchema },
			idle:  without("a PostgreSQL store", notPostgres),
			usage: "schema of a PostgreSQL store's tables: services that share a database have one each", def: "idemproxy", careful: true,
			limit: that("a name of at most 40 of a-z, 0-9 and _", isSchema),
		},
		&large[bool]{
			name: "store-migrate", as: aSwitch(), of: func(c *Config) *bool { return &c.StoreMigrate },
			idle: without("a PostgreSQL store", notPostgres),
			usage: "make a PostgreSQL store's tables at the start, or bring them up to date, if they are not; the role needs the right " +
				"to. Without it: idemproxy migrate", def: true,
		},
	}
}

// ofStores are about what is kept, and how.
func ofStores() []settingAtLarge {
	return []settingAtLarge{
		&large[string]{
			name: "namespace", as: aText(), of: func(c *Config) *string { return &c.Namespace },
			idle:  without("a Redis store", notRedis),
			usage: "start of every record's name in Redis", def: "idem", careful: true,
			limit: that("one word without braces, which would move every record into one slot of a Redis Cluster", isWord),
		},
		&large[bool]{
			name: "accept-orphans", as: aSwitch(), of: func(c *Config) *bool { return &c.AcceptOrphans },
			usage: "start, once, with settings that make orphans: completed or held keys that are not found any more, so that " +
				"their retries execute again", live: true,
		},
		&large[time.Duration]{
			name: "store-timeout", as: aDuration(), of: func(c *Config) *time.Duration { return &c.StoreTimeout },
			usage: "time limit of a store operation, after which requests with keys are refused; also for the embedded store, " +
				"whose disk may hang",
			def: 2 * time.Second, fits: belowTheLease, // and that by far, if it was not set
			unset: func(c, _ *Config) { c.StoreTimeout = min(c.StoreTimeout, c.LockTTL/2) },
		},
		&large[Replicas]{
			name: "wait-replicas", as: aNumberOfReplicas(), of: func(c *Config) *Replicas { return &c.WaitReplicas },
			usage: "how many Redis replicas must have a lease, a response or a hold before it counts, or all (as many as the primary " +
				"was seen to have); with fewer, requests are refused",
			limit: that("all, or from 0 to 100", func(n Replicas) bool { return AllReplicas <= n && n <= 100 }),
		},
		&large[time.Duration]{
			name: "store-journal", as: aDuration(), of: func(c *Config) *time.Duration { return &c.StoreJournal },
			idle: without("a Redis store", notRedis),
			usage: "how long the proxy keeps in memory what Redis acknowledged, to restore it on the next primary after a " +
				"failover; 0 to turn this off",
			def: time.Minute, limit: zeroOr("none", time.Second, time.Hour),
		},
		&large[string]{
			name: "store-ca", as: aText(), of: func(c *Config) *string { return &c.StoreCA },
			idle:  without("a rediss:// or PostgreSQL store", embedded),
			usage: "file of CA certificates (PEM) for a rediss:// or PostgreSQL store; empty for the system's, or what the URL says",
		},
		&large[string]{
			name: "store-cert", as: aText(), of: func(c *Config) *string { return &c.StoreCert },
			idle: without("a rediss:// or PostgreSQL store", embedded),
			usage: "PEM file of the client certificate for a rediss:// or PostgreSQL store; it is read again for each " +
				"connection; empty for none",
		},
		&large[string]{
			name: "store-key", as: aText(), of: func(c *Config) *string { return &c.StoreKey },
			idle:  without("a rediss:// or PostgreSQL store", embedded),
			usage: "PEM file of its key",
		},
		&large[Size]{
			name: "cache-size", as: aSize(), of: func(c *Config) *Size { return &c.CacheSize },
			usage: "most memory for responses that are replayed without asking the store", def: 64 << 20,
		},
		&large[Size]{
			name: "compress-from", as: aSizeOrZero(), of: func(c *Config) *Size { return &c.CompressFrom },
			usage: "size from which responses are compressed in the store; 0 for never",
		},
	}
}

// ofSecrets are about what responses and identities are hidden by.
func ofSecrets() []settingAtLarge {
	return []settingAtLarge{
		&large[string]{
			name: "encryption-keys", as: aText(), of: func(c *Config) *string { return &c.EncryptionKeys },
			usage: "file of AES-256 keys for responses in the store, NAME:BASE64 a line, the first for writing; empty for none",
		},
		&large[string]{
			name: "secret-file", as: aText(), of: func(c *Config) *string { return &c.SecretFile },
			usage: "file with a secret of 16 bytes or more for the hashes of requests and callers; earlier secrets, with which " +
				"records are still compared, are on further lines; empty for none", careful: true,
		},
	}
}

// running are about the process.
func running() []settingAtLarge {
	return []settingAtLarge{
		&large[int]{
			name: "max-waiters", as: aCount(), of: func(c *Config) *int { return &c.MaxWaiters },
			usage: "most requests that wait for keys in progress; further ones get 409", def: 10_000, limit: from(1, 1<<20),
		},
		&large[time.Duration]{
			name: "settle-every", as: aDuration(), of: func(c *Config) *time.Duration { return &c.SettleEvery },
			usage: "how often the proxy looks through all records for attempts in doubt that a dead process left " +
				"(on-ambiguous: settle); 0 for never", def: 10 * time.Minute, limit: zeroOr("never", 100*time.Millisecond, 24*time.Hour),
			to: func(d time.Duration, p *proxy.Config) { p.SettleEvery = d },
		},
		&large[time.Duration]{
			name: "count-every", as: aDuration(), of: func(c *Config) *time.Duration { return &c.CountEvery },
			usage: "how often one of the proxies that share a store looks through all records, to count the keys whose outcome " +
				"is unknown (idemproxy_unknown_keys); it spends a twentieth of its time on this at most; 0 for never",
			def: time.Minute, limit: zeroOr("never", time.Second, 24*time.Hour),
		},
		&large[[]string]{
			name: "ready-requires", as: aList(), of: func(c *Config) *[]string { return &c.ReadyRequires },
			usage: "which checks must pass for /readyz to say 200: store, backend, upstream:NAME, or all; empty: the proxy can " +
				"serve something (docs/readiness.md)",
			live: true, limit: anyOfThem("store, backend, upstream:NAME or all", isCheck), fits: ofUpstreamsThere,
		},
		&large[time.Duration]{
			name: "drain-delay", as: aDuration(), of: func(c *Config) *time.Duration { return &c.DrainDelay },
			usage: "how long requests are still taken after the signal to stop, /readyz saying no, so that balancers go elsewhere",
			live:  true, limit: fromZero("none", time.Hour),
		},
		&large[time.Duration]{
			name: "drain-timeout", as: aDuration(), of: func(c *Config) *time.Duration { return &c.DrainTimeout },
			usage: "most time for requests under way at shutdown, after which they are cut; 0 waits for all",
			// None unless set: a request with a key that is cut may execute again with its retry.
			live: true, limit: zeroOrMore[time.Duration]("waits for all"),
		},
		&large[string]{
			name: "log-level", as: aText(), of: func(c *Config) *string { return &c.LogLevel },
			usage: "debug, info, warn or error; keys are readable at debug only",
			def:   "info", limit: oneOf("debug", "info", "warn", "error"),
		},
		&large[string]{
			name: "log-format", as: aText(), of: func(c *Config) *string { return &c.LogFormat },
			usage: "auto (console on a terminal, else json), console or json",
			def:   "auto", limit: oneOf("auto", "console", "json"),
		},
		&large[bool]{
			name: "demo", as: aSwitch(), of: func(c *Config) *bool { return &c.Demo },
			usage: "start the demo backend on the backend's address", fits: aPlaceForTheDemo,
		},
	}
}

func upToADay() limit[time.Duration] { return from(time.Millisecond, 24*time.Hour) }

func belowTheLease(c *Config) string {
	if !lease().ok(c.LockTTL) {
		return "" // which is the mistake
	}
	if l := from(10*time.Millisecond, time.Minute); !l.ok(c.StoreTimeout) || c.StoreTimeout >= c.LockTTL {
		return fmt.Sprintf("%s, and below lock-ttl (%v)", l.want, c.LockTTL)
	}
	return ""
}

func aPlaceForTheDemo(c *Config) string {
	if c.Demo && (len(c.Backends) != 1 || !strings.HasPrefix(c.Backends[0], "http://")) {
		return "exactly one backend, http://host:port: the demo backend listens there"
	}
	return ""
}

func trust(c *Config, p *proxy.Config) (err error) {
	p.TrustedProxies, err = ParsePrefixes(c.TrustedProxies)
	return err
}

func traceparent(c *Config, p *proxy.Config) (err error) {
	p.Traceparent, err = message.ParseTraceparent(c.Traceparent)
	return err
}

func arePrefixes(texts []string) bool {
	_, err := ParsePrefixes(texts)
	return err == nil
}

func isHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func isWord(s string) bool { return s != "" && !strings.ContainsAny(s, "{} \t\r\n") }
