package proxy

import (
	"errors"
	"fmt"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/upstream"
)

// live is what Reload replaces. A request takes it once and keeps it to its end.
type live struct {
	routes    *routes
	upstreams map[string]*upstream.Upstream
	trusted   caller.Prefixes
	recipes   *operation.Recipes
	unread    func(idem.Recipe) bool
	own       map[idem.Recipe]*operation.Recipe // of its routes
	settles   bool                              // any of its routes does
	outcomes  *outcomes                         // what clients may ask about; nil for nothing
}

// ErrUpstream is a name of no upstream, or of two.
var ErrUpstream = errors.New("upstream")

// newLive makes one; upstreams that are in old and have not changed are shared
// with it, connections and all.
func newLive(c *Config, known *operation.Recipes, old *live) (*live, error) {
	l := &live{upstreams: map[string]*upstream.Upstream{}, trusted: c.TrustedProxies, recipes: known, unread: c.RecipeUnread}
	for i := range c.Upstreams {
		if c.Upstreams[i].Name == "" {
			return nil, fmt.Errorf("%w: one of them has no name", ErrUpstream)
		}
	}
	all := append([]upstream.Config{c.Upstream}, c.Upstreams...)
	all[0].Name = ""
	for i := range all {
		one := all[i]
		one.SetDefaults()
		if _, twice := l.upstreams[one.Name]; twice {
			return nil, fmt.Errorf("%w %q is there twice", ErrUpstream, one.Name)
		}
		if was := old.find(one.Name); was != nil && was.Is(&one) {
			l.upstreams[one.Name] = was
			continue
		}
		u, err := upstream.New(&one, upstream.Network{Dial: c.Dial, Lookup: c.Lookup}, c.Trace.backends())
		if err != nil {
			return nil, fmt.Errorf("%w %q: %w", ErrUpstream, one.Name, err)
		}
		l.upstreams[one.Name] = u
	}
	var err error
	if l.routes, err = newRoutes(c, known.Secret()); err != nil {
		return nil, err
	}
	l.own = map[idem.Recipe]*operation.Recipe{}
	for _, rules := range l.routes.all() {
		known.Own(l.own, rules.Fingerprint, rules.BindHeaders, rules.receiptsName())
		l.settles = l.settles || rules.settles()
	}
	l.outcomes = newOutcomes(c.OutcomesPath, l.routes)
	return l, l.bind()
}

func (l *live) find(name string) *upstream.Upstream {
	if l == nil {
		return nil
	}
	return l.upstreams[name]
}

// bind gives each route its upstream.
func (l *live) bind() error {
	bind := func(r *Rules, route string) error {
		if r.upstream = l.upstreams[r.Upstream]; r.upstream == nil {
			return fmt.Errorf("%w %q, which route %q goes to, does not exist", ErrUpstream, r.Upstream, route)
		}
		return nil
	}
	err := bind(l.routes.rest, "")
	for i := range l.routes.sorted {
		err = errors.Join(err, bind(&l.routes.sorted[i].Rules, l.routes.sorted[i].Name))
	}
	return err
}

// Reload has requests from now on treated as c says; those under way end as they
// began. It takes what reloaded lists; all else is as the server was made with, however
// c has it: Engine, Trace, Dial and Lookup, what is known of recipes and secrets, and what
// belongs to connections (timeouts of clients, limits of connections and headers). An
// error changes nothing.
func (s *Server) Reload(c Config) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	c = s.config.reloaded(c.withDefaults())
	old := s.live.Load()
	now, err := newLive(&c, s.recipes, old)
	if err != nil {
		return err
	}
	s.start(now, old)
	failpoint.Reach("rules-made")
	s.live.Store(now)
	s.admission.limit(c.MaxInFlight, c.MaxBuffered)
	for name, u := range old.upstreams {
		if now.upstreams[name] != u {
			u.Close()
		}
	}
	return nil
}

// reloaded is c with what a reload takes from next. Whatever is not taken stays: the other
// way round, each field that was new was lost by reloads until somebody saw it.
func (c Config) reloaded(next Config) Config {
	c.Rules, c.Routes = next.Rules, next.Routes
	c.Upstream, c.Upstreams = next.Upstream, next.Upstreams
	c.MaxInFlight, c.MaxBuffered = next.MaxInFlight, next.MaxBuffered
	c.TrustedProxies, c.OutcomesPath = next.TrustedProxies, next.OutcomesPath
	return c
}

// start has the watchers run that do not yet.
func (*Server) start(now, old *live) {
	for name, u := range now.upstreams {
		if old.find(name) != u {
			u.Watch()
		}
	}
}

// close ends what Reload has not ended.
func (l *live) close() {
	for _, u := range l.upstreams {
		u.Close()
	}
}

// RecipeTexts are the recipes by which the server makes records now, of all
// routes: what a later process must know to compare with those records. Keep them
// for as long as there may be such a record, and hand them over by
// Config.Recipes.
func (s *Server) RecipeTexts() map[idem.Recipe]string {
	texts := map[idem.Recipe]string{}
	for _, rules := range s.live.Load().routes.all() {
		texts[rules.recipe.ID] = rules.recipe.Text
	}
	return texts
}
