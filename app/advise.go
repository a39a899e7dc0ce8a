package app

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy"
)

// Advice is what /advice answers: what to set where requests were observed. It only says
// what was seen; where too little was, it says so and proposes nothing.
type Advice struct {
	Routes []RouteAdvice `json:"routes"`
}

// RouteAdvice is about one route.
type RouteAdvice struct {
	Route   string             `json:"route"` // default for the rules at large
	Mode    string             `json:"mode"`  // observe, enforce N% or enforce, now
	Seen    proxy.Observations `json:"seen"`
	Advised []Advised          `json:"advised"`
}

// Advised is about one setting.
type Advised struct {
	Setting string `json:"setting"`
	Now     string `json:"now"`
	// Propose is what to set instead; empty: keep it, or nothing can be told yet.
	Propose string `json:"propose,omitempty"`
	// Why is the evidence, one sentence each.
	Why []string `json:"why"`
}

// advise is what /advice answers now.
func (a *App) advise() (any, error) {
	c := a.settings()
	advice := Advice{Routes: []RouteAdvice{}}
	for _, seen := range a.proxy.Observations() {
		name, rules := "default", &c.Rules
		if seen.Route != "" {
			name, rules = seen.Route, nil
			for i := range c.Routes {
				if c.Routes[i].Name == seen.Route {
					rules = &c.Routes[i].Rules
				}
			}
		}
		if rules != nil { // it may be gone since
			advice.Routes = append(advice.Routes, RouteAdvice{
				Route: name, Mode: modeOf(rules), Seen: seen, Advised: advisedOf(rules, &seen, time.Now()),
			})
		}
	}
	return advice, nil
}

func modeOf(r *config.Rules) string {
	switch {
	case r.Observe:
		return "observe"
	case r.Enforce < config.Wholly:
		return "enforce " + (&r.Enforce).String()
	}
	return "enforce"
}

func advisedOf(r *config.Rules, seen *proxy.Observations, now time.Time) []Advised {
	all := []Advised{
		adviseBind(r, seen), adviseFingerprint(r, seen), adviseLease(r, seen), adviseRetention(r, seen, now.Sub(seen.Since)),
	}
	for _, one := range []Advised{adviseKeys(r, seen), adviseSizes(r, seen)} {
		if len(one.Why) > 0 {
			all = append(all, one)
		}
	}
	return all
}

// compared are the requests that were looked up.
func compared(seen *proxy.Observations) (n uint64) {
	for would, count := range seen.Would {
		if would != proxy.WouldRefuse.String() && would != proxy.WouldNotBeCompared.String() {
			n += count
		}
	}
	return n
}

// adviseBind: what is to say who asks must be there in each request, and the same in each
// retry.
func adviseBind(r *config.Rules, seen *proxy.Observations) Advised {
	out := Advised{Setting: "bind", Now: list(r.Bind)}
	keyed, now := compared(seen), seen.Callers["bind"]
	retries := now.Same + now.Changed
	out.say("%d of %d requests with a key have what bind names", now.Present, keyed)
	if retries == 0 {
		out.say("no retry was seen of a request that has it: whether it stays the same in a retry cannot be told yet")
	} else {
		out.say("it was the same in %d of %d retries", now.Same, retries)
	}
	if now.Apart > 0 {
		out.say("%d requests used a key that another caller had used: keep callers apart by scope, or they get 422", now.Apart)
	}
	if now.Changed == 0 && now.Present == keyed {
		return out
	}
	var better []string
	for name, tell := range seen.Callers {
		if name != "bind" && name != "client-address" && tell.Present == keyed && tell.Changed == 0 && tell.Same > 0 {
			better = append(better, name)
		}
	}
	slices.Sort(better)
	switch {
	case len(better) > 0:
		out.Propose = list(better)
		for _, name := range better {
			out.say("%s was in each request, and the same in all %d retries", name, seen.Callers[name].Same)
		}
	case now.Changed > 0:
		out.say("what bind names changes between retries, which would be answered 422: if it is a token that is renewed, bind to " +
			"nothing (bind: []) and keep callers apart by a claim that stays (scope: claim:sub, jwks)")
	default:
		out.say("who sends a request without it shares the keys of all who do")
	}
	return out
}

// adviseFingerprint: by which other parts would-be mismatches would have been none.
func adviseFingerprint(r *config.Rules, seen *proxy.Observations) Advised {
	parts := r.Fingerprint
	if len(parts) == 0 {
		parts = []string{"method", "target", "body"}
	}
	out := Advised{Setting: "fingerprint", Now: list(parts)}
	all := seen.Would[proxy.WouldMismatch.String()]
	if all == 0 {
		out.say("no request used a key of another one")
		return out
	}
	out.say("%d requests would have been answered 422", all)
	for _, part := range proxy.Parts() {
		if n := seen.Differs[part]; n > 0 {
			out.say("of them, %s", differed(part, n))
		}
	}
	proposed := slices.Clone(parts)
	left := all - seen.Differs["caller"]
	for _, one := range []struct{ spares, instead, means string }{
		{"json", "body", "only white space or the order of members differs in the JSON"},
		{"multipart", "body", "only the boundary of the multipart body differs"},
		{"path", "target", "only the query differs"},
		{"any-host", "", "only the host differs"},
	} {
		n := seen.Spared[one.spares]
		if n == 0 {
			continue
		}
		left -= min(left, n)
		out.say("%s: %d", one.means, n)
		proposed = slices.DeleteFunc(proposed, func(p string) bool { return p == one.instead })
		proposed = append(proposed, one.spares)
	}
	if !slices.Equal(proposed, parts) {
		out.Propose = list(proposed)
		out.say("this proposal says that what differs there does not matter to the operation: only you can tell")
	}
	if left > 0 {
		out.say("%d are left that no other fingerprint would spare: the client uses a key for two operations, or its retries differ; "+
			"the log says which (would=mismatch)", left)
	}
	return out
}

func differed(part string, n uint64) string {
	switch part {
	case "caller":
		return fmt.Sprintf("%d came from another caller (bind)", n)
	case "request":
		return fmt.Sprintf("%d differ in a part that is not known", n)
	}
	return fmt.Sprintf("%d differ in %s", n, part)
}

// adviseLease: a key that a dead proxy leaves should not be free before the backend has
// ended what it began.
func adviseLease(r *config.Rules, seen *proxy.Observations) Advised {
	out := Advised{Setting: "lock_ttl", Now: r.LockTTL.String()}
	if seen.Executed.Count == 0 {
		out.say("no execution was seen to its end")
		return out
	}
	longest := milliseconds(seen.Executed.LongestMS)
	out.say("the longest of %d executions took %v", seen.Executed.Count, longest)
	if longest > r.LockTTL {
		out.Propose = nice(longest + longest/5).String()
		out.say("leases are renewed while a request runs; but if its proxy dies, its key is free after lock_ttl, and a retry would " +
			"run beside it")
	}
	if r.BackendTimeout > 0 && longest > r.BackendTimeout*9/10 {
		out.say("backend_timeout is %v: some may have been cut off by it", r.BackendTimeout)
	}
	return out
}

// adviseRetention: a response should be there for the latest retry.
func adviseRetention(r *config.Rules, seen *proxy.Observations, since time.Duration) Advised {
	out := Advised{Setting: "retention", Now: r.Retention.String()}
	late := seen.Would[proxy.WouldExpire.String()]
	longest := milliseconds(seen.Retried.LongestMS)
	if seen.Retried.Count == 0 {
		out.say("no retry of a finished request was seen")
	} else {
		out.say("%d retries came after the first request had ended, the latest %v after it", seen.Retried.Count, longest)
	}
	if late > 0 {
		out.say("%d came when the response would not have been kept any more (410)", late)
	}
	if late > 0 || 2*longest > r.Retention {
		out.Propose = nice(2 * longest).String()
		out.say("this is twice the latest")
	} else if since < r.Retention {
		out.say("it was observed for %v only: later retries cannot have been seen", since.Round(time.Second))
	}
	if seen.Forgotten > 0 {
		out.say("%d keys were forgotten to make room: retries with them were not recognised", seen.Forgotten)
	}
	return out
}

func adviseKeys(r *config.Rules, seen *proxy.Observations) Advised {
	out := Advised{Setting: "require_key", Now: fmt.Sprint(r.RequireKey)}
	if seen.Keyless > 0 {
		out.say("%d requests that may change something had no key: they stay unprotected, and are refused with require_key",
			seen.Keyless)
	}
	if n := seen.Would[proxy.WouldRefuse.String()]; n > 0 {
		out.say("%d would have been refused (400 or 413): the log says why (would=refused, error)", n)
	}
	return out
}

func adviseSizes(r *config.Rules, seen *proxy.Observations) Advised {
	out := Advised{Setting: "max_response_body", Now: r.MaxResponseBody.String()}
	if n := seen.Would[proxy.WouldNotReplay.String()]; n > 0 {
		out.say("%d retries would have been answered 409, since the response was larger than is kept", n)
	}
	return out
}

func (a *Advised) say(format string, args ...any) {
	a.Why = append(a.Why, fmt.Sprintf(format, args...))
}

func list(all []string) string { return "[" + strings.Join(all, ", ") + "]" }

func milliseconds(ms float64) time.Duration {
	return time.Duration(ms * float64(time.Millisecond)).Round(time.Millisecond)
}

// nice is d, rounded up to what people write.
func nice(d time.Duration) time.Duration {
	for _, unit := range []time.Duration{time.Second, time.Minute, time.Hour} {
		for _, n := range []int{1, 2, 5, 10, 15, 20, 30, 45} {
			if one := time.Duration(n) * unit; one >= d {
				return one
			}
		}
	}
	return (d + 24*time.Hour - 1).Truncate(24 * time.Hour)
}
