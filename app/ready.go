package app

import (
	"context"
	"fmt"
	"strings"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/config"
)

// ready is how the store and the upstreams are doing, or one of them: "default" is the one
// without a name.
func (a *App) ready(ctx context.Context, upstream *string) (admin.Readiness, error) {
	if upstream != nil && *upstream == config.DefaultUpstream && !a.proxy.HasUpstream(*upstream) {
		none := ""
		upstream = &none
	}
	if upstream != nil && !a.proxy.HasUpstream(*upstream) {
		return admin.Readiness{}, fmt.Errorf("%w: %q", admin.ErrNoUpstream, *upstream)
	}
	store := a.store.Ping(ctx)
	found := a.proxy.Ready(ctx, store, upstream)
	out := admin.Readiness{Serves: found.Serves, Checks: []admin.Checked{{Name: config.CheckStore, Err: store}}}
	for _, u := range found.Upstreams {
		c := admin.Checked{Name: config.CheckOf(u.Name), Err: u.Err}
		if len(u.Out) > 0 {
			c.Note = "ok, without " + strings.Join(u.Out, ", ")
		}
		out.Checks = append(out.Checks, c)
	}
	return out, nil
}
