package app

import (
	"errors"
	"maps"
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/metrics"
	"github.com/idemproxy/idemproxy/proxy"
)

// observer turns what the rooms trace into metrics and log lines. The collectors
// of each label are looked up once, since the hot path has no time for it.
type observer struct {
	metrics *metrics.Metrics
	log     zerolog.Logger
	events  *admin.Events
	recent  *admin.Recent
	tracing tracing // nil: no spans

	outcomes   atomic.Pointer[map[string][]prometheus.Counter] // by route; replaced whole
	woulds     atomic.Pointer[map[string]wouldCounters]        // likewise
	causes     []prometheus.Counter
	storeTime  []prometheus.Observer
	storeFails []prometheus.Counter
	// settlements are in the order of proxy.Settlements.
	settlements [3]prometheus.Counter
	// storeFailed and heldOrResolved tell those that look after the store that it is worth
	// a look now.
	storeFailed, heldOrResolved bell
	local                       prometheus.Counter
	stored                      prometheus.Counter
}

func newObserver(m *metrics.Metrics, log zerolog.Logger) *observer {
	o := &observer{
		metrics: m, log: log, events: &admin.Events{}, recent: admin.NewRecent(0),
		storeFailed: newBell(), heldOrResolved: newBell(),
		local: m.CacheHits.WithLabelValues("local"), stored: m.CacheHits.WithLabelValues("store"),
	}
	o.outcomes.Store(&map[string][]prometheus.Counter{})
	o.outcomesOf("")
	o.woulds.Store(&map[string]wouldCounters{})
	startAtZero(m)
	for _, cause := range idem.ReleaseCauses() {
		o.causes = append(o.causes, m.Releases.WithLabelValues(cause.String()))
	}
	for i, s := range proxy.Settlements() {
		o.settlements[i] = m.Settlements.WithLabelValues(s.String())
	}
	for e := idem.EventAcquire; e <= idem.EventHold; e++ {
		o.storeTime = append(o.storeTime, m.StoreSeconds.WithLabelValues(e.String()))
		o.storeFails = append(o.storeFails, m.StoreErrors.WithLabelValues(e.String()))
	}
	return o
}

// startAtZero has each series exported from the start that an alert may be about: what
// begins to exist with its first event has no increase then.
func startAtZero(m *metrics.Metrics) {
	for _, as := range []string{resolvedCompleted, resolvedReleased} {
		m.Resolved.WithLabelValues(as)
	}
	for _, result := range []string{reloadDone, reloadFailed} {
		m.Reloads.WithLabelValues(result)
	}
	for _, why := range []string{proxy.TooManyClients, proxy.TooManyOfAnAddress, notTrusted, proxyHeader} {
		m.Refused.WithLabelValues(why)
	}
	for _, result := range []string{askedAnswered, askedFailed} {
		m.ReceiptsAsked.WithLabelValues(result)
	}
	for _, result := range []string{lookDone, lookFailed} {
		m.Looks.WithLabelValues(result)
	}
	m.ReloadDone.Set(1)
	m.StoreUp.Set(1)
	for _, g := range []prometheus.Gauge{m.UnknownKeys, m.UnknownOldest, m.UnknownCounted} {
		g.Set(math.NaN())
	}
}

// Values of labels.
const (
	resolvedCompleted, resolvedReleased = "completed", "released"
	reloadDone, reloadFailed            = "done", "failed"
	askedAnswered, askedFailed          = "answered", "failed"
	lookDone, lookFailed                = "done", "failed"
)

func (o *observer) engineTrace() idem.Trace {
	m := o.metrics
	return idem.Trace{
		StoreCall:    o.storeCall,
		Acquired:     o.acquired,
		LeaseStarted: m.LeasesInFlight.Inc,
		LeaseEnded:   m.LeasesInFlight.Dec,
		Waiting:      func(delta int) { m.Waiters.Add(float64(delta)) },
		Renewed:      func(n int) { m.Renewals.Add(float64(n)) },
		LeaseLost:    o.leaseLost,
		Stored: func(_ idem.Key, bytes int) {
			m.Stored.Inc()
			m.StoredBytes.Add(float64(bytes))
		},
		Released: func(_ idem.Key, cause idem.ReleaseCause) { o.causes[cause].Inc() },
		Held: func(k idem.Key, asked any) {
			m.Held.Inc()
			o.heldOrResolved.ring()
			o.asked(o.event(zerolog.WarnLevel, "key_held", k), asked).
				Msg("the outcome is unknown; the key is held until the backend or an operator says what happened")
		},
		Deferred: func(k idem.Key, e idem.Event, asked any) {
			m.Deferred.Inc()
			o.asked(o.event(zerolog.WarnLevel, "ending_deferred", k), asked).Str("operation", e.String()).
				Msg("the store did not take it; trying again")
		},
		Recorded: func(k idem.Key, end idem.Ending, asked any) {
			level, means := zerolog.InfoLevel, "the store has taken it"
			if end == idem.Lost {
				level, means = zerolog.WarnLevel, "the lease was lost meanwhile: what is recorded is another attempt's, or nothing"
			}
			o.asked(o.event(level, "ending_recorded", k), asked).Str("ending", end.String()).Msg(means)
		},
		Dropped: func(k idem.Key, e idem.Event, err error, asked any) {
			m.Dropped.Inc()
			o.asked(o.event(zerolog.ErrorLevel, "ending_dropped", k), asked).Str("operation", e.String()).Err(err).
				Msg(droppedMeans(e))
		},
	}
}

// droppedMeans says what follows for the key.
func droppedMeans(e idem.Event) string {
	if e == idem.EventRelease {
		return "the store never took it: the key stays locked until its lease lapses"
	}
	return "the store never took it: a retry with this key may execute again"
}

func (o *observer) storeCall(e idem.Event, d time.Duration, err error) {
	o.storeTime[e].Observe(d.Seconds())
	if err != nil && !errors.Is(err, idem.ErrLeaseLost) {
		o.storeFails[e].Inc()
	}
	if errors.Is(err, idem.ErrUnavailable) {
		o.storeFailed.ring()
	}
}

func (o *observer) acquired(_ idem.Key, out idem.Outcome) {
	switch out.Kind {
	case idem.VerdictAcquired, idem.VerdictYours:
		o.metrics.CacheMisses.Inc()
	case idem.VerdictInProgress:
		o.metrics.Contentions.Inc()
	case idem.VerdictCompleted:
		if out.Local {
			o.local.Inc()
		} else {
			o.stored.Inc()
		}
	default:
	}
}

func (o *observer) leaseLost(k idem.Key, attempt uint32, at idem.Event) {
	o.metrics.LeasesLost.Inc()
	o.event(zerolog.ErrorLevel, "lease_lost", k).Uint32("attempt", attempt).Str("at", at.String()).
		Msg("the lease is not ours any more: another request may be executing the same operation, or the record is gone and " +
			"the next one will")
}

func (o *observer) event(level zerolog.Level, name string, k idem.Key) *zerolog.Event {
	return o.key(o.log.WithLevel(level).Str("event", name), k) //nolint:zerologlint // the caller sends it
}

// key names the key by its digest; at debug level as the client wrote it, too.
func (o *observer) key(e *zerolog.Event, k idem.Key) *zerolog.Event {
	e = e.Stringer("key", k)
	if o.log.GetLevel() <= zerolog.DebugLevel {
		e = e.Str("key_value", k.Value()).Str("key_scope", k.Scope())
	}
	return e
}

// asked says whose key it is.
func (*observer) asked(e *zerolog.Event, asked any) *zerolog.Event {
	if a, ok := asked.(proxy.Asked); ok {
		e = e.Str("route", a.Route).Str("method", a.Method).Bytes("path", printable([]byte(a.Path))).
			Bytes("request_id", loggedID([]byte(a.RequestID)))
	}
	return e
}

func (o *observer) proxyTrace() proxy.Trace {
	return proxy.Trace{
		Done: o.request, Ended: o.asyncEnded, Streamed: o.streamed, Cut: o.cut, Resolved: o.resolved, WouldHold: o.wouldHold,
		Unsettled:   func(delta int) { o.metrics.Unsettled.Add(float64(delta)) },
		SettlerFull: o.settlerFull, Left: o.left, Asked: o.receiptsAsked, Looked: o.looked,
		BackendDown: o.backendDown, BackendUp: o.backendUp, ResolveFailed: o.resolveFailed,
		BackendGone: func(upstream, backend string) { o.metrics.BackendsDown.DeleteLabelValues(upstream, backend) },
	}
}

func (o *observer) backendDown(upstream, backend string, why error) {
	o.metrics.BackendsDown.WithLabelValues(upstream, backend).Set(1)
	o.log.Warn().Str("event", "backend_down").Str("upstream", upstream).Str("backend", backend).Err(why).
		Msg("requests go to the others until it can be reached")
}

func (o *observer) backendUp(upstream, backend string) {
	o.metrics.BackendsDown.WithLabelValues(upstream, backend).Set(0)
	o.log.Info().Str("event", "backend_up").Str("upstream", upstream).Str("backend", backend).Msg("it gets requests again")
}

func (o *observer) resolveFailed(upstream, backend string, err error) {
	o.log.Warn().Str("event", "resolve_failed").Str("upstream", upstream).Str("backend", backend).Err(err).
		Msg("its name could not be resolved; the addresses stay as they were")
}

// audit logs what an operator did.
func (o *observer) audit(remote, action string, k idem.Key, err error) {
	e := o.event(zerolog.WarnLevel, "operator", k).Str("action", action).Str("remote", remote)
	if err != nil {
		e.Err(err).Msg("an operator tried to change a key")
		return
	}
	o.heldOrResolved.ring()
	switch action {
	case "retry":
		o.metrics.Resolved.WithLabelValues(resolvedReleased).Inc()
	case "complete":
		o.metrics.Resolved.WithLabelValues(resolvedCompleted).Inc()
	}
	e.Msg("an operator changed a key")
}

// cut logs a response that broke off after its request's line was written.
func (o *observer) cut(requestID string, k idem.Key, err error) {
	o.metrics.Cut.Inc()
	e := o.log.Warn().Str("event", "response_cut").Bytes("request_id", loggedID([]byte(requestID))).Err(err)
	if k != (idem.Key{}) {
		e = o.key(e, k)
	}
	e.Msg("the backend broke its response off; the client was cut off, too")
}

// request counts and logs: one line a request, at info, or at warn where the
// proxy or the backend failed.
func (o *observer) request(r *proxy.Report) {
	o.count(r)
	if o.tracing != nil {
		o.tracing.done(r)
	}
	if seq := o.keep(r); o.events.Wanted() {
		o.events.Publish(event(r, seq))
	}
	o.line(r)
}

// asyncEnded counts and logs what was executed after its client had been answered. The
// request itself was counted and logged then.
func (o *observer) asyncEnded(r *proxy.Report) {
	o.metrics.AsyncEnded.WithLabelValues(r.Outcome.String()).Inc()
	o.countExecution(r)
	if o.tracing != nil {
		o.tracing.done(r)
	}
	if level, wanted := o.levelOf(r); wanted {
		o.describe(o.log.WithLevel(level).Str("event", "async_ended"), r)
	}
}

// streamed counts and logs a response that was passed on as it came, when it has ended.
func (o *observer) streamed(r *proxy.StreamReport) {
	o.metrics.StreamsEnded.WithLabelValues(r.Ending.String()).Inc()
	level := zerolog.InfoLevel
	if r.Err != nil {
		level = zerolog.WarnLevel
	}
	if o.log.GetLevel() > level {
		return
	}
	e := o.event(level, "stream_ended", r.Key).Bytes("request_id", loggedID([]byte(r.RequestID))).Uint32("attempt", r.Attempt).
		Stringer("ending", r.Ending).Int("bytes", r.Bytes).Bool("kept", r.Kept).Int("joined", r.Joined).Dur("ms", r.Duration)
	if r.Err != nil {
		e = e.AnErr("error", r.Err)
	}
	e.Send()
}

func (o *observer) count(r *proxy.Report) {
	o.outcomesOf(r.Route)[r.Outcome].Inc()
	if r.Would != proxy.WouldNothing {
		o.wouldsOf(r.Route).all[r.Would].Inc()
	}
	o.metrics.RequestSeconds.Observe(r.Duration.Seconds())
	o.countExecution(r)
}

// countExecution counts what concerns the backend.
func (o *observer) countExecution(r *proxy.Report) {
	if r.Backend > 0 {
		o.metrics.BackendSeconds.Observe(r.Backend.Seconds())
	}
	if r.NoReceipt {
		o.metrics.NoReceipts.Inc()
	}
	if r.Settlement != proxy.NotSettled {
		o.settlements[r.Settlement-proxy.SettledExecuted].Inc()
	}
}

func (o *observer) line(r *proxy.Report) {
	if level, wanted := o.levelOf(r); wanted {
		o.describe(o.log.WithLevel(level).Str("event", "request"), r)
	}
}

// levelOf is how much a request is worth a line, and whether that is logged.
func (o *observer) levelOf(r *proxy.Report) (level zerolog.Level, wanted bool) {
	level = zerolog.InfoLevel
	if r.Outcome == proxy.FailedOpen || r.Status >= 500 && r.Outcome != proxy.Executed && r.Outcome != proxy.Passed ||
		r.Settlement != proxy.NotSettled || r.NoReceipt {
		level = zerolog.WarnLevel
	}
	return level, o.log.GetLevel() <= level
}

// describe writes the line.
func (o *observer) describe(e *zerolog.Event, r *proxy.Report) {
	e = e.Stringer("outcome", r.Outcome).Int("status", r.Status).
		Bytes("method", r.Method).Bytes("path", printable(r.Path)).Stringer("remote", r.Remote).Dur("ms", r.Duration)
	if r.Client.IsValid() {
		e = e.Stringer("client", r.Client)
	}
	if r.Route != "" {
		e = e.Str("route", r.Route)
	}
	e = e.Bytes("request_id", loggedID(r.RequestID))
	if len(r.TraceID) > 0 {
		e = e.Bytes("trace_id", r.TraceID)
	}
	if r.Would != proxy.WouldNothing {
		e = o.would(e, r)
	}
	if r.Keyed {
		e = o.key(e, r.Key)
		if r.Attempt > 0 {
			e = e.Uint32("attempt", r.Attempt)
		}
	}
	e = took(e, r)
	if r.Settlement != proxy.NotSettled {
		e = e.Stringer("settlement", r.Settlement)
	}
	if r.NoReceipt {
		e = e.Str("receipt", "missing")
	}
	if r.Err != nil {
		e = e.AnErr("error", r.Err)
	}
	e.Send()
}

// took says how long a request took where, and how it ended.
func took(e *zerolog.Event, r *proxy.Report) *zerolog.Event {
	if r.Waited > 0 {
		e = e.Dur("waited_ms", r.Waited)
	}
	if r.Differs != idem.PartNone {
		e = e.Str("differs", proxy.Differs(r.Differs))
	}
	if r.Store > 0 {
		e = e.Dur("store_ms", r.Store)
	}
	if r.Backend > 0 {
		e = e.Dur("backend_ms", r.Backend).Stringer("ending", r.Ending)
	}
	return e
}

// outcomesOf are a route's counters. Routes are few, and new ones come with a
// reload only, so the map is copied for each.
func (o *observer) outcomesOf(route string) []prometheus.Counter {
	for {
		known := o.outcomes.Load()
		if all, ok := (*known)[route]; ok {
			return all
		}
		label := route
		if label == "" {
			label = "default"
		}
		var all []prometheus.Counter
		for _, outcome := range proxy.Outcomes() {
			all = append(all, o.metrics.Requests.WithLabelValues(outcome.String(), label))
		}
		next := maps.Clone(*known)
		next[strings.Clone(route)] = all
		if o.outcomes.CompareAndSwap(known, &next) {
			return all
		}
	}
}

// maxLoggedID bounds what a client can make the log hold.
const maxLoggedID = 128

// loggedID is how a request's id begins, which is the whole of most.
func loggedID(id []byte) []byte { return printable(id[:min(len(id), maxLoggedID)]) }

// printable is text for a log that people read on terminals: everything but
// printable ASCII is written as an escape. The logger itself would let C1
// controls through, and U+009B begins what ESC [ begins.
func printable(text []byte) []byte {
	for _, c := range text {
		if c < ' ' || c > '~' {
			quoted := strconv.AppendQuoteToASCII(nil, string(text))
			return quoted[1 : len(quoted)-1]
		}
	}
	return text
}

// exportKnown has the series of routes and backends exported before the first request.
func (a *App) exportKnown(c *config.Config) {
	if observes(&c.Rules) {
		a.observer.wouldsOf("")
	}
	for i := range c.Routes {
		a.observer.outcomesOf(c.Routes[i].Name)
		if observes(&c.Routes[i].Rules) {
			a.observer.wouldsOf(c.Routes[i].Name)
		}
	}
	for _, b := range a.proxy.Status() {
		a.metrics.BackendsDown.WithLabelValues(b.Upstream, b.Backend)
	}
}
