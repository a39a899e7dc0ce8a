package app

import (
	"errors"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/config"
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
func proxyConfig(c *config.Config, tokens *verifiers) (out proxy.Config, err error) {
	if out, err = c.Proxy(); err != nil {
		return proxy.Config{}, err
	}
	if out.Tokens, err = verifierOf(c, nil, &c.Rules, tokens); err != nil {
		return proxy.Config{}, err
	}
	for i := range c.Routes { // out has them in the same order
		r := &c.Routes[i]
		if out.Routes[i].Rules.Tokens, err = verifierOf(c, r, &r.Rules, tokens); err != nil {
			return proxy.Config{}, err
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
