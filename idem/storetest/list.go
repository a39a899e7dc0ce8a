package storetest

import (
	"errors"
	"fmt"
	"maps"

	"github.com/idemproxy/idemproxy/idem"
)

func list(e *env) error {
	running, done, held, freed := e.fresh(), e.fresh(), e.fresh(), e.fresh()
	held.Key, done.Key = held.Key.InScope("s"), done.Key.InScope("s")
	lapsed, holds := e.fresh(), e.fresh()
	lapsed.TTL, holds.TTL, holds.HoldOnLapse = e.h.Tick, e.h.Tick, true
	if err := steps(
		e.mustAcquire(lapsed, idem.VerdictAcquired), e.mustAcquire(holds, idem.VerdictAcquired), e.passes(2*e.h.Tick),
		e.mustAcquire(running, idem.VerdictAcquired),
		e.mustAcquire(done, idem.VerdictAcquired), e.completes(done, response("body")),
		e.mustAcquire(held, idem.VerdictAcquired), e.holds(held),
		e.mustAcquire(freed, idem.VerdictAcquired), e.releases(freed),
	); err != nil {
		return err
	}
	want := map[idem.Key]idem.State{
		running.Key: idem.InProgress, done.Key: idem.Completed, held.Key: idem.Unknown, holds.Key: idem.Unknown,
	}
	got := map[idem.Key]idem.State{}
	var odd error
	err := e.s.List(e.ctx, func(r *idem.Record) bool {
		got[r.Key] = r.State
		if r.Response != nil || r.Attempt != 1 || r.Fingerprint == (idem.Fingerprint{}) {
			odd = fmt.Errorf("%v is listed as %+v", r.Key, r)
		}
		return true
	})
	if err := errors.Join(err, odd); err != nil {
		return err
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("listed %v, want %v", got, want)
	}
	n := 0
	if err := e.s.List(e.ctx, func(*idem.Record) bool { n++; return n < 2 }); err != nil || n != 2 {
		return fmt.Errorf("stopped after %d of 2 records, %w", n, err)
	}
	return nil
}
