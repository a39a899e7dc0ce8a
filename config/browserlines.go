package config

import (
	"slices"
	"strings"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
)

// rulesOfBrowsers are about scripts of other origins.
func rulesOfBrowsers() []settingOfRules {
	return []settingOfRules{
		&rule[[]string]{
			name: "cors-origins", as: aList(), of: func(r *Rules) *[]string { return &r.CORSOrigins },
			usage: "origins whose scripts may send requests and read answers (CORS), replays and problems too: https://shop.example, " +
				"https://*.shop.example, * for any; empty: the backend answers for itself",
			limit: anyOfThem(proxy.ErrOrigin.Error(), func(o string) bool { return proxy.CheckOrigin(o) == nil }),
			to:    func(all []string, p *proxy.Rules) { p.CORS.Origins = all },
		},
		&rule[[]string]{
			name: "cors-methods", as: aList(), of: func(r *Rules) *[]string { return &r.CORSMethods },
			idle:  without("cors-origins", sharesNothing),
			usage: "methods that such scripts may send; * for any", def: []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"},
			limit: anyOfThem("methods in capitals, such as POST, or *", isMethod),
			to:    func(all []string, p *proxy.Rules) { p.CORS.Methods = all },
		},
		&rule[[]string]{
			name: "cors-headers", as: aList(), of: func(r *Rules) *[]string { return &r.CORSHeaders },
			idle: without("cors-origins", sharesNothing),
			usage: "headers that they may send besides Content-Type, Prefer and those of key-headers, bind, scope and fingerprint; * " +
				"for any",
			limit: anyOfThem(namesOfHeaders, isToken), to: func(all []string, p *proxy.Rules) { p.CORS.Headers = all },
		},
		&rule[[]string]{
			name: "cors-expose", as: aList(), of: func(r *Rules) *[]string { return &r.CORSExpose },
			idle:  without("cors-origins", sharesNothing),
			usage: "response headers that they may read besides those that this proxy writes (Idempotent-Replayed, Retry-After, ...)",
			limit: anyOfThem(namesOfHeaders, isToken), to: func(all []string, p *proxy.Rules) { p.CORS.Exposed = all },
		},
		&rule[bool]{
			name: "cors-credentials", as: aSwitch(), of: func(r *Rules) *bool { return &r.CORSCredentials },
			idle:  without("cors-origins", sharesNothing),
			usage: "let such scripts send cookies, client certificates and HTTP passwords that the browser remembers",
			fits:  namedOrigins, to: func(yes bool, p *proxy.Rules) { p.CORS.Credentials = yes },
		},
		&rule[time.Duration]{
			name: "cors-max-age", as: aDuration(), of: func(r *Rules) *time.Duration { return &r.CORSMaxAge },
			idle:  without("cors-origins", sharesNothing),
			usage: "how long a browser may use the answer to a preflight before it asks again; 0 for no time", def: 10 * time.Minute,
			limit: fromZero("not", 24*time.Hour), to: func(d time.Duration, p *proxy.Rules) { p.CORS.MaxAge = d },
		},
	}
}

// isMethod: browsers send those that they know in capitals, and compare them with case.
func isMethod(s string) bool { return isToken(s) && s == strings.ToUpper(s) }

const namesOfHeaders = "names of headers, or *"

func namedOrigins(r *Rules) string {
	if !r.CORSCredentials {
		return ""
	}
	switch {
	case slices.Contains(r.CORSOrigins, "*"):
		return "names in cors-origins with it, not *: with *, every page of every site could use the cookies of a user"
	case slices.Contains(r.CORSExpose, "*"):
		return "names in cors-expose with it, not *: with credentials, browsers read * as the name of a field"
	}
	return ""
}
