package storetest

import (
	"errors"
	"fmt"

	"github.com/idemproxy/idemproxy/idem"
)

// checkCells walks every cell of the transition table: it brings a key into the
// cell's state, applies the cell's event, and looks at the answer and at the
// state that the key is then in.
func checkCells(e *env) error {
	for _, cell := range idem.Transitions() {
		for _, who := range whose(cell.Who) {
			for _, same := range payloads(cell.Same) {
				if shadowed(cell, who, same) {
					continue
				}
				if err := e.checkCell(cell, who, same); err != nil {
					return fmt.Errorf("cell %v/%v (holder: %v, same payload: %v): %w",
						cell.From, cell.Event, who == idem.Holder, same == idem.SamePayload, err)
				}
			}
		}
	}
	return nil
}

// shadowed: an earlier cell of the table answers for that combination.
func shadowed(cell idem.Transition, who idem.Who, same idem.Same) bool {
	to, verdict := idem.Next(cell.From, cell.Event, who, same)
	return to != cell.To || verdict != cell.Verdict
}

func whose(w idem.Who) []idem.Who {
	if w == idem.Anyone {
		return []idem.Who{idem.Holder, idem.Stranger}
	}
	return []idem.Who{w}
}

func payloads(s idem.Same) []idem.Same {
	if s == idem.AnyPayload {
		return []idem.Same{idem.SamePayload, idem.OtherPayload, idem.OtherRecipe}
	}
	return []idem.Same{s}
}

func (e *env) checkCell(cell idem.Transition, who idem.Who, same idem.Same) error {
	for _, prepare := range e.ways(cell.From, who) {
		first := e.fresh()
		if err := prepare(&first); err != nil {
			return fmt.Errorf("preparing: %w", err)
		}
		asker := first
		if who == idem.Stranger {
			asker = rival(asker)
		}
		switch same {
		case idem.OtherPayload:
			asker.Fingerprint = idem.Fingerprint{99}
		case idem.OtherRecipe:
			asker.Recipe++
		case idem.SamePayload, idem.AnyPayload:
		}
		if err := e.applyCell(cell, asker); err != nil {
			return err
		}
		if err := e.expectState(first.Key, cell.To); err != nil {
			return err
		}
	}
	return nil
}

// ways are the ways to bring a key into a state.
func (e *env) ways(s idem.State, who idem.Who) []func(*idem.Claim) error {
	acquire := func(c *idem.Claim) error { return e.mustAcquire(*c, idem.VerdictAcquired)() }
	lapse := func(c *idem.Claim) error {
		c.TTL = e.h.Tick
		if err := acquire(c); err != nil {
			return err
		}
		e.h.Pass(2 * e.h.Tick)
		c.TTL = longTTL
		return nil
	}
	after := func(f func(c idem.Claim) func() error) func(*idem.Claim) error {
		return func(c *idem.Claim) error { return steps(e.mustAcquire(*c, idem.VerdictAcquired), f(*c)) }
	}
	switch s {
	case idem.Absent:
		if who == idem.Holder {
			return []func(*idem.Claim) error{after(e.releases)}
		}
		return []func(*idem.Claim) error{after(e.releases), func(*idem.Claim) error { return nil }}
	case idem.InProgress:
		return []func(*idem.Claim) error{acquire}
	case idem.Lapsed:
		return []func(*idem.Claim) error{lapse}
	case idem.Unknown:
		return []func(*idem.Claim) error{after(e.holds), func(c *idem.Claim) error {
			c.HoldOnLapse = true
			return lapse(c)
		}}
	case idem.Completed:
		return []func(*idem.Claim) error{after(func(c idem.Claim) func() error {
			return e.completes(c, response("done"))
		})}
	case idem.Expired:
		return []func(*idem.Claim) error{func(c *idem.Claim) error {
			c.Retention = e.h.Tick
			err := steps(e.mustAcquire(*c, idem.VerdictAcquired), e.completes(*c, response("done")), e.passes(2*e.h.Tick))
			c.Retention = retention
			return err
		}}
	}
	return nil
}

func (e *env) applyCell(cell idem.Transition, c idem.Claim) error {
	var err error
	switch cell.Event {
	case idem.EventAcquire:
		_, err = e.acquire(c, cell.Verdict)
		return err
	case idem.EventRenew:
		err = e.renews(c)()
	case idem.EventComplete:
		err = e.completes(c, response("done"))()
	case idem.EventRelease:
		err = e.releases(c)()
	case idem.EventHold:
		err = e.holds(c)()
	case idem.EventResolveComplete:
		err = e.s.Resolve(e.ctx, c.Key, c.Owner, response("resolved"))
	case idem.EventResolveRetry:
		err = e.s.Resolve(e.ctx, c.Key, c.Owner, nil)
	case idem.EventTake:
		err = e.s.Take(e.ctx, c.Key, c.Owner)
	}
	var want error
	switch cell.Verdict {
	case idem.VerdictLost:
		want = idem.ErrLeaseLost
	case idem.VerdictNotUnknown:
		want = idem.ErrNotUnknown
	default:
	}
	if !errors.Is(err, want) {
		return fmt.Errorf("answered %w, want %w", err, want)
	}
	return nil
}

func (e *env) expectState(k idem.Key, want idem.State) error {
	r, err := e.s.Get(e.ctx, k)
	if want == idem.Absent || want == idem.Lapsed {
		if !errors.Is(err, idem.ErrNotFound) {
			return fmt.Errorf("afterwards the key is %v (%w), want no record", r.State, err)
		}
		return nil
	}
	if err != nil || r.State != want {
		return fmt.Errorf("afterwards the key is %v (%w), want %v", r.State, err, want)
	}
	return nil
}
