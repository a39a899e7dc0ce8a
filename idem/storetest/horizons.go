package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

func horizons(e *env) error {
	c := e.fresh()
	c.Retention, c.Remember = 2*e.h.Tick, 4*e.h.Tick
	payload, caller, recipe := rival(c), rival(c), rival(c)
	payload.Fingerprint, caller.Binding, recipe.Recipe = idem.Fingerprint{9}, idem.Binding{9}, 9
	if err := steps(
		e.mustAcquire(c, idem.VerdictAcquired), e.completes(c, response("kept")), e.replays(rival(c), response("kept")),
		e.passes(3*e.h.Tick),
		e.mustAcquire(rival(c), idem.VerdictExpired), e.mustAcquire(payload, idem.VerdictMismatch),
		e.mustAcquire(caller, idem.VerdictMismatch), e.mustAcquire(recipe, idem.VerdictOtherRecipe),
	); err != nil {
		return err
	}
	r, err := e.s.Get(e.ctx, c.Key)
	if err != nil || r.State != idem.Expired || r.Response != nil || r.Attempt != 1 {
		return fmt.Errorf("a remembered key is %v, attempt %d, with a response: %v (%w)", r.State, r.Attempt, r.Response != nil, err)
	}
	return steps(e.passes(4*e.h.Tick), e.mustAcquire(rival(c), idem.VerdictAcquired))
}

func heldForever(e *env) error {
	held, lapsed := e.fresh(), e.fresh()
	lapsed.HoldOnLapse = true
	short := lapsed // renewed for a moment only, so that no slow machine lets it lapse before
	short.TTL = e.h.Tick
	for _, c := range []*idem.Claim{&held, &lapsed, &short} {
		c.Retention, c.Remember = e.h.Tick, e.h.Tick
	}
	if err := steps(
		e.mustAcquire(held, idem.VerdictAcquired), e.mustAcquire(lapsed, idem.VerdictAcquired), e.renews(short), e.holds(held),
		e.passes(6*e.h.Tick),
	); err != nil {
		return err
	}
	for _, c := range []idem.Claim{held, lapsed} {
		if _, err := e.acquire(rival(c), idem.VerdictUnknown); err != nil {
			return err
		}
		if r, err := e.s.Get(e.ctx, c.Key); err != nil || r.State != idem.Unknown || r.Expires != 0 {
			return fmt.Errorf("a held key is %v and ends at %d, want never (%w)", r.State, r.Expires, err)
		}
	}
	return nil
}

func recipes(e *env) error {
	running, done, held, freed := e.fresh(), e.fresh(), e.fresh(), e.fresh()
	if err := steps(
		e.mustAcquire(running, idem.VerdictAcquired),
		e.mustAcquire(done, idem.VerdictAcquired), e.completes(done, response("x")), e.replays(rival(done), response("x")),
		e.mustAcquire(held, idem.VerdictAcquired), e.holds(held),
		e.mustAcquire(freed, idem.VerdictAcquired), e.releases(freed),
	); err != nil {
		return err
	}
	for _, c := range []idem.Claim{running, done, held} {
		other := rival(c)
		other.Recipe, other.Binding, other.Fingerprint = 7, idem.Binding{77}, idem.Fingerprint{77} // which say nothing
		out, err := e.acquire(other, idem.VerdictOtherRecipe)
		if err != nil {
			return err
		}
		if out.Recipe != c.Recipe || out.Response != nil {
			return fmt.Errorf("another recipe learns %d (response: %v), want %d and none", out.Recipe, out.Response != nil, c.Recipe)
		}
	}
	freed = rival(freed)
	freed.Recipe = 7
	if err := e.mustAcquire(freed, idem.VerdictAcquired)(); err != nil {
		return err
	}
	if r, err := e.s.Get(e.ctx, freed.Key); err != nil || r.Recipe != 7 {
		return fmt.Errorf("a record says recipe %d, want 7 (%w)", r.Recipe, err)
	}
	return steps(
		e.mustAcquire(rival(running), idem.VerdictInProgress), e.replays(rival(done), response("x")),
		e.mustAcquire(rival(held), idem.VerdictUnknown))
}

func resolveRetention(e *env) error {
	short, long := e.fresh(), e.fresh()
	short.Retention, short.Remember = 2*e.h.Tick, 0
	want := response("by hand")
	if err := steps(
		e.mustAcquire(short, idem.VerdictAcquired), e.holds(short), e.mustAcquire(long, idem.VerdictAcquired), e.holds(long),
		func() error { return e.s.Resolve(e.ctx, short.Key, idem.Owner{}, want) },
		func() error { return e.s.Resolve(e.ctx, long.Key, idem.Owner{}, want) },
		e.replays(rival(short), want),
		e.passes(3*e.h.Tick),
		e.mustAcquire(rival(short), idem.VerdictAcquired), e.replays(rival(long), want),
	); err != nil {
		return err
	}
	r, err := e.s.Get(e.ctx, long.Key)
	if err != nil || r.Retention != retention.Milliseconds() || r.Remember != retention.Milliseconds() {
		return fmt.Errorf("a resolved key is kept %d ms and remembered %d ms, want %v each (%w)", r.Retention, r.Remember, retention, err)
	}
	return nil
}

func resolveOwner(e *env) error {
	done, freed := e.fresh(), e.fresh()
	want := response("by hand")
	return steps(
		e.mustAcquire(done, idem.VerdictAcquired), e.holds(done), e.mustAcquire(freed, idem.VerdictAcquired), e.holds(freed),
		func() error { return e.s.Resolve(e.ctx, done.Key, idem.Owner{}, want) },
		func() error { return e.s.Resolve(e.ctx, freed.Key, idem.Owner{}, nil) },
		fails(e.completes(done, response("late")), idem.ErrLeaseLost), e.replays(rival(done), want),
		fails(e.releases(freed), idem.ErrLeaseLost), fails(e.completes(freed, response("late")), idem.ErrLeaseLost),
		e.mustAcquire(rival(freed), idem.VerdictAcquired))
}

func resolveFrom(e *env) error {
	first, want := e.fresh(), response("by hand")
	second := rival(first)
	as := func(c idem.Claim, r *idem.Response) func() error {
		return func() error { return e.s.Resolve(e.ctx, c.Key, c.Owner, r) }
	}
	return steps(
		e.mustAcquire(first, idem.VerdictAcquired), fails(as(first, nil), idem.ErrNotUnknown), e.holds(first),
		fails(as(second, nil), idem.ErrLeaseLost), as(first, nil), fails(as(first, nil), idem.ErrNotUnknown),
		e.mustAcquire(second, idem.VerdictAcquired), fails(as(first, want), idem.ErrNotUnknown), e.holds(second),
		fails(as(first, nil), idem.ErrLeaseLost), fails(as(first, want), idem.ErrLeaseLost),
		e.mustAcquire(rival(first), idem.VerdictUnknown),
		as(second, want), e.replays(rival(first), want), fails(as(second, nil), idem.ErrNotUnknown), e.resolvesOnce)
}

// resolvesOnce: of several operators who say at once what became of one attempt, one is told
// that it is so, and what that one said stands.
func (e *env) resolvesOnce() error {
	c := e.fresh()
	if err := steps(e.mustAcquire(c, idem.VerdictAcquired), e.holds(c)); err != nil {
		return err
	}
	var said [4]error
	var all sync.WaitGroup
	for i := range said {
		all.Go(func() { said[i] = e.s.Resolve(e.ctx, c.Key, c.Owner, response(fmt.Sprint("operator ", i))) })
	}
	all.Wait()
	stands := -1
	for i, err := range said {
		switch {
		case err == nil && stands < 0:
			stands = i
		case !errors.Is(err, idem.ErrNotUnknown):
			return fmt.Errorf("operators who resolve at once are told %v", said)
		}
	}
	if stands < 0 {
		return fmt.Errorf("operators who resolve at once are told %v", said)
	}
	return e.replays(rival(c), response(fmt.Sprint("operator ", stands)))()
}

func releaseFrom(e *env) error {
	running, done := e.fresh(), e.fresh()
	free := func(c idem.Claim) func() error { // all that an operator knows
		return func() error { return e.s.Take(e.ctx, c.Key, c.Owner) }
	}
	if err := steps(
		e.mustAcquire(done, idem.VerdictAcquired), e.completes(done, response("x")),
		fails(free(done), idem.ErrLeaseLost), e.replays(rival(done), response("x")),
		e.mustAcquire(running, idem.VerdictAcquired), fails(free(rival(running)), idem.ErrLeaseLost), free(running),
		fails(e.completes(running, response("late")), idem.ErrLeaseLost),
	); err != nil {
		return err
	}
	out, err := e.acquire(rival(running), idem.VerdictAcquired)
	if err == nil && out.Attempt != 2 {
		err = fmt.Errorf("after an operator's release attempt %d is counted, want 2", out.Attempt)
	}
	return err
}

func (e *env) enters(name, text string, keep time.Duration) func() error {
	return func() error { return e.s.Enter(e.ctx, name, text, keep) }
}

func (e *env) hasEntries(want ...idem.Entry) func() error {
	return func() error {
		got, err := e.s.Entries(e.ctx)
		slices.SortFunc(got, func(a, b idem.Entry) int { return cmp.Compare(a.Name, b.Name) })
		if err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("the entries are %+v, want %+v (%w)", got, want, err)
		}
		return nil
	}
}

func registry(e *env) error {
	return steps(
		e.hasEntries(),
		e.enters("a", "1", time.Hour), e.enters("b", "\x00\xff\n", 2*e.h.Tick), e.enters("c", "3", 0), e.enters("d", "", time.Hour),
		e.enters("a", "2", e.h.Tick), e.enters("c", "4", e.h.Tick), // not sooner than was said
		func() error { return e.s.Strike(e.ctx, "d") }, func() error { return e.s.Strike(e.ctx, "d") },
		e.enters("e", "short", time.Microsecond), // however short: only 0 is for ever
		e.passes(3*e.h.Tick),
		e.hasEntries(idem.Entry{Name: "a", Text: "2"}, idem.Entry{Name: "b", Text: "\x00\xff\n", Ended: true}, idem.Entry{Name: "c", Text: "4"},
			idem.Entry{Name: "e", Text: "short", Ended: true}),
		// Entries are no records.
		func() error {
			return e.s.List(e.ctx, func(r *idem.Record) bool { panic(fmt.Sprintf("an entry is listed as %v", r.Key)) })
		},
	)
}

func registryShared(e *env) error {
	second := &env{tb: e.tb, h: e.h, ctx: e.ctx, s: e.h.Second(e.tb, e.s)}
	return steps(e.enters("a", "1", time.Hour), second.hasEntries(idem.Entry{Name: "a", Text: "1"}),
		second.enters("a", "2", 0), e.hasEntries(idem.Entry{Name: "a", Text: "2"}))
}

func registryKept(e *env) error {
	if err := e.enters("a", "1", time.Hour)(); err != nil {
		return err
	}
	again := &env{tb: e.tb, h: e.h, ctx: e.ctx, s: e.h.Reopen(e.tb, e.s)}
	return again.hasEntries(idem.Entry{Name: "a", Text: "1"})()
}
