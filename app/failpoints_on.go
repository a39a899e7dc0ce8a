//go:build failpoints

package app

import (
	"context"
	"fmt"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// sweepEvery has the embedded store sweep while a test is still there.
const sweepEvery = 300 * time.Millisecond

// pointedStore has a point on both sides of each call. One that fails before the call is
// a question that got lost, and one after it an answer that did.
type pointedStore struct{ gatedStore }

func pointed(s gatedStore) gatedStore { return &pointedStore{s} }

// OnChange implements idem.Notifier, which all three stores do.
func (p *pointedStore) OnChange(f func([16]byte)) {
	if n, ok := p.gatedStore.(idem.Notifier); ok {
		n.OnChange(f)
	}
}

// lost is what a caller is told whose question or answer got lost.
func lost(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", idem.ErrUnavailable, err)
}

// Acquire implements idem.Store.
func (p *pointedStore) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	if err := failpoint.Fail("acquire-asked"); err != nil {
		return idem.Outcome{}, lost(err)
	}
	out, err := p.gatedStore.Acquire(ctx, c)
	if err == nil && (out.Kind == idem.VerdictAcquired || out.Kind == idem.VerdictYours) { // else there is nothing to lose
		if err := failpoint.Fail("acquire-answered"); err != nil {
			return idem.Outcome{}, lost(err)
		}
	}
	return out, err
}

// Renew implements idem.Store.
func (p *pointedStore) Renew(ctx context.Context, leases []idem.Lease) []error {
	if err := failpoint.Fail("renew-asked"); err != nil {
		return allLost(leases, err)
	}
	errs := p.gatedStore.Renew(ctx, leases)
	if err := failpoint.Fail("renew-answered"); err != nil {
		return allLost(leases, err)
	}
	return errs
}

func allLost(leases []idem.Lease, err error) []error {
	errs := make([]error, len(leases))
	for i := range errs {
		errs[i] = lost(err)
	}
	return errs
}

// Complete implements idem.Store.
func (p *pointedStore) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	if err := failpoint.Fail("complete-asked"); err != nil {
		return lost(err)
	}
	if err := p.gatedStore.Complete(ctx, l, r); err != nil {
		return err
	}
	return lost(failpoint.Fail("complete-answered"))
}

// Release implements idem.Store.
func (p *pointedStore) Release(ctx context.Context, l idem.Lease) error {
	if err := failpoint.Fail("release-asked"); err != nil {
		return lost(err)
	}
	if err := p.gatedStore.Release(ctx, l); err != nil {
		return err
	}
	return lost(failpoint.Fail("release-answered"))
}

// Hold implements idem.Store.
func (p *pointedStore) Hold(ctx context.Context, l idem.Lease) error {
	if err := failpoint.Fail("hold-asked"); err != nil {
		return lost(err)
	}
	if err := p.gatedStore.Hold(ctx, l); err != nil {
		return err
	}
	return lost(failpoint.Fail("hold-answered"))
}

// Resolve implements idem.Inspector.
func (p *pointedStore) Resolve(ctx context.Context, k idem.Key, owner idem.Owner, r *idem.Response) error {
	if err := failpoint.Fail("resolve-asked"); err != nil {
		return lost(err)
	}
	if err := p.gatedStore.Resolve(ctx, k, owner, r); err != nil {
		return err
	}
	return lost(failpoint.Fail("resolve-answered"))
}

// Take implements idem.Inspector.
func (p *pointedStore) Take(ctx context.Context, k idem.Key, owner idem.Owner) error {
	if err := failpoint.Fail("take-asked"); err != nil {
		return lost(err)
	}
	if err := p.gatedStore.Take(ctx, k, owner); err != nil {
		return err
	}
	return lost(failpoint.Fail("take-answered"))
}

// Purge implements idem.Inspector.
func (p *pointedStore) Purge(ctx context.Context, k idem.Key) error {
	if err := failpoint.Fail("purge-asked"); err != nil {
		return lost(err)
	}
	if err := p.gatedStore.Purge(ctx, k); err != nil {
		return err
	}
	return lost(failpoint.Fail("purge-answered"))
}

// List implements idem.Inspector: the settler's pass over the store, among others.
func (p *pointedStore) List(ctx context.Context, visit func(*idem.Record) bool) error {
	var broken error
	err := p.gatedStore.List(ctx, func(r *idem.Record) bool {
		goOn := visit(r)
		broken = lost(failpoint.Fail("list-half"))
		return goOn && broken == nil
	})
	if broken != nil {
		return broken
	}
	return err
}
