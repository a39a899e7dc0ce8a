package history

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/idemproxy/idemproxy/idem"
)

// watch renews what the clients of a process hold, all of it in one call, as a process's
// watchdog does: of all histories that are under way.
type watch struct {
	store store

	mu           sync.Mutex
	held         map[*watched]struct{} // guarded by mu, like the figures
	done, failed int64
}

// watched is a lease that is being renewed.
type watched struct {
	r     *recorder
	claim asked
	lease idem.Lease
}

// add has a lease be renewed until it is dropped.
func (w *watch) add(one *watched) (drop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held[one] = struct{}{}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.held, one)
	}
}

// renewEvery is a fraction of what a lease lasts.
const renewEvery = 2 * time.Millisecond

func (w *watch) run(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, renewEvery)
		if w.renew() > 0 { // each that fails may have happened: many of them keep the checker from coming to an end
			pause(ctx, 50*renewEvery)
		}
	}
}

func (w *watch) renew() (failed int64) {
	w.mu.Lock()
	all, leases := make([]*watched, 0, len(w.held)), make([]idem.Lease, 0, len(w.held))
	for one := range w.held {
		all, leases = append(all, one), append(leases, one.lease)
	}
	w.mu.Unlock()
	if len(all) == 0 {
		return 0
	}
	call := time.Now()
	errs := w.store.Renew(context.Background(), leases)
	ret := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, one := range all {
		in, out := one.claim, told{verdict: idem.VerdictOK}
		in.kind, in.within, in.call, in.ret = renew, 0, call.Sub(one.r.begun), ret.Sub(one.r.begun)
		w.done++
		switch {
		case errors.Is(errs[i], idem.ErrLeaseLost):
			out.verdict = idem.VerdictLost
		case errs[i] != nil:
			out.failed = true
			failed++
		}
		one.r.add(clients+1+in.process, in, out)
	}
	w.failed += failed
	return failed
}

// watches renew for all processes until stop, which says how many renewals there were, and how
// many failed.
func watches(w *world) (stop func() (done, failed int64)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, s := range w.processes {
		one := &watch{store: s, held: map[*watched]struct{}{}}
		w.watches = append(w.watches, one)
		running.Go(func() { one.run(ctx) })
	}
	return func() (done, failed int64) {
		cancel()
		running.Wait()
		for _, one := range w.watches {
			done, failed = done+one.done, failed+one.failed
		}
		return done, failed
	}
}

// guard has the lease of a claim be renewed, or of every other one.
func (c *actor) guard(claim asked) (drop func()) {
	if c.w.watches == nil || c.rand.IntN(2) == 0 {
		return func() {}
	}
	return c.w.watches[c.process].add(&watched{r: c.r, claim: claim, lease: c.lease(claim)})
}

// stepRenew is what a renewal leaves of a key: the lease begins anew, with the claim's times.
func stepRenew(before state, in asked, out told) (next []state) {
	if out.failed {
		next = append(next, before)
	}
	for _, s := range stands(before, in) {
		may := s.owner == in.owner && s.owner != 0 && (s.phase == idem.InProgress || s.phase == idem.Lapsed)
		switch {
		case may && (out.failed || out.verdict == idem.VerdictOK):
			s.phase, s.lapsesAt, s.retention, s.remember = idem.InProgress, in.call+in.ttl, in.retention, in.remember
			if !s.holds {
				s.endsAt = s.lapsesAt + s.retention
			}
			next = append(next, s)
		case !may && !out.failed && out.verdict == idem.VerdictLost:
			next = append(next, seen(before, s))
		}
	}
	return next
}

// failures are how many of a history's operations failed.
func failures(history []porcupine.Operation) (n int64) {
	for _, op := range history {
		if op.Output.(told).failed { //nolint:forcetypeassert // ours
			n++
		}
	}
	return n
}
