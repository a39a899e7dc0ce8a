package storetest

import (
	"fmt"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// everyCallFails asks everything that a store can be asked: of mine, which is in progress,
// and of other, which is not there.
func (e *env) everyCallFails(mine, other idem.Claim, want error) func() error {
	digest := mine.Key.ID()
	id := digest[:6]
	calls := []struct {
		name string
		call func() error
	}{
		{"acquire", func() error { _, err := e.s.Acquire(e.ctx, other); return err }},
		{"renew", e.renews(mine)},
		{"complete", e.completes(mine, response("x"))},
		{"release", e.releases(mine)},
		{"hold", e.holds(mine)},
		{"ping", func() error { return e.s.Ping(e.ctx) }},
		{"get", func() error { _, err := e.s.Get(e.ctx, mine.Key); return err }},
		{"list", func() error { return e.s.List(e.ctx, func(*idem.Record) bool { return true }) }},
		{"find", func() error { _, err := e.s.Find(e.ctx, id); return err }},
		{"take", func() error { return e.s.Take(e.ctx, other.Key, other.Owner) }},
		{"resolve", func() error { return e.s.Resolve(e.ctx, other.Key, idem.Owner{}, nil) }},
		{"resolve with a response", func() error { return e.s.Resolve(e.ctx, other.Key, idem.Owner{}, response("x")) }},
		{"purge", func() error { return e.s.Purge(e.ctx, other.Key) }},
		{"entries", func() error { _, err := e.s.Entries(e.ctx); return err }},
		{"enter", e.enters("severed", "1", time.Hour)},
		{"strike", func() error { return e.s.Strike(e.ctx, "severed") }},
	}
	return func() error {
		for _, c := range calls {
			if err := fails(c.call, want)(); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		return nil
	}
}

// within is about claims as the engine makes them: each has a deadline.
func within(e *env) error {
	soon := func(c idem.Claim) idem.Claim {
		c.Within = time.Minute
		return c
	}
	freed, done := soon(e.fresh()), soon(e.fresh())
	if err := steps(
		e.mustAcquire(freed, idem.VerdictAcquired), e.mustAcquire(freed, idem.VerdictYours), e.releases(freed),
		e.mustAcquire(soon(rival(freed)), idem.VerdictAcquired),
		e.mustAcquire(done, idem.VerdictAcquired), e.mustAcquire(soon(rival(done)), idem.VerdictInProgress),
		e.completes(done, response("x")), e.replays(soon(rival(done)), response("x")),
	); err != nil {
		return err
	}
	lapsed := soon(e.fresh())
	lapsed.TTL = e.h.Tick
	return steps(e.mustAcquire(lapsed, idem.VerdictAcquired), e.passes(2*e.h.Tick), e.mustAcquire(soon(rival(lapsed)), idem.VerdictAcquired))
}

// told is about a store that says when records may have changed.
func told(e *env) error {
	n, ok := e.s.(idem.Notifier)
	if !ok {
		return nil
	}
	heard := make(chan [16]byte, 100)
	n.OnChange(func(id [16]byte) {
		select {
		case heard <- id:
		default:
		}
	})
	purged, resolved, freed := e.fresh(), e.fresh(), e.fresh()
	for _, c := range []idem.Claim{purged, resolved, freed} {
		if err := e.mustAcquire(c, idem.VerdictAcquired)(); err != nil {
			return err
		}
	}
	if err := steps(e.holds(resolved), e.holds(freed)); err != nil {
		return err
	}
	for _, act := range []struct {
		of idem.Claim
		do func() error
	}{
		{purged, func() error { return e.s.Purge(e.ctx, purged.Key) }},
		{resolved, func() error { return e.s.Resolve(e.ctx, resolved.Key, idem.Owner{}, response("x")) }},
		{freed, func() error { return e.s.Resolve(e.ctx, freed.Key, idem.Owner{}, nil) }},
	} {
		for len(heard) > 0 {
			<-heard // of what was done before
		}
		if err := act.do(); err != nil {
			return err
		}
		for deadline := time.After(10 * time.Second); ; {
			select {
			case id := <-heard:
				if id != act.of.Key.ID() && id != ([16]byte{}) {
					continue
				}
			case <-deadline:
				return fmt.Errorf("nobody was told of %v", act.of.Key)
			}
			break
		}
	}
	return nil
}
