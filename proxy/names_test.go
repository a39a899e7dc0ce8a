package proxy_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// losingStore takes its time to grant a claim, and then renews all leases but those of a scope.
type losingStore struct {
	*storetest.Memory

	claim time.Duration
	lost  string
}

func (s *losingStore) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	out, err := s.Memory.Acquire(ctx, c)
	time.Sleep(s.claim)
	return out, err
}

func (s *losingStore) Renew(ctx context.Context, leases []idem.Lease) []error {
	errs := s.Memory.Renew(ctx, leases)
	for i, l := range leases {
		if l.Key.Scope() == s.lost {
			errs[i] = idem.ErrLeaseLost
		}
	}
	return errs
}

// A key that has two names is held under both: who has lost either of them before the request is
// sent sends nothing, since another proxy may execute under that name.
func TestNothingIsSentUnlessEachNameIsHeld(t *testing.T) {
	t.Parallel()
	for lost, want := range map[string]int{"": 0, "header:x-account=7": 0, "nobody's": 1} {
		synctest.Test(t, func(t *testing.T) {
			store := &losingStore{Memory: storetest.NewMemory(), claim: 12 * time.Second, lost: lost}
			r := bubbleRig(t, backendtest.OK, scopedByAccount, func(c *proxy.Config) {
				c.EarlierScopes, _ = caller.ParseEarlierScopes([]string{"none"})
				c.Engine.Close(context.Background()) // whose goroutine would outlive the bubble
				c.Engine = idem.NewEngine(idem.Config{Store: store})
			})
			a := r.post("k", "x", "X-Account: 7")
			if n := r.backend.Total(); n != want || (a.StatusCode == 200) != (want == 1) {
				t.Errorf("the scope %q is lost: %d executions, %d %s", lost, n, a.StatusCode, a.body)
			}
		})
	}
}
