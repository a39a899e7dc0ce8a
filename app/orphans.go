package app

import (
	"fmt"
	"slices"
	"strings"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy"
)

// mostOrphans is how many a message has room for.
const mostOrphans = 10

// orphanError says which records would be lost, by which request that shows, and
// what to set so that they are not. Nil if there are none.
func orphanError(orphans []proxy.Orphan, there bool) error {
	if !there || len(orphans) == 0 {
		return nil
	}
	var lines []string
	for i := range orphans {
		if line := orphanLine(&orphans[i]); i < mostOrphans {
			lines = append(lines, line)
		}
	}
	if n := len(orphans) - mostOrphans; n > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", n))
	}
	return fmt.Errorf("%w: %s. If you do not need these records, start the proxy once with --accept-orphans", errOrphans,
		strings.Join(lines, "; "))
}

func orphanLine(o *proxy.Orphan) string {
	var b strings.Builder
	if o.Kind == proxy.OrphanSecret {
		return "records were hashed with a secret that is not in secret_file any more: add it to the file, on a line below the new " +
			"secret"
	}
	fmt.Fprintf(&b, "%s (%s, before: %s): ", o.Witness, placeOf(o.Now), placeOf(o.Earlier))
	switch o.Kind {
	case proxy.OrphanSecret: // above: it is of no route
	case proxy.OrphanScope:
		fmt.Fprintf(&b, "its key was in scope %s", o.Lost)
	case proxy.OrphanHeader:
		fmt.Fprintf(&b, "its key was in the header %s", o.Lost)
	case proxy.OrphanKey:
		fmt.Fprintf(&b, "its key was in the first of %s", o.Lost)
	case proxy.OrphanMethod:
		b.WriteString("earlier settings used the key of this request, and the new ones do not (key_methods)")
	case proxy.OrphanDerived:
		b.WriteString("it has no key, and the proxy derived one from its payload and its caller by other settings. " +
			"Such a key is known for the time in derive_key only. Keep the earlier settings, or wait for that long and accept the loss")
	}
	if o.Setting != "" {
		fmt.Fprintf(&b, "; set %s: [%s] for %s", o.Setting, strings.Join(o.Value, ", "), placeOf(o.Now))
	}
	return b.String()
}

// placeOf names a route to people.
func placeOf(route string) string {
	if route == "" {
		return "the settings at large"
	}
	return "route " + route
}

// addLegacyScopes has keys looked up under the names, too, that the release before
// named scopes made of them: the values alone.
func addLegacyScopes(c *config.Config, pc *proxy.Config) error {
	add := func(route *config.Route, scope []string, rules *proxy.Rules) error {
		if len(scope) == 0 {
			return nil // named as ever
		}
		earlier, err := caller.ParseEarlierScopes([]string{"v1:" + strings.Join(scope, "+")})
		if err != nil {
			return c.At(route, "scope", err)
		}
		rules.EarlierScopes = append(slices.Clone(rules.EarlierScopes), earlier...)
		return nil
	}
	if err := add(nil, c.Scope, &pc.Rules); err != nil {
		return err
	}
	for i := range c.Routes { // pc has them in the same order
		if err := add(&c.Routes[i], c.Routes[i].Scope, &pc.Routes[i].Rules); err != nil {
			return err
		}
	}
	return nil
}
