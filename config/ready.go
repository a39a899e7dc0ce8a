package config

import (
	"slices"
	"strings"
)

// DefaultUpstream is what the upstream without a name is called where it needs one.
const DefaultUpstream = "default"

// Names of the checks of /readyz, beside those of upstreams.
const (
	CheckStore = "store"
	checkEach  = "all"
	checkMain  = "backend"
	checkNamed = "upstream:"
)

// CheckOf is the name of an upstream's check.
func CheckOf(upstream string) string {
	if upstream == "" {
		return checkMain
	}
	return checkNamed + upstream
}

func isCheck(s string) bool {
	return s == CheckStore || s == checkEach || s == checkMain || strings.HasPrefix(s, checkNamed) && len(s) > len(checkNamed)
}

// ofUpstreamsThere: what is required is there.
func ofUpstreamsThere(c *Config) string {
	for _, name := range c.ReadyRequires {
		upstream, named := strings.CutPrefix(name, checkNamed)
		if named && !slices.ContainsFunc(c.Upstreams, func(u NamedUpstream) bool { return u.Name == upstream }) {
			return "after upstream: the name of an entry of upstreams"
		}
	}
	return ""
}
