package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/idemproxy/idemproxy/idem"
)

// Doubts are settings that can be used, and do nothing, or what was perhaps not meant:
// each with its place, in the words of Load's errors. Only what was set is doubted.
func (c *Config) Doubts() (all []error) {
	all = doubtsOf(settings(), c, c.Origin, func(name string, err error) error { return c.At(nil, name, err) }, c.routeUses)
	all = append(all, c.bodyDoubts()...)
	for i := range c.Routes {
		r := &c.Routes[i]
		all = append(all, doubtsOf(ofRoute(), r, r.origin, func(name string, err error) error { return c.At(r, name, err) }, nil)...)
	}
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		if u.origin != nil && !slices.ContainsFunc(c.Routes, func(r Route) bool { return r.Upstream == u.Name }) {
			err := fmt.Errorf("no route has upstream: %v, so these backends get no requests", plain(u.Name))
			all = append(all, c.AtUpstream(u, "name", err))
		}
	}
	return all
}

// doubtsOf are those about s, each once. What is used elsewhere does something.
func doubtsOf[S, R any](
	lines []setting[S, R], s *S, origin Origin, at func(name string, err error) error, usedElsewhere func(name string) bool,
) (all []error) {
	said := map[string]bool{}
	for _, l := range lines {
		name := l.about().name
		does, idle := l.doubt(s)
		if does == "" || origin[name] == "" || !idle && said[does] || idle && usedElsewhere != nil && usedElsewhere(name) {
			continue
		}
		said[does] = true
		all = append(all, at(name, errors.New(does)))
	}
	return all
}

// routeUses says whether a setting at large does something for a route that does not
// set it itself.
func (c *Config) routeUses(name string) bool {
	lines := ofRoute()
	i := slices.IndexFunc(lines, func(l routeSetting) bool { return l.about().name == name })
	return i >= 0 && slices.ContainsFunc(c.Routes, func(r Route) bool {
		_, idle := lines[i].doubt(&r)
		return r.origin[name] == "" && !idle
	})
}

// bodyDoubts are about bodies for which there is no room.
func (c *Config) bodyDoubts() (all []error) {
	const never = ": every request with a larger body than that is refused with 503, also its retries"
	least, own := c.MaxBuffered.String(), "max-request-body"
	if most := c.MaxRequestBody; most > c.MaxBuffered {
		does := fmt.Errorf("%s is more than max-buffered (%s)"+never, most.String(), least)
		if c.Origin[own] == "" {
			own, does = "max-buffered", fmt.Errorf("%s is less than max-request-body (%s)"+never, least, most.String())
		}
		all = append(all, c.At(nil, own, does))
	}
	for i := range c.Routes {
		r := &c.Routes[i]
		if most := r.MaxRequestBody; r.origin["max-request-body"] != "" && most > c.MaxBuffered {
			all = append(all, c.At(r, "max-request-body", fmt.Errorf("%s is more than max-buffered (%s)"+never, most.String(), least)))
		}
	}
	return all
}

// without is for what needs something else.
func without[S any](what string, missing func(*S) bool) func(*S) string {
	return when("without "+what, missing)
}

// when is for what does nothing in some case.
func when[S any](what string, so func(*S) bool) func(*S) string {
	return func(s *S) string {
		if so(s) {
			return what
		}
		return ""
	}
}

func embedded(c *Config) bool { return strings.HasPrefix(c.Store, "embedded:") }

func notRedis(c *Config) bool { return embedded(c) || c.IsPostgres() }

func notPostgres(c *Config) bool { return !c.IsPostgres() }

// IsPostgres says whether records are kept in PostgreSQL.
func (c *Config) IsPostgres() bool {
	scheme, _, _ := strings.Cut(c.Store, ":")
	return scheme == "postgres" || scheme == "postgresql"
}

func settlesNothing(r *Rules) bool { return r.OnAmbiguous != idem.AmbiguousSettle }

func verifiesNothing(r *Rules) bool {
	return !slices.ContainsFunc(slices.Concat(r.Scope, r.EarlierScopes), func(s string) bool {
		return strings.Contains(s, "claim:")
	})
}

func sharesNothing(r *Rules) bool { return len(r.CORSOrigins) == 0 }

// opensWhatItHolds: the one is for who would rather be refused, the other for who would not.
func opensWhatItHolds(r *Rules) string {
	if !r.FailOpen || r.OnAmbiguous == idem.AmbiguousRelease {
		return ""
	}
	return fmt.Sprintf("with fail-open, requests may execute twice while the store does not answer; on-ambiguous: %s is meant to "+
		"prevent that", r.OnAmbiguous)
}

func releasesSuccess(r *Rules) string {
	if slices.ContainsFunc(r.ReleaseStatuses, func(s string) bool { return strings.HasPrefix(s, "2") }) {
		return "responses that report success (2xx) are not stored, so each retry executes the request again"
	}
	return ""
}

func openToAll(c *Config) string {
	host, _, err := net.SplitHostPort(c.Admin)
	if err != nil || isThisMachine(host) || c.AdminTokenFile != "" { // an error: there is none
		return ""
	}
	return "without admin-token-file, everybody who can connect to this address can read metrics and health, and every program on " +
		"this machine can change keys"
}

func trustsAll(c *Config) string {
	for _, text := range c.TrustedProxies {
		if p, err := netip.ParsePrefix(text); err == nil && p.Bits() == 0 {
			return text + " stands for every address: each client can claim that its requests come from somewhere else"
		}
	}
	return ""
}
