package proxy

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/idemproxy/idemproxy/idem"
)

// live is what Reload replaces. A request takes it once and keeps it to its end.
type live struct {
	routes    *routes
	upstreams map[string]*upstream
	trusted   prefixes
	recipes   *recipes
	own       map[idem.Recipe]*recipe // of its routes
}

// ErrUpstream is a name of no upstream, or of two.
var ErrUpstream = errors.New("upstream")

// newLive makes one; upstreams that are in old and have not changed are shared
// with it, connections and all.
func newLive(c *Config, known *recipes, old *live) (*live, error) {
	l := &live{upstreams: map[string]*upstream{}, trusted: c.TrustedProxies, recipes: known}
	for i := range c.Upstreams {
		if c.Upstreams[i].Name == "" {
			return nil, fmt.Errorf("%w: one of them has no name", ErrUpstream)
		}
	}
	all := append([]Upstream{c.Upstream}, c.Upstreams...)
	all[0].Name = ""
	for i := range all {
		one := all[i]
		one.setDefaults()
		if _, twice := l.upstreams[one.Name]; twice {
			return nil, fmt.Errorf("%w %q is there twice", ErrUpstream, one.Name)
		}
		if was := old.find(one.Name); was != nil && reflect.DeepEqual(was.config, one) {
			l.upstreams[one.Name] = was
			continue
		}
		u, err := newUpstream(&one, &network{c.Dial, c.Lookup}, &c.Trace)
		if err != nil {
			return nil, fmt.Errorf("%w %q: %w", ErrUpstream, one.Name, err)
		}
		l.upstreams[one.Name] = u
	}
	var err error
	if l.routes, err = newRoutes(c, known.current); err != nil {
		return nil, err
	}
	l.own = known.recipesOf(l.routes.all())
	return l, l.bind()
}

func (l *live) find(name string) *upstream {
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
// began. Engine, Secret, EarlierSecrets, Recipes, Trace, Dial and what belongs to connections (timeouts of
// clients, limits of connections and headers) are those that the server was made
// with. An error changes nothing.
func (s *Server) Reload(c Config) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	c = c.withDefaults()
	c.Engine, c.Trace, c.Dial, c.Lookup = s.config.Engine, s.config.Trace, s.config.Dial, s.config.Lookup
	old := s.live.Load()
	now, err := newLive(&c, s.recipes, old)
	if err != nil {
		return err
	}
	s.start(now, old)
	s.live.Store(now)
	s.admission.limit(c.MaxInFlight, c.MaxBuffered)
	for name, u := range old.upstreams {
		if now.upstreams[name] != u {
			u.close()
		}
	}
	return nil
}

// start has the watchers run that do not yet.
func (*Server) start(now, old *live) {
	for name, u := range now.upstreams {
		if old.find(name) != u {
			u.watch()
		}
	}
}

// close ends what Reload has not ended.
func (l *live) close() {
	for _, u := range l.upstreams {
		u.close()
	}
}
