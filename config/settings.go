package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/idem"
)

// EnvPrefix starts the name of every environment variable.
const EnvPrefix = "IDEMPROXY_"

// Flags binds every setting of c to a flag. This list is the only one: the
// environment, the YAML file and the documentation are read off it.
func (c *Config) Flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("idemproxy", pflag.ContinueOnError)
	f.SortFlags = false
	f.StringSliceVar(&c.Listen, "listen", c.Listen,
		"addresses that clients connect to: host:port, unix:/path, or fd:N of a socket that was handed over (systemd's is fd:3)")
	f.StringVar(&c.TLSCert, "tls-cert", c.TLSCert,
		"PEM file of the certificate chain that clients are shown, read anew when it changes; empty: plain text")
	f.StringVar(&c.TLSKey, "tls-key", c.TLSKey, "PEM file of its key")
	f.StringVar(&c.TLSClientCA, "tls-client-ca", c.TLSClientCA,
		"PEM file of the authorities that clients' certificates must come from; empty: clients need none")
	c.Upstream.bind(f)
	f.StringVar(&c.Store, "store", c.Store,
		"where records are kept: embedded:DIR (embedded: alone for the user's data directory), or a Redis URL: "+
			"redis://host:port/db, rediss://, unix://, with addr= for more nodes, master_set= for Sentinel")
	f.StringVar(&c.Admin, "admin", c.Admin, "address of metrics and health, host:port; empty for none")
	f.StringVar(&c.AdminTokenFile, "admin-token-file", c.AdminTokenFile,
		"file with a token of 16 bytes or more that keys and profiles are shown for; empty: over loopback only")
	c.Rules.bind(f)
	f.IntVar(&c.MaxInFlight, "max-in-flight", c.MaxInFlight,
		"most requests under way; further ones get 503 at once")
	f.Var(&c.MaxBuffered, "max-buffered",
		"most memory for bodies of requests with a key and their responses; while there is more, requests get 503")
	f.Var(&c.MaxHeader, "max-header",
		"largest request header; each client connection holds a buffer of that size; from 1KiB to 1MiB")
	c.bindClients(f)
	f.StringVar(&c.Namespace, "namespace", c.Namespace, "start of every record's name in Redis")
	f.BoolVar(&c.AcceptOrphans, "accept-orphans", c.AcceptOrphans,
		"go on, once, with settings that make orphans: completed or held keys that are not found any more, whose retries execute again")
	f.DurationVar(&c.StoreTimeout, "store-timeout", c.StoreTimeout,
		"bound of a store operation, and so of failing closed; of the embedded store too, whose disk may hang")
	f.Var(&c.WaitReplicas, "wait-replicas",
		"how many Redis replicas must have a lease, a response or a hold before it counts, or all (as many as the primary was seen "+
			"to have); with fewer, requests are refused")
	f.DurationVar(&c.StoreJournal, "store-journal", c.StoreJournal,
		"how long it is kept in memory what a Redis store acknowledged, to tell the next primary after a failover; 0 for not")
	f.StringVar(&c.StoreCA, "store-ca", c.StoreCA, "file of CA certificates (PEM) for a rediss:// store; empty for the system's")
	f.StringVar(&c.StoreCert, "store-cert", c.StoreCert,
		"PEM file of the certificate chain that a rediss:// store is shown, read anew for each connection; empty for none")
	f.StringVar(&c.StoreKey, "store-key", c.StoreKey, "PEM file of its key")
	f.Var(&c.CacheSize, "cache-size", "most memory for responses that are replayed without asking the store")
	f.Var((*sizeOrNone)(&c.CompressFrom), "compress-from", "size from which responses are compressed in the store; 0 for never")
	f.StringVar(&c.EncryptionKeys, "encryption-keys", c.EncryptionKeys,
		"file of AES-256 keys for responses in the store, NAME:BASE64 a line, the first for writing; empty for none")
	f.StringVar(&c.SecretFile, "secret-file", c.SecretFile,
		"file with a secret of 16 bytes or more that fingerprints and identities are hashed with; empty for none; earlier ones, by "+
			"which records are still compared, on further lines")
	f.IntVar(&c.MaxWaiters, "max-waiters", c.MaxWaiters, "most requests that wait for keys in progress; further ones get 409")
	f.DurationVar(&c.DrainDelay, "drain-delay", c.DrainDelay,
		"how long requests are still taken after the signal to stop, /readyz saying no, so that balancers go elsewhere")
	f.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "most time for requests under way at shutdown; 0 waits for all")
	f.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error; keys are readable at debug only")
	f.StringVar(&c.LogFormat, "log-format", c.LogFormat, "auto (console on a terminal, else json), console or json")
	f.BoolVar(&c.Demo, "demo", c.Demo, "start the demo backend on the backend's address")
	return f
}

// bindClients binds what is about clients and their requests.
func (c *Config) bindClients(f *pflag.FlagSet) {
	f.IntVar(&c.MaxClients, "max-clients", c.MaxClients, "most connections of clients; further ones get 503")
	f.IntVar(&c.MaxClientsPerIP, "max-clients-per-ip", c.MaxClientsPerIP,
		"most connections from one address; further ones get 429; 0 for any")
	f.DurationVar(&c.IdleTimeout, "idle-timeout", c.IdleTimeout, "how long a client's connection may be idle")
	f.DurationVar(&c.HeaderTimeout, "header-timeout", c.HeaderTimeout, "how long a request's header may take to arrive")
	f.Var(&c.BodyMinRate, "body-min-rate",
		"bytes a second in which the body of a request with a key must arrive, after header-timeout of grace; 0 for any")
	f.DurationVar(&c.BodyTimeout, "body-timeout", c.BodyTimeout, "how long a request's body may take to arrive")
	f.DurationVar(&c.SendTimeout, "send-timeout", c.SendTimeout,
		"how long, to twice that, a client may take nothing of its response; 0 for any time")
	f.StringSliceVar(&c.TrustedProxies, "trusted-proxies", c.TrustedProxies,
		"addresses or networks (10.0.0.0/8) of the proxies in front, which are believed what they say of where a request "+
			"came from: X-Forwarded-*, X-Real-IP, Forwarded and their like; of others that is thrown away")
	f.BoolVar(&c.ProxyProtocol, "proxy-protocol", c.ProxyProtocol,
		"trusted proxies begin each connection with a PROXY header (v1 or v2); others may not connect")
	f.BoolVar(&c.ReusePort, "reuse-port", c.ReusePort, "let other processes listen on the same port (SO_REUSEPORT)")
	f.BoolVar(&c.EarlyHints, "early-hints", c.EarlyHints,
		"pass interim responses (103) on to clients; costs pipelining clients a little")
	f.StringVar(&c.Traceparent, "traceparent", c.Traceparent,
		"what requests without a traceparent get: pass (none), sampled or unsampled (one that says so to the backend)")
	f.StringVar(&c.OTLP, "otlp", c.OTLP,
		"URL that a span of each request is sent to (OpenTelemetry, OTLP over HTTP): http://host:4318/v1/traces; empty for none; "+
			"only in binaries built with -tags otel")
}

// Size is a number of bytes, written with a unit: 64KiB, 1MiB.
type Size int64

// String implements pflag.Value.
func (s *Size) String() string {
	return strings.NewReplacer(" ", "", ".0 ", "").Replace(humanize.IBytes(uint64(*s))) //nolint:gosec // never negative, see Set
}

// Set implements pflag.Value.
func (s *Size) Set(text string) error {
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > 1<<40 {
		return fmt.Errorf("%q is not a size from 1B to 1TiB, such as 64KiB or 1MiB", text)
	}
	*s = Size(n)
	return nil
}

// Type implements pflag.Value.
func (*Size) Type() string { return "size" }

// Replicas is a number of replicas, or AllReplicas.
type Replicas int

// AllReplicas is written "all".
const AllReplicas Replicas = -1

// String implements pflag.Value.
func (r *Replicas) String() string {
	if *r == AllReplicas {
		return "all"
	}
	return strconv.Itoa(int(*r))
}

// Set implements pflag.Value.
func (r *Replicas) Set(text string) error {
	if text == "all" {
		*r = AllReplicas
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 100 {
		return fmt.Errorf("%q is not a number from 0 to 100, nor all", text)
	}
	*r = Replicas(n)
	return nil
}

// Type implements pflag.Value.
func (*Replicas) Type() string { return "replicas" }

// sizeOrNone is a Size that may be 0.
type sizeOrNone Size

// String implements pflag.Value.
func (s *sizeOrNone) String() string {
	if *s == 0 {
		return "0"
	}
	return (*Size)(s).String()
}

// Set implements pflag.Value.
func (s *sizeOrNone) Set(text string) error {
	if text == "0" {
		*s = 0
		return nil
	}
	return (*Size)(s).Set(text)
}

// Type implements pflag.Value.
func (*sizeOrNone) Type() string { return "size" }

// ambiguity is idem.Ambiguity as a flag.
type ambiguity idem.Ambiguity

// String implements pflag.Value.
func (a *ambiguity) String() string { return idem.Ambiguity(*a).String() }

// Set implements pflag.Value.
func (a *ambiguity) Set(text string) error {
	return (*idem.Ambiguity)(a).UnmarshalText([]byte(text))
}

// Type implements pflag.Value.
func (*ambiguity) Type() string { return "policy" }
