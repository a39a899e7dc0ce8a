// Package metrics is everything that IdemProxy counts: names, help, labels and
// buckets. It knows no other room; app plugs its collectors into their traces.
// No label grows with traffic.
package metrics

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics holds the collectors, unregistered.
type Metrics struct {
	// Requests counts requests by outcome (proxy.Outcome) and route.
	Requests *prometheus.CounterVec
	// Would counts requests that were only observed, by what would have become of them
	// (proxy.Would) and route; WouldHold those after which the key would have been held.
	Would, WouldHold *prometheus.CounterVec
	// StreamsEnded counts responses that were passed on while they were recorded, by ending.
	StreamsEnded *prometheus.CounterVec
	// AsyncEnded counts what was executed after its client had got 202, by outcome.
	AsyncEnded *prometheus.CounterVec
	// RequestSeconds is the time from a request's header to its answer.
	RequestSeconds prometheus.Histogram
	// BackendSeconds is the time spent forwarding.
	BackendSeconds prometheus.Histogram
	// Contentions counts acquires that met a running request.
	Contentions prometheus.Counter
	// CacheHits counts replays by where the record was found: local, store.
	CacheHits *prometheus.CounterVec
	// CacheMisses counts acquires of new keys.
	CacheMisses prometheus.Counter
	// LeasesInFlight is how many leases this process holds.
	LeasesInFlight prometheus.Gauge
	// Renewals counts leases renewed by the watchdog.
	Renewals prometheus.Counter
	// LeasesLost counts leases that turned out not to be ours any more.
	LeasesLost prometheus.Counter
	// Releases counts keys freed without a response, by cause.
	Releases *prometheus.CounterVec
	// Held counts keys left unknown.
	Held prometheus.Counter
	// Stored and StoredBytes count responses kept for replays.
	Stored, StoredBytes prometheus.Counter
	// StoreSeconds is the time that a store operation took, by operation.
	StoreSeconds *prometheus.HistogramVec
	// StoreErrors counts store operations that failed, by operation.
	StoreErrors *prometheus.CounterVec
	// Cut counts responses that broke off while they were passed on.
	Cut prometheus.Counter
	// Waiters are the requests that wait for a key in progress.
	Waiters prometheus.Gauge
	// Resolved counts unknown keys that a resolver or an operator ended, as
	// completed or released.
	Resolved *prometheus.CounterVec
	// Settlements counts attempts in doubt of which the backend was asked while the client
	// waited, by what it said.
	Settlements *prometheus.CounterVec
	// NoReceipts counts responses on routes of on_ambiguous: settle of which the backend
	// did not say that it keeps a receipt.
	NoReceipts prometheus.Counter
	// Unsettled are the attempts in doubt that this process asks backends about.
	Unsettled prometheus.Gauge
	// LeftUnsettled counts attempts in doubt that were left in the store, unasked about.
	LeftUnsettled prometheus.Counter
	// ReceiptsAsked counts questions to endpoints for receipts, as answered or failed.
	ReceiptsAsked *prometheus.CounterVec
	// Looks counts looks through the store for attempts in doubt, as done or failed;
	// LookSeconds is how long the last one took.
	Looks       *prometheus.CounterVec
	LookSeconds prometheus.Gauge
	// Deferred counts endings that the store could not take at once; Dropped
	// those that it never took.
	Deferred, Dropped prometheus.Counter
	// Refused counts connections that were closed before a request was read, by reason.
	Refused *prometheus.CounterVec
	// BackendsDown is 1 for a backend that is left out, by upstream and backend.
	BackendsDown *prometheus.GaugeVec
	// Reloads counts reloads of the settings, as done or failed; ReloadDone is 1 unless the
	// last one failed.
	Reloads    *prometheus.CounterVec
	ReloadDone prometheus.Gauge
	// UnknownKeys are the keys of the whole store whose outcome is unknown, UnknownOldest the
	// seconds since the first request with the oldest of them, and UnknownCounted when they
	// were counted, in Unix seconds. All are NaN until that was done.
	UnknownKeys, UnknownOldest, UnknownCounted prometheus.Gauge
	// StoreUp is 1 while the store answers. StoreEmptied counts how often it was found to
	// have lost its records.
	StoreUp      prometheus.Gauge
	StoreEmptied prometheus.Counter
	// Build is 1, labelled with the version.
	Build *prometheus.GaugeVec
}

// New makes the collectors.
func New() *Metrics {
	return &Metrics{
		Requests: counterVec("requests_total", "Requests, by outcome and by route; default if no route matched.",
			"outcome", "route"),
		Would: counterVec("would_total",
			"Requests that were only observed (mode, enforce), by what enforce would have done, and by route.", "would", "route"),
		WouldHold: counterVec("would_hold_total",
			"Requests that were only observed after which the key would have been held, by route.", "route"),
		StreamsEnded: counterVec("streams_ended_total",
			"Responses that were passed on as they came (stream_responses), by how their attempts ended.", "ending"),
		AsyncEnded: counterVec("async_ended_total",
			"Executions that ended after their client had got 202 (respond_async), by outcome.", "outcome"),
		RequestSeconds: histogram("request_duration_seconds", "Time from a request's header to its answer."),
		BackendSeconds: histogram("backend_duration_seconds", "Time spent forwarding a request under a lease."),
		Contentions:    counter("lock_contentions_total", "Requests whose key was in progress."),
		CacheHits:      counterVec("cache_hits_total", "Replays, by where the record was found.", "source"),
		CacheMisses:    counter("cache_misses_total", "Keys that had no record and were acquired."),
		LeasesInFlight: gauge("leases_in_flight", "Leases that this process holds."),
		Waiters:        gauge("waiters", "Requests that wait for a key in progress."),
		Renewals:       counter("lease_renewals_total", "Leases renewed by the watchdog."),
		LeasesLost:     counter("leases_lost_total", "Leases that were found to be lost. Each may be a double execution."),
		Releases:       counterVec("releases_total", "Keys freed without a response, by cause.", "cause"),
		Held:           counter("held_total", "Keys left with an unknown outcome (on_ambiguous: hold)."),
		Resolved:       counterVec("resolved_total", "Unknown keys that were resolved, by what they became.", "as"),
		NoReceipts: counter("receipts_missing_total",
			"Responses without Idempotency-Outcome: executed where on_ambiguous is settle. Each could have executed twice."),
		Unsettled: gauge("unsettled", "Attempts in doubt about which this process asks backends in the background."),
		LeftUnsettled: counter("unsettled_left_total",
			"Attempts in doubt that this process left in the store without asking about them: more than 10,000 at a time, or at its end."),
		ReceiptsAsked: counterVec("receipts_asked_total", "Questions to receipts endpoints, by result: answered, failed.", "result"),
		Looks:         counterVec("looks_total", "Searches of the store for attempts in doubt, by result: done, failed.", "result"),
		LookSeconds:   gauge("look_duration_seconds", "How long the last search of the store for attempts in doubt took."),
		Settlements: counterVec("settlements_total",
			"Attempts in doubt about which the backend was asked while the client waited, by its answer.", "said"),
		Stored:       counter("responses_stored_total", "Responses kept for replays."),
		StoredBytes:  counter("responses_stored_bytes_total", "Their bytes."),
		StoreSeconds: histogramVec("store_duration_seconds", "Time that a store operation took.", "operation"),
		StoreErrors:  counterVec("store_errors_total", "Store operations that failed.", "operation"),
		Cut:          counter("responses_cut_total", "Responses that the backend broke off while the proxy passed them on."),
		Deferred:     counter("endings_deferred_total", "Endings that the store could not take at once."),
		Dropped:      counter("endings_dropped_total", "Endings that the store never took: these keys have no record."),
		Refused: counterVec("connections_refused_total", "Connections that were closed before a request was read, by reason: "+
			"max_clients, max_clients_per_ip, not_trusted or proxy_header (proxy_protocol).", "reason"),
		BackendsDown: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: name("backend_down"), Help: "1 while a backend gets no requests because it failed; otherwise 0.",
		}, []string{"upstream", "backend"}),
		ReloadDone: gauge("last_reload_successful", "1; or 0 while the settings that were read last cannot be used."),
		UnknownKeys: gauge("unknown_keys",
			"Keys with an unknown outcome in the whole store, of all proxies, when they were last counted (count_every); "+
				"NaN before that."),
		UnknownOldest:  gauge("unknown_oldest_seconds", "How long ago the oldest of them was first used; 0 if there is none."),
		UnknownCounted: gauge("unknown_counted_timestamp_seconds", "When they were counted, in Unix time."),
		StoreUp:        gauge("store_up", "1, or 0 while the store does not answer."),
		StoreEmptied:   counter("store_emptied_total", "How often the store had lost its records: retries execute again."),
		Reloads:        counterVec("reloads_total", "Reloads of the settings, by how they ended: done, failed.", "result"),
		Build: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: name("build_info"), Help: "1, labelled with the version.",
		}, []string{"version", "go"}),
	}
}

// Collectors lists them, for documentation.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.Requests, m.Would, m.WouldHold, m.AsyncEnded, m.StreamsEnded,
		m.RequestSeconds, m.BackendSeconds, m.Contentions, m.CacheHits, m.CacheMisses,
		m.LeasesInFlight, m.Waiters, m.Renewals, m.LeasesLost, m.Releases, m.Held, m.Resolved, m.Settlements, m.Unsettled, m.NoReceipts,
		m.UnknownKeys, m.UnknownOldest, m.UnknownCounted, m.StoreUp, m.StoreEmptied,
		m.Refused, m.BackendsDown, m.Reloads, m.ReloadDone,
		m.LeftUnsettled, m.ReceiptsAsked, m.Looks, m.LookSeconds,
		m.Stored, m.StoredBytes, m.StoreSeconds, m.StoreErrors, m.Cut, m.Deferred, m.Dropped, m.Build,
	}
}

// Register puts them into r, with those of the Go runtime and the process.
func (m *Metrics) Register(r prometheus.Registerer) error {
	all := append(m.Collectors(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("registering a metric: %w", err)
		}
	}
	return nil
}

func name(s string) string { return "idemproxy_" + s }

func counter(n, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name(n), Help: help})
}

func counterVec(n, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name(n), Help: help}, labels)
}

func gauge(n, help string) prometheus.Gauge {
	return prometheus.NewGauge(prometheus.GaugeOpts{Name: name(n), Help: help})
}

// buckets reach from a replay out of memory to the longest jobs.
func buckets() []float64 {
	return []float64{.00005, .0002, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
}

func histogram(n, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name(n), Help: help, Buckets: buckets()})
}

func histogramVec(n, help, label string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(
		prometheus.HistogramOpts{Name: name(n), Help: help, Buckets: buckets()}, []string{label})
}
