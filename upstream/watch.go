package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// watcher looks after an upstream's endpoints: it checks them, lets those in
// again that were left out, and follows their names. It is one goroutine, and
// none where there is nothing to watch.
type watcher struct {
	stop context.CancelFunc
	done sync.WaitGroup
}

// failsDown is how many checks in a row must fail: one may be lost.
const failsDown = 2

// Watch starts to look after the backends; Close ends it.
func (u *Upstream) Watch() {
	hasName := func(origin string) bool {
		b, err := ParseBackend(origin)
		return err == nil && b.isName()
	}
	resolves := u.config.ResolveInterval > 0 && u.network.Dial == nil && slices.ContainsFunc(u.config.Backends, hasName)
	if len(*u.endpoints.Load()) == 1 && u.config.HealthPath == "" && !resolves {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	u.watching.stop = cancel
	u.watching.done.Go(func() { u.every(ctx, u.config.HealthInterval, u.checkAll) })
	if resolves {
		u.watching.done.Go(func() { u.every(ctx, u.config.ResolveInterval, u.resolveAll) })
	}
}

// every calls f at once, and then every so often until ctx ends.
func (*Upstream) every(ctx context.Context, interval time.Duration, f func(context.Context)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		f(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Close ends the watcher and gives up idle connections; those in use are closed
// when their exchange ends.
func (u *Upstream) Close() {
	if u.watching.stop != nil {
		u.watching.stop()
		u.watching.done.Wait()
	}
	for _, p := range *u.endpoints.Load() {
		u.dismiss(p)
	}
}

func (u *Upstream) dismiss(p *endpoint) {
	p.gone.Store(true)
	p.client.CloseIdleConnections()
	if u.trace.Gone != nil {
		u.trace.Gone(u.config.Name, p.name)
	}
}

// checkAll looks at all endpoints at once.
func (u *Upstream) checkAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, u.config.HealthInterval)
	defer cancel()
	var checking sync.WaitGroup
	for _, p := range *u.endpoints.Load() {
		if u.config.HealthPath == "" && !p.down.Load() {
			continue
		}
		checking.Go(func() { u.check(ctx, p) })
	}
	checking.Wait()
}

func (u *Upstream) check(ctx context.Context, p *endpoint) {
	err := p.check(ctx, u.config.HealthPath)
	switch {
	case err == nil:
		p.checks = 0
		u.setUp(p)
	case errors.Is(ctx.Err(), context.Canceled): // the watcher ends
	default:
		if p.checks++; p.checks >= failsDown {
			u.setDown(p, err)
		}
	}
}

// errUnhealthy: it answers, but not that it is well.
var errUnhealthy = errors.New("the health check was answered with")

// check connects, and asks for path if there is one.
func (p *endpoint) check(ctx context.Context, path string) error {
	conn, err := p.dialer.connectIn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if path == "" {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // who ends the watcher does not wait for an answer
	deadline, _ := ctx.Deadline()
	if err := unwrap(conn).bound(deadline); err != nil {
		return err
	}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: idemproxy-health-check\r\nConnection: close\r\n\r\n",
		path, p.host)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	var h fasthttp.ResponseHeader
	br := p.client.AcquireReader(conn)
	err = h.Read(br)
	p.client.ReleaseReader(br)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	if status := h.StatusCode(); status < 200 || status > 399 {
		return fmt.Errorf("%w %d", errUnhealthy, status)
	}
	return nil
}

// resolveAll looks up what the origins' names stand for now. A name that cannot
// be looked up keeps its addresses.
func (u *Upstream) resolveAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, u.config.ConnectTimeout)
	defer cancel()
	old := *u.endpoints.Load()
	var now []*endpoint
	for _, origin := range u.config.Backends {
		now = append(now, u.resolveOne(ctx, origin, old)...)
	}
	if len(now) > maxEndpoints {
		now = now[:maxEndpoints]
	}
	if slices.Equal(old, now) {
		return
	}
	u.endpoints.Store(&now)
	for _, p := range old {
		if !slices.Contains(now, p) {
			u.dismiss(p)
		}
	}
}

// resolveOne returns the endpoints of an origin: those of old that still are,
// and new ones.
func (u *Upstream) resolveOne(ctx context.Context, origin string, old []*endpoint) (now []*endpoint) {
	known := map[string]*endpoint{}
	for _, p := range old {
		if p.origin == origin {
			known[p.dialer.addr] = p
			now = append(now, p)
		}
	}
	b, err := ParseBackend(origin)
	if err != nil || !b.isName() {
		return now
	}
	host, port, _ := net.SplitHostPort(b.Addr) // as ParseBackend joined it
	lookup := u.network.Lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupHost
	}
	found, err := lookup(ctx, host)
	if err != nil || len(found) == 0 {
		if !errors.Is(ctx.Err(), context.Canceled) && u.trace.ResolveFailed != nil {
			u.trace.ResolveFailed(u.config.Name, origin, err)
		}
		return now
	}
	slices.Sort(found)
	now = now[:0]
	for _, ip := range slices.Compact(found) {
		addr := net.JoinHostPort(ip, port)
		p := known[addr]
		if p == nil {
			if p, err = u.newEndpoint(origin, b, addr); err != nil {
				continue // checked when the upstream was made
			}
		}
		now = append(now, p)
	}
	return now
}

// Status is how an endpoint is doing.
type Status struct {
	Upstream string `json:"upstream"`
	Backend  string `json:"backend"`
	Up       bool   `json:"up"`
	Active   int64  `json:"active"` // requests that have a connection, or wait for one
	// DownSince is since when it gets no requests, and Why the reason; not there while Up.
	DownSince *time.Time `json:"down_since,omitempty"`
	Why       string     `json:"why,omitempty"`
}

// Status appends how each endpoint is doing.
func (u *Upstream) Status(to []Status) []Status {
	for _, p := range *u.endpoints.Load() {
		one := Status{Upstream: u.config.Name, Backend: p.name, Up: !p.down.Load(), Active: p.active.Load()}
		if out := p.out.Load(); out != nil && !one.Up {
			one.DownSince, one.Why = &out.since, out.why.Error()
		}
		to = append(to, one)
	}
	return to
}

// Ping returns nil if a backend can be connected to.
func (u *Upstream) Ping(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := *u.endpoints.Load()
	answers := make(chan error, len(all))
	var errs []error
	for asked := 0; len(errs) < len(all); {
		var late <-chan time.Time
		if asked < len(all) {
			p := all[asked]
			go func() { answers <- p.ping(ctx) }()
			asked++
			late = time.After(askNextAfter)
		}
		select {
		case err := <-answers:
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		case <-late:
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// askNextAfter is how long a backend is waited for alone: one that does not answer must not
// use up the time of the others.
const askNextAfter = 200 * time.Millisecond

func (p *endpoint) ping(ctx context.Context) error {
	err := p.check(ctx, "")
	if err == nil && p.down.Load() {
		err = errDown
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

var errDown = errors.New("its health checks fail, or requests to it did")

// Reach connects to each backend, TLS included, and sends nothing. It returns an error for each
// that cannot be connected to.
func Reach(ctx context.Context, c *Config) (unreachable []error) {
	u, err := New(c, Network{}, &Trace{})
	if err != nil {
		return []error{err}
	}
	ctx, cancel := context.WithTimeout(ctx, u.config.ConnectTimeout)
	defer cancel()
	all := *u.endpoints.Load()
	found := make([]error, len(all))
	var reaching sync.WaitGroup
	for i, p := range all {
		reaching.Go(func() { found[i] = p.ping(ctx) })
	}
	reaching.Wait()
	return slices.DeleteFunc(found, func(err error) bool { return err == nil })
}
