package history

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/idemproxy/idemproxy/idem"
)

// watch renews what the clients of a process hold, all of it in one call, as a process's
// watchdog does: of all histories that are under way.
type watch struct {
	store store
	crowd []idem.Lease // of no history, which are renewed with those

	busy         sync.Mutex // is held during a renewal
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
const renewEvery = ttl / 16

func (w *watch) run(ctx context.Context) {
	var ending sync.WaitGroup
	defer ending.Wait()
	for i := range min(len(w.crowd), ends) {
		ending.Go(func() { w.end(ctx, w.crowd[i]) })
	}
	for ctx.Err() == nil {
		pause(ctx, renewEvery+time.Duration(len(w.crowd))*renewEvery/4)
		if w.renew() > 0 { // each that fails may have happened: many of them keep the checker from coming to an end
			pause(ctx, 100*time.Millisecond)
		}
	}
}

// settle waits for the renewals that are under way: what they did belongs to the history that
// its clients have ended.
func (w *watch) settle() {
	w.busy.Lock()
	defer w.busy.Unlock()
}

func (w *watch) renew() (failed int64) {
	w.busy.Lock()
	defer w.busy.Unlock()
	w.mu.Lock()
	all, leases := make([]*watched, 0, len(w.held)), make([]idem.Lease, 0, len(w.held))
	for one := range w.held {
		all, leases = append(all, one), append(leases, one.lease)
	}
	w.mu.Unlock()
	if leases = append(leases, w.crowd...); len(leases) == 0 {
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
	for _, err := range errs[len(all):] {
		w.done++
		if err != nil && !errors.Is(err, idem.ErrLeaseLost) { // its key has just been given back
			failed++
		}
	}
	w.failed += failed
	return failed
}

// A crowd is so many leases, of which some end and begin all the time.
const crowd, ends = 64, 4

// gather takes a crowd's leases.
func (w *watch) gather(r *recorder, process int) {
	for i := range crowd {
		claim := idem.Claim{Key: r.key(i), Owner: owner(1 + i), TTL: time.Minute, Retention: time.Hour}
		if _, err := w.store.Acquire(context.Background(), claim); err != nil {
			panic(fmt.Sprintf("process %d: %v", process, err))
		}
		w.crowd = append(w.crowd, claim.Lease())
	}
}

// end ends a lease, and begins it again.
func (w *watch) end(ctx context.Context, l idem.Lease) {
	for ctx.Err() == nil {
		_ = w.store.Release(context.Background(), l)
		_, _ = w.store.Acquire(context.Background(), idem.Claim{Key: l.Key, Owner: l.Owner, TTL: l.TTL, Retention: l.Retention})
		pause(ctx, renewEvery)
	}
}

// watches renew for all processes until stop, which says how many renewals there were, and how
// many failed.
func watches(w *world) (stop func() (done, failed int64)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i, s := range w.processes {
		one := &watch{store: s, held: map[*watched]struct{}{}}
		if w.crowded {
			one.gather(&recorder{prefix: fmt.Sprintf("crowd-%d-%x", i, idem.NewOwner())}, i)
		}
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
	drop = c.w.watches[c.process].add(&watched{r: c.r, claim: claim, lease: c.lease(claim)})
	time.Sleep(time.Duration(c.rand.Int64N(int64(ttl)))) // for which it is needed now and then
	return drop
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
