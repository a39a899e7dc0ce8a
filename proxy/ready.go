package proxy

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// Ready is what a server can serve now.
type Ready struct {
	// Upstreams are in the order of their names, the one without a name first.
	Upstreams []UpstreamReady
	// Serves says that there is traffic which would be served: see Server.Ready.
	Serves bool
}

// UpstreamReady is whether an upstream can be reached.
type UpstreamReady struct {
	Name string
	// Err is nil if a backend of it can be connected to.
	Err error
	// Out are its backends that get no requests.
	Out []string
}

// Ready asks every upstream, or the named one only, at once. A route serves if its upstream
// can be reached and, while the store does not answer, if it forwards all the same
// (FailOpen, Observe) or is for requests without keys too: neither RequireKey nor DeriveKey.
// That a route which requires keys still takes those that change nothing does not count.
func (s *Server) Ready(ctx context.Context, store error, only *string) Ready {
	l := s.live.Load()
	names := slices.Sorted(maps.Keys(l.upstreams))
	if only != nil {
		names = []string{*only}
	}
	all := make([]UpstreamReady, len(names))
	var asked sync.WaitGroup
	for i, name := range names {
		asked.Go(func() {
			u := l.upstreams[name]
			all[i] = UpstreamReady{Name: name, Err: u.Ping(ctx)}
			for _, b := range u.Status(nil) {
				if !b.Up {
					all[i].Out = append(all[i].Out, b.Backend)
				}
			}
		})
	}
	asked.Wait()
	r := Ready{Upstreams: all}
	for _, rules := range l.routes.all() {
		reached := slices.ContainsFunc(all, func(u UpstreamReady) bool { return u.Name == rules.Upstream && u.Err == nil })
		r.Serves = r.Serves || reached && (store == nil || rules.servesWithoutStore())
	}
	return r
}

// HasUpstream says whether there is one of that name.
func (s *Server) HasUpstream(name string) bool { return s.live.Load().find(name) != nil }

func (r *Rules) servesWithoutStore() bool {
	return r.FailOpen || r.Observe || (!r.RequireKey && r.DeriveKey == 0)
}
