package app

import (
	"context"
	"sync"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/upstream"
)

// Probe connects to each backend, and to each URL in receipts and resolver, TLS included. It
// sends no request, since a question about receipts would write a row. It returns an error for
// each that cannot be connected to, which says where that was set. err is Check's.
func Probe(ctx context.Context, c *config.Config) (unreachable []error, err error) {
	pc, err := check(c)
	if err != nil {
		return nil, err
	}
	all := probesOf(c, &pc)
	found := make([][]error, len(all))
	var probing sync.WaitGroup
	for i, one := range all {
		probing.Go(func() { found[i] = one(ctx) })
	}
	probing.Wait()
	for _, errs := range found {
		unreachable = append(unreachable, errs...)
	}
	return unreachable, nil
}

// probe connects to something, and says which parts of it cannot be connected to.
type probe func(context.Context) []error

func probesOf(c *config.Config, pc *proxy.Config) (all []probe) {
	all = append(all, probeOf(&pc.Upstream, func(err error) error { return c.AtUpstream(nil, "backend", err) }))
	for i := range pc.Upstreams {
		named := &c.Upstreams[i] // in the same order
		all = append(all, probeOf(&pc.Upstreams[i], func(err error) error { return c.AtUpstream(named, "backend", err) }))
	}
	seen := map[string]bool{}
	add := func(url string, to any, at func(error) error) {
		endpoint, ok := to.(interface{ Reach() error })
		if !ok || seen[url] {
			return
		}
		seen[url] = true
		all = append(all, func(context.Context) []error {
			if err := endpoint.Reach(); err != nil {
				return []error{at(err)}
			}
			return nil
		})
	}
	ofRules := func(route *config.Route, r *config.Rules, room *proxy.Rules) {
		add(r.Receipts, room.Receipts, func(err error) error { return c.At(route, "receipts", err) })
		add(r.Resolver, room.Resolver, func(err error) error { return c.At(route, "resolver", err) })
	}
	ofRules(nil, &c.Rules, &pc.Rules)
	for i := range pc.Routes { // in the same order, too
		ofRules(&c.Routes[i], &c.Routes[i].Rules, &pc.Routes[i].Rules)
	}
	return all
}

func probeOf(u *upstream.Config, at func(error) error) probe {
	return func(ctx context.Context) (all []error) {
		for _, err := range upstream.Reach(ctx, u) {
			all = append(all, at(err))
		}
		return all
	}
}
