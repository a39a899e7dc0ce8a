package storetest

import (
	"fmt"

	"github.com/idemproxy/idemproxy/idem"
)

func mismatch(e *env) error {
	c := e.fresh()
	want := response("the first caller's")
	payload, caller, both := rival(c), rival(c), rival(c)
	payload.Fingerprint, caller.Binding = idem.Fingerprint{9}, idem.Binding{9}
	both.Fingerprint, both.Binding = payload.Fingerprint, caller.Binding
	if _, err := e.acquire(c, idem.VerdictAcquired); err != nil {
		return err
	}
	for _, state := range []string{"in progress", "completed", "completed and read"} {
		for _, wrong := range []struct {
			claim idem.Claim
			part  idem.Part
		}{{payload, idem.PartPayload}, {caller, idem.PartIdentity}, {both, idem.PartIdentity}} {
			out, err := e.acquire(wrong.claim, idem.VerdictMismatch)
			if err != nil {
				return fmt.Errorf("%s: %w", state, err)
			}
			if out.Part != wrong.part || out.Response != nil {
				return fmt.Errorf("%s: part %v (response: %v), want %v and none", state, out.Part, out.Response != nil, wrong.part)
			}
		}
		if state == "in progress" {
			if err := e.s.Complete(e.ctx, c.Lease(), want); err != nil {
				return err
			}
		} else if err := e.replays(rival(c), want)(); err != nil {
			return err
		}
	}
	return nil
}

func find(e *env) error {
	running, done, held, freed, never := e.fresh(), e.fresh(), e.fresh(), e.fresh(), e.fresh()
	done.Key = done.Key.InScope("acct_7")
	finds := func(c idem.Claim) func() error {
		return func() error {
			digest, err := idem.ParseDigest(c.Key.String())
			if err != nil {
				return err
			}
			key, err := e.s.Find(e.ctx, digest)
			if err == nil && key != c.Key {
				return fmt.Errorf("%s leads to %q", c.Key, key.Value())
			}
			return err
		}
	}
	return steps(
		e.mustAcquire(running, idem.VerdictAcquired), finds(running), e.renews(running), finds(running),
		e.mustAcquire(done, idem.VerdictAcquired), e.completes(done, response("x")), finds(done),
		e.mustAcquire(held, idem.VerdictAcquired), e.holds(held), finds(held),
		e.mustAcquire(freed, idem.VerdictAcquired), e.releases(freed), fails(finds(freed), idem.ErrNotFound),
		fails(finds(never), idem.ErrNotFound),
		func() error { return e.s.Purge(e.ctx, done.Key) }, fails(finds(done), idem.ErrNotFound), finds(running))
}

func hints(e *env) error {
	made := idem.Hints{1, 2, 3, 4}
	c, bare, held := e.fresh(), e.fresh(), e.fresh()
	c.Hints, held.Hints = made, made
	c.Owner, held.Owner = made.NewOwner(), made.NewOwner()
	other := func(c idem.Claim, h idem.Hints) idem.Claim {
		c.Fingerprint, c.Hints, c.Owner = idem.Fingerprint{9}, h, h.NewOwner()
		return c
	}
	differs := func(c idem.Claim, want idem.Part) func() error {
		return func() error {
			out, err := e.acquire(c, idem.VerdictMismatch)
			if err == nil && out.Part != want {
				return fmt.Errorf("%v differs, want %v", out.Part, want)
			}
			return err
		}
	}
	all := func() error {
		stranger := other(c, idem.Hints{9, 9, 9, 9})
		stranger.Binding = idem.Binding{9}
		return steps(
			differs(other(c, idem.Hints{1, 2, 3, 9}), idem.PartPayload|idem.PartBody),
			differs(other(c, idem.Hints{9, 9, 3, 4}), idem.PartPayload|idem.PartMethod|idem.PartTarget),
			differs(other(c, idem.Hints{1, 2, 9, 4}), idem.PartPayload|idem.PartHeaders),
			differs(other(c, made), idem.PartPayload), // what is equal says nothing
			differs(other(c, idem.Hints{}), idem.PartPayload),
			differs(stranger, idem.PartIdentity))
	}
	return steps(
		e.mustAcquire(c, idem.VerdictAcquired), all, e.renews(c), all,
		e.completes(c, response("x")), all, e.replays(rival(c), response("x")), all,
		e.mustAcquire(bare, idem.VerdictAcquired), differs(other(bare, made), idem.PartPayload),
		e.mustAcquire(held, idem.VerdictAcquired), e.holds(held),
		differs(other(held, idem.Hints{9, 2, 3, 4}), idem.PartPayload|idem.PartMethod),
		func() error { return e.s.Resolve(e.ctx, held.Key, idem.Owner{}, response("y")) },
		differs(other(held, idem.Hints{9, 2, 3, 4}), idem.PartPayload)) // the operator's record has nobody's token
}
