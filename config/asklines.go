package config

import (
	"slices"
	"strings"

	"github.com/idemproxy/idemproxy/proxy"
)

// rulesOfAsking are about answers before and after the work: see docs/async.md.
func rulesOfAsking() []settingOfRules {
	return []settingOfRules{
		&rule[bool]{
			name: "outcomes", as: aSwitch(), of: func(r *Rules) *bool { return &r.Outcomes },
			usage: "let clients ask what became of their keys without sending the payload again (docs/async.md): GET of " +
				"outcomes-path with ?key=",
			to: func(yes bool, p *proxy.Rules) { p.Outcomes = yes },
		},
		&rule[bool]{
			name: "respond-async", as: aSwitch(), of: func(r *Rules) *bool { return &r.RespondAsync },
			usage: "answer requests with a key that say Prefer: respond-async with 202 before they are executed (docs/async.md); it " +
				"includes outcomes",
			to: func(yes bool, p *proxy.Rules) { p.RespondAsync = yes },
		},
		&rule[bool]{
			name: "expose", as: aSwitch(), of: func(r *Rules) *bool { return &r.Expose },
			usage: "have the first answer to a key say what it promises: Idempotent-Replayed: false, Idempotency-Attempt, and " +
				"Idempotency-Replay-Until if the response was kept",
			to: func(yes bool, p *proxy.Rules) { p.Expose = yes },
		},
	}
}

// tellsOutcomes says that clients can ask about keys of some route.
func (c *Config) tellsOutcomes() bool {
	tells := func(r *Rules) bool { return r.Outcomes || r.RespondAsync }
	return tells(&c.Rules) || slices.ContainsFunc(c.Routes, func(r Route) bool { return tells(&r.Rules) })
}

// isBarePath is for a path that is compared as it stands: there is one way to write it.
func isBarePath(s string) bool {
	odd := func(segment string) bool { return segment == "" || segment == "." || segment == ".." }
	return isPath(s) && !strings.ContainsAny(s, `?#%;\`) && !slices.ContainsFunc(strings.Split(s[1:], "/"), odd)
}
