package app

import (
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
)

// proxyConfig is the configuration in the proxy's own terms; the engine and the
// trace are still to be set. Its errors say where a setting was set.
func proxyConfig(c *config.Config) (proxy.Config, error) {
	rules, err := rulesOf(c, nil, &c.Rules)
	if err != nil {
		return proxy.Config{}, err
	}
	out := proxy.Config{
		Rules: rules, Backend: c.Backend, BackendTimeout: c.BackendTimeout, ConnectTimeout: c.ConnectTimeout,
		MaxConns: c.MaxConns, MaxHeader: int(c.MaxHeader), TrustForwarded: c.TrustForwarded,
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		rules, err := rulesOf(c, r, &r.Rules)
		if err != nil {
			return proxy.Config{}, err
		}
		out.Routes = append(out.Routes, proxy.Route{
			Name: r.Name, Match: proxy.Match{Host: r.Host, Path: r.Path, Methods: r.Methods}, Rules: rules,
		})
		if err := proxy.SortRoutes(append([]proxy.Route(nil), out.Routes...)); err != nil {
			return proxy.Config{}, c.At(r, "route", err)
		}
	}
	return out, nil
}

func rulesOf(c *config.Config, route *config.Route, r *config.Rules) (proxy.Rules, error) {
	statuses, err := idem.ParseStatuses(r.ReleaseStatuses, r.AmbiguousStatuses)
	if err != nil {
		return proxy.Rules{}, c.At(route, "release-statuses", err)
	}
	keys, err := idem.ParseKeyFormat(r.KeyFormat, r.KeyMinLength)
	if err != nil {
		return proxy.Rules{}, c.At(route, "key-format", err)
	}
	fingerprint, err := proxy.ParseFingerprint(r.Fingerprint)
	if err != nil {
		return proxy.Rules{}, c.At(route, "fingerprint", err)
	}
	return proxy.Rules{
		Policy: idem.Policy{
			TTL: r.LockTTL, Heartbeat: r.Heartbeat, Retention: r.Retention, OnAmbiguous: r.OnAmbiguous, Statuses: statuses,
		},
		MaxRequestBody: int(r.MaxRequestBody), MaxResponseBody: int(r.MaxResponseBody),
		Keys: keys, Fingerprint: fingerprint, FailOpen: r.FailOpen, FailStatus: r.FailStatus,
		Wait: bool(r.InProgress), MaxWait: r.MaxWait,
		RequireKey: r.RequireKey, BindHeaders: r.Bind, ScopeHeader: r.ScopeHeader, NotReplayed: r.NotReplayed,
	}, nil
}
