package app

import (
	"errors"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/token"
)

// verifiers are the token verifiers that the routes share, by what they trust.
type verifiers struct {
	made map[token.Config]*token.Verifier
	log  zerolog.Logger
}

func newVerifiers(log zerolog.Logger) *verifiers {
	return &verifiers{made: map[token.Config]*token.Verifier{}, log: log}
}

func (v *verifiers) get(c token.Config) (*token.Verifier, error) {
	if known, ok := v.made[c]; ok {
		return known, nil
	}
	made, err := token.New(c, func(err error) {
		v.log.Warn().Str("event", "jwks_unreachable").Err(err).Msg("the key set was not fetched anew; the keys stay as they were")
	})
	if err == nil {
		v.made[c] = made
	}
	return made, err
}

func (v *verifiers) close() {
	for _, one := range v.made {
		one.Close()
	}
}

// proxyConfig is the configuration in the proxy's own terms; the engine and the
// trace are still to be set. Its errors say where a setting was set.
func proxyConfig(c *config.Config, tokens *verifiers) (proxy.Config, error) {
	rules, err := rulesOf(c, nil, &c.Rules, tokens)
	if err != nil {
		return proxy.Config{}, err
	}
	trusted, err := config.ParsePrefixes(c.TrustedProxies)
	if err != nil {
		return proxy.Config{}, c.At(nil, "trusted-proxies", err)
	}
	out := proxy.Config{
		Rules: rules, MaxInFlight: c.MaxInFlight, MaxBuffered: int64(c.MaxBuffered),
		MaxHeader: int(c.MaxHeader), TrustedProxies: trusted, EarlyHints: c.EarlyHints,
		MaxClients:  c.MaxClients,
		IdleTimeout: c.IdleTimeout, HeaderTimeout: c.HeaderTimeout, BodyTimeout: c.BodyTimeout, BodyMinRate: int64(c.BodyMinRate),
	}
	if out.Traceparent, err = message.ParseTraceparent(c.Traceparent); err != nil {
		return proxy.Config{}, c.At(nil, "traceparent", err)
	}
	if out.Upstream, err = upstreamOf(c, nil); err != nil {
		return proxy.Config{}, err
	}
	for i := range c.Upstreams {
		u, err := upstreamOf(c, &c.Upstreams[i])
		if err != nil {
			return proxy.Config{}, err
		}
		out.Upstreams = append(out.Upstreams, u)
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		rules, err := rulesOf(c, r, &r.Rules, tokens)
		if err != nil {
			return proxy.Config{}, err
		}
		rules.Upstream = r.Upstream
		out.Routes = append(out.Routes, proxy.Route{
			Name: r.Name, Match: proxy.Match{Host: r.Host, Path: r.Path, Methods: r.Methods}, Rules: rules,
		})
		if err := proxy.SortRoutes(append([]proxy.Route(nil), out.Routes...)); err != nil {
			return proxy.Config{}, c.At(r, "route", err)
		}
	}
	return out, nil
}

// verifierOf verifies the tokens of a route whose scopes ask for claims; nil for
// one whose do not.
func verifierOf(c *config.Config, route *config.Route, r *config.Rules, tokens *verifiers) (caller.TokenVerifier, error) {
	asks := func(s string) bool { return strings.Contains(s, "claim:") }
	setting := "scope"
	if !slices.ContainsFunc(r.Scope, asks) {
		if !slices.ContainsFunc(r.EarlierScopes, asks) {
			return nil, nil //nolint:nilnil // see above
		}
		setting = "earlier-scopes"
	}
	if r.JWKS == "" {
		return nil, c.At(route, setting, errors.New("claim:NAME needs jwks, the keys that verify tokens"))
	}
	v, err := tokens.get(token.Config{JWKS: r.JWKS, Issuer: r.JWTIssuer, Audience: r.JWTAudience})
	if err != nil {
		return nil, c.At(route, "jwks", err)
	}
	return v, nil
}

func rulesOf(c *config.Config, route *config.Route, r *config.Rules, tokens *verifiers) (proxy.Rules, error) {
	statuses, err := idem.ParseStatuses(r.ReleaseStatuses, r.AmbiguousStatuses)
	if err != nil {
		return proxy.Rules{}, c.At(route, "release-statuses", err)
	}
	keys, err := idem.ParseKeyFormat(r.KeyFormat, r.KeyMinLength)
	if err != nil {
		return proxy.Rules{}, c.At(route, "key-format", err)
	}
	fingerprint, err := operation.ParseFingerprint(r.Fingerprint)
	if err != nil {
		return proxy.Rules{}, c.At(route, "fingerprint", err)
	}
	var resolver proxy.Resolver
	if r.Resolver != "" {
		if resolver, err = proxy.NewHTTPResolver(r.Resolver, r.ResolverTimeout, int(r.MaxResponseBody)); err != nil {
			return proxy.Rules{}, c.At(route, "resolver", err)
		}
	}
	scope, err := caller.ParseScope(r.Scope)
	if err != nil {
		return proxy.Rules{}, c.At(route, "scope", err)
	}
	earlier, err := caller.ParseEarlierScopes(r.EarlierScopes)
	if err != nil {
		return proxy.Rules{}, c.At(route, "earlier-scopes", err)
	}
	verifier, err := verifierOf(c, route, r, tokens)
	if err != nil {
		return proxy.Rules{}, err
	}
	return proxy.Rules{
		BackendTimeout: r.BackendTimeout,
		Policy: idem.Policy{
			TTL: r.LockTTL, Heartbeat: r.Heartbeat, Retention: r.Retention, Remember: r.RememberFor(),
			OnAmbiguous: r.OnAmbiguous, Statuses: statuses,
		},
		MaxRequestBody: int(r.MaxRequestBody), MaxResponseBody: int(r.MaxResponseBody),
		DeriveKey: r.DeriveKey, DuplicateWindow: r.DuplicateWindow, RejectDuplicates: r.RejectDuplicates,
		Keys: keys, Resolver: resolver, Fingerprint: fingerprint, FailOpen: r.FailOpen, FailStatus: r.FailStatus,
		Wait: r.Wait, MaxWait: r.MaxWait, MaxPerCaller: r.MaxPerCaller, MaxPerAddress: r.MostPerAddress(), MaxPerKey: r.MaxPerKey,
		RequireKey: r.RequireKey, AllowAmbiguous: r.AllowAmbiguous,
		KeyHeaders: r.KeyHeaders, BindHeaders: r.Bind, RequireBind: r.RequireBind,
		Scope: scope, EarlierScopes: earlier, Tokens: verifier,
		NotReplayed: r.NotReplayed,
	}, nil
}
