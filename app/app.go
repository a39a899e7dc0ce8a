package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/backend"
	"github.com/idemproxy/idemproxy/internal/redact"
	"github.com/idemproxy/idemproxy/metrics"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/upstream"
)

// App is one proxy, listening from New on and answering from Run on.
type App struct {
	config         config.Config
	log            zerolog.Logger
	store          gatedStore
	asked          askedStore // the store, as the engine and operators ask it
	names          *names
	secret         []byte   // of fingerprints and identities; nil for none
	earlierSecrets [][]byte // those before it
	engine         *idem.Engine
	proxy          *proxy.Server
	admin          *admin.Server
	tokens         *verifiers

	observer     *observer
	census       *census
	storeWatch   *storeWatch
	sampler      *sampler
	metrics      *metrics.Metrics
	amiss        amiss
	tracing      tracing       // nil: no spans
	certificates *certificates // nil: plain text
	trusted      atomic.Pointer[[]netip.Prefix]
	reloading    sync.Mutex // guards config once it runs
	refusals     refusals
	hurried      context.Context // ends with Hurry
	hurry        context.CancelFunc

	listeners                   []net.Listener
	adminListener, demoListener net.Listener
}

// New builds a proxy and opens its listeners. Whoever gets one must Run it.
func New(c config.Config, log zerolog.Logger) (_ *App, err error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	a := &App{config: c, log: log, tokens: newVerifiers(log)}
	a.hurried, a.hurry = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			a.closeAll()
		}
	}()
	if err = a.listen(c); err != nil {
		return nil, err
	}
	codec, err := codecOf(&c)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if a.store, err = openStore(&c, codec, log); err != nil {
		return nil, err
	}
	a.names = newNames(a.store, log)
	a.store.gate(a.names.admit)
	m, registry := metrics.New(), prometheus.NewRegistry()
	a.metrics = m
	if err = m.Register(registry); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	m.Build.WithLabelValues(Version(), goVersion()).Set(1)
	o := newObserver(m, log)
	a.asked = logged(pointed(a.store))
	a.engine = idem.NewEngine(idem.Config{
		Store: a.asked, Trace: o.engineTrace(), MaxWaiters: c.MaxWaiters, AcquireWithin: c.StoreTimeout,
	})
	a.observer, a.census = o, newCensus(a.store, m, log, c.CountEvery)
	a.storeWatch = &storeWatch{store: a.store, names: a.names, metrics: m, log: log, amiss: &a.amiss, failed: o.storeFailed}
	if err = a.newProxy(&c, o); err != nil {
		return nil, err
	}
	a.exportKnown(&c)
	if err = a.newAdmin(&c, o, registry); err != nil {
		return nil, err
	}
	a.checkFiles(&c)
	a.warnOf(&c)
	return a, nil
}

// newAdmin makes what the admin listener serves.
func (a *App) newAdmin(c *config.Config, o *observer, registry *prometheus.Registry) error {
	token, err := readSecret(c, "admin-token-file", c.AdminTokenFile)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	status := a.statusOf(registry, time.Now())
	a.sampler = newSampler(status)
	a.admin = admin.New(admin.Config{
		Token:    token,
		Keys:     a.keysOf(o),
		Events:   o.events,
		Recent:   o.recent,
		History:  a.sampler.history,
		Status:   func() (any, error) { return status() },
		Advice:   a.advise,
		Backup:   a.backup(),
		Settings: a.settingsInForce,
		Metrics:  promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		Ready:    a.ready, ReadyRequires: func() []string { return a.settings().ReadyRequires },
	})
	return nil
}

// warnOf logs what check warns of.
func (a *App) warnOf(c *config.Config) {
	for _, doubt := range c.Doubts() {
		a.log.Warn().Str("event", "setting_doubtful").Err(doubt).Msg("the setting is used as it is; idemproxy check says the same")
	}
}

// newProxy makes the proxy, unless its settings would lose records.
func (a *App) newProxy(c *config.Config, o *observer) (err error) {
	if a.secret, a.earlierSecrets, err = readSecrets(c); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	pc, plan, err := a.proxyConfig(c)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := a.names.start(plan, c.AcceptOrphans); err != nil {
		return err
	}
	pc.MaxClients = mostClients(c, filesLimit())
	pc.Engine, pc.Recipes, pc.RecipeUnread = a.engine, a.names.texts.Get, a.names.texts.Unread
	if pc.Trace, err = a.traceOf(c, o); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if a.proxy, err = proxy.New(pc); err != nil {
		return fmt.Errorf("the proxy: %w", err)
	}
	return nil
}

// proxyConfig is the configuration in the proxy's own terms, with what the store's
// records ask for, and how it names records.
func (a *App) proxyConfig(c *config.Config) (proxy.Config, *proxy.Plan, error) {
	pc, err := proxyConfig(c, a.tokens)
	if err != nil {
		return pc, nil, err
	}
	pc.Secret, pc.EarlierSecrets = a.secret, a.earlierSecrets
	plan, err := proxy.PlanOf(&pc)
	if err != nil {
		return pc, nil, fmt.Errorf("the proxy: %w", err)
	}
	if a.names.legacy(plan.Keep()) {
		err = addLegacyScopes(c, &pc)
	}
	return pc, plan, err
}

// traceOf is what the proxy tells o, and who makes spans.
func (a *App) traceOf(c *config.Config, o *observer) (proxy.Trace, error) {
	t := o.proxyTrace()
	t.TurnedAway = func(why string, peer net.Addr, id []byte) { a.refused(why, peer, id, nil) }
	if err := a.startTracing(c); err != nil {
		return t, err
	}
	if a.tracing != nil {
		t.Forward, o.tracing = a.tracing.forward, a.tracing
	}
	return t, nil
}

func (a *App) listen(c config.Config) (err error) {
	if a.certificates, err = newCertificates(&c, a.log, &a.amiss); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	trusted, err := config.ParsePrefixes(c.TrustedProxies)
	if err == nil {
		err = checkListening(&c)
	}
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	a.trusted.Store(&trusted)
	if a.listeners, err = listeners(&c, &a.trusted, a.certificates, a.cannotAccept, a.refused); err != nil {
		return err
	}
	if c.Admin != "" {
		if a.adminListener, err = net.Listen("tcp", c.Admin); err != nil {
			return c.At(nil, "admin", fmt.Errorf("%s: %w", c.Admin, err))
		}
	}
	if c.Demo {
		b, err := upstream.ParseBackend(c.Backends[0])
		if err != nil {
			return err
		}
		if a.demoListener, err = net.Listen("tcp", b.Addr); err != nil {
			return fmt.Errorf("--demo: the demo backend cannot listen on %s: %w", b.Addr, err)
		}
	}
	return nil
}

// keysOf is what the operator can do to the store's keys.
func (a *App) keysOf(o *observer) *admin.Keys {
	return &admin.Keys{
		Store: a.asked, Release: a.engine.ReleaseFrom, Receipt: a.receiptOf, Recent: o.recent, Audit: o.audit,
	}
}

// receiptOf is what the backend has of a record's attempt, nil where it keeps none.
func (a *App) receiptOf(ctx context.Context, r *idem.Record) *admin.Receipt {
	response, err := a.proxy.Receipt(ctx, r)
	switch {
	case errors.Is(err, proxy.ErrNoReceipts):
		return nil
	case err != nil:
		return &admin.Receipt{Says: "no answer: " + err.Error()}
	case response == nil:
		return &admin.Receipt{Says: "there is none: not executed so far, if receipts is the right URL"}
	}
	return &admin.Receipt{Says: "executed", Status: response.Status, BodyBytes: len(response.Body)}
}

// URL is where clients reach the proxy: its first address, if that is not a unix
// socket.
func (a *App) URL() string {
	if a.certificates != nil {
		return "https://" + reachable(a.listeners[0].Addr())
	}
	return "http://" + reachable(a.listeners[0].Addr())
}

// AdminURL is where the operator does; empty if nowhere.
func (a *App) AdminURL() string {
	if a.adminListener == nil {
		return ""
	}
	return "http://" + reachable(a.adminListener.Addr())
}

// reachable names an address that can be connected to from here.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// Run serves until ctx ends, then drains: readiness goes, no connection is taken
// any more, requests under way are finished and stored. It returns nil if all of
// them were.
func (a *App) Run(ctx context.Context) error {
	defer a.closeAll()
	failed := make(chan error, 1+len(a.listeners))
	c := a.settings()
	serve := func(f func() error) { go func() { failed <- f() }() }
	if a.demoListener != nil {
		demo := backend.New()
		go func() { _ = demo.Serve(a.demoListener) }() // ends with its listener
	}
	if a.adminListener != nil {
		serve(func() error { return a.admin.Serve(a.adminListener) })
	}
	for _, ln := range a.listeners {
		serve(func() error { return a.proxy.Serve(ln) })
	}
	if a.certificates != nil {
		go a.certificates.watch(ctx, lookEvery)
	}
	a.names.again = a.remake
	go a.names.run(ctx)
	go a.census.run(ctx, a.observer.heldOrResolved)
	go a.storeWatch.run(ctx)
	go a.sampler.run(ctx)
	a.log.Info().Str("event", "started").Str("version", Version()).Str("listen", a.addresses()).
		Str("backend", strings.Join(redact.URLs(c.Backends), ",")).Str("store", redact.URL(c.Store)).Str("admin", a.AdminURL()).
		Bool("demo", c.Demo).Msg("ready for requests")
	select {
	case err := <-failed:
		if err != nil {
			return err
		}
		return errors.New("a listener ended by itself")
	case <-ctx.Done():
	}
	return a.drain()
}

// settings are those in force.
func (a *App) settings() config.Config {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	return a.config
}

// addresses are those that clients connect to, with commas.
func (a *App) addresses() string {
	var all []string
	for _, ln := range a.listeners {
		all = append(all, ln.Addr().String())
	}
	return strings.Join(all, ",")
}

func (a *App) closeAll() {
	for _, ln := range append(a.listeners, a.adminListener, a.demoListener) {
		if ln != nil {
			_ = ln.Close()
		}
	}
	a.tokens.close()
	if a.admin != nil {
		_ = a.admin.Close()
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.log.Error().Str("event", "close_failed").Err(err).Msg("the store did not close cleanly")
		}
	}
}
