package app

import (
	"fmt"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy"
)

// Check is everything that New would find wrong with the settings before it opens
// anything. Files that they name are read. Its errors say where a setting was set.
func Check(c *config.Config) error {
	_, err := check(c)
	return err
}

// check is Check, and the configuration in the proxy's own terms.
func check(cfg *config.Config) (proxy.Config, error) {
	tokens := newVerifiers(zerolog.Nop())
	defer tokens.close()
	pc, err := proxyConfig(cfg, tokens)
	if err != nil {
		return pc, err
	}
	if err := checkStore(cfg); err != nil {
		return pc, err
	}
	if err := checkTracing(cfg); err != nil {
		return pc, err
	}
	if err := checkListening(cfg); err != nil {
		return pc, err
	}
	if _, err := codecOf(cfg); err != nil {
		return pc, err
	}
	if _, _, err := readSecrets(cfg); err != nil {
		return pc, err
	}
	if _, err := newCertificates(cfg, zerolog.Nop(), &amiss{}); err != nil {
		return pc, err
	}
	_, err = readSecret(cfg, "admin-token-file", cfg.AdminTokenFile)
	return pc, err
}

// Routing is which requests take which route.
type Routing struct{ config proxy.Config }

// RoutingOf is that of the settings, which it checks.
func RoutingOf(c *config.Config) (*Routing, error) {
	pc, err := check(c)
	if err != nil {
		return nil, err
	}
	if err := proxy.SortRoutes(pc.Routes); err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	return &Routing{config: pc}, nil
}

// Routes are in the order in which they are tried.
func (r *Routing) Routes() []proxy.Route { return r.config.Routes }

// Of is the place in Routes of the one that a request takes; -1 for none of them. An
// error says why the request is refused instead.
func (r *Routing) Of(method, host, target string) (int, error) {
	return proxy.RouteOf(r.config.Routes, &r.config.Rules, method, host, target)
}
