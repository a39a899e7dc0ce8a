package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/idemproxy/idemproxy/idem"
)

// Cases is the contract, clause by clause.
func Cases() []Case {
	return []Case{
		{"Cells", "P1-P7", "every cell of the transition table holds", 0, checkCells},
		{"OneWinner", "P1", "of many claimants exactly one acquires", 0, oneWinner},
		{"TwoClients", "P1", "clients of the same data exclude each other and share outcomes", needSecond, twoClients},
		{"Replay", "P2", "a stored response comes back byte for byte", 0, replayShapes},
		{"OmittedBody", "P2", "completed without a body stays so", 0, omittedBody},
		{"Reopen", "P2", "a completed record and a running lease survive a crash", needReopen, reopen},
		{"Mismatch", "P3", "another payload or caller learns which part differs and no more", 0, mismatch},
		{"Find", "P7", "what a log calls a key leads to it, as long as there is a record", 0, find},
		{"Hints", "P3", "a mismatch names the parts that are known to differ, and never more than is known", 0, hints},
		{"Scopes", "P3", "one value in two scopes is two keys", 0, scopes},
		{"HostileKeys", "P3", "no character in a key makes it another key", 0, hostileKeys},
		{"RenewKeeps", "P1", "a renewed lease does not lapse; the remaining time is told", 0, renewKeeps},
		{"Within", "P1", "a claim that must be granted soon is granted, if it comes in time", 0, within},
		{"Told", "P7", "who waits in this process is told of what an operator did here", 0, told},
		{"BatchPartly", "P1", "a batch answers for each lease apart", 0, batchPartly},
		{"StaleOwner", "P1", "a stale owner overwrites nothing", 0, staleOwner},
		{"Attempts", "P7", "attempts of a key count up through release and lapse", 0, attempts},
		{"Retention", "P2", "a response is kept for its retention, then forgotten", 0, retentionEnds},
		{"Horizons", "P2", "after its retention a key is remembered, and not executed", 0, horizons},
		{"HeldForever", "P7", "what may have executed is held until somebody says what happened", 0, heldForever},
		{"Recipes", "P3", "a record is compared by the recipe that it was made by", 0, recipes},
		{"Resolve", "P7", "an operator ends an unknown key either way", 0, resolve},
		{"ResolveOwner", "P2", "what an operator made of a key is not overwritten, nor taken for the owner's", 0, resolveOwner},
		{"ResolveFrom", "P7", "what is known of an attempt does not resolve another one", 0, resolveFrom},
		{"ResolveRetention", "P2", "a resolved key is kept as long as its claim said", 0, resolveRetention},
		{"ReleaseFrom", "P1", "an operator's release needs the owner that was looked at, and the count goes on", 0, releaseFrom},
		{"Registry", "P3", "what is entered beside the records is there until it has ended", 0, registry},
		{"RegistryShared", "P3", "clients of the same data see the same entries", needSecond, registryShared},
		{"RegistryKept", "P3", "entries survive a crash", needReopen, registryKept},
		{"List", "P7", "an operator sees every key that there is, as it stands", 0, list},
		{"Purge", "P2", "a purged key is free, in every client", needSecond, purge},
		{"Ownership", "P2", "the store keeps no byte of the caller's", 0, ownership},
		{"Severed", "P5", "a store that cannot be reached gives nothing out, and recovers", needSever, severed},
		{"Closed", "P5", "after Close every method says so", 0, closed},
		{"Histories", "P1-P7", "random histories agree with the reference", 0, histories},
	}
}

func oneWinner(e *env) error {
	n := e.h.Claimants
	if n == 0 {
		n = 1000
	}
	c := e.fresh()
	var won, busy atomic.Int64
	errs := make(chan error, n)
	var start, done sync.WaitGroup
	start.Add(1)
	for range n {
		done.Go(func() {
			start.Wait()
			out, err := e.s.Acquire(e.ctx, rival(c))
			switch {
			case err != nil:
				errs <- err
			case out.Kind == idem.VerdictAcquired:
				won.Add(1)
			case out.Kind == idem.VerdictInProgress:
				busy.Add(1)
			default:
				errs <- fmt.Errorf("a claimant got %v", out.Kind)
			}
		})
	}
	start.Done()
	done.Wait()
	close(errs)
	for err := range errs {
		return err
	}
	if won.Load() != 1 || busy.Load() != int64(n-1) {
		return fmt.Errorf("%d won and %d were told to wait, of %d", won.Load(), busy.Load(), n)
	}
	return nil
}

func twoClients(e *env) error {
	second := &env{tb: e.tb, h: e.h, ctx: e.ctx, s: e.h.Second(e.tb, e.s)}
	c := e.fresh()
	want := response("from the first")
	return steps(
		e.mustAcquire(c, idem.VerdictAcquired),
		second.mustAcquire(rival(c), idem.VerdictInProgress),
		fails(second.completes(rival(c), response("stolen")), idem.ErrLeaseLost),
		e.completes(c, want),
		second.replays(rival(c), want),
		second.replays(rival(c), want), // now perhaps from memory
		e.replays(rival(c), want),
	)
}

func replayShapes(e *env) error {
	bodies := map[string][]byte{
		"empty": {}, "NUL": {0}, "binary": {0, 1, 0xff, '\r', '\n', 0}, "text": []byte("ok"),
		"1 MiB": bytes.Repeat([]byte{0, 'x', 0xfe, '\n'}, 1<<18),
	}
	for name, body := range bodies {
		want := &idem.Response{Status: 299, Body: body, Header: []idem.Field{
			{Name: []byte("X-Repeat"), Value: []byte("2")},
			{Name: []byte("Content-Type"), Value: []byte("text/html; charset=utf-8")},
			{Name: []byte("x-repeat"), Value: []byte("1")},
			{Name: []byte("X-Empty"), Value: nil},
			{Name: []byte("X-Repeat"), Value: []byte("2")},
		}}
		c := e.fresh()
		err := steps(
			e.mustAcquire(c, idem.VerdictAcquired), e.completes(c, want),
			e.replays(rival(c), want), e.replays(rival(c), want), e.replays(rival(c), want))
		if err != nil {
			return fmt.Errorf("%s body: %w", name, err)
		}
	}
	c, none := e.fresh(), &idem.Response{Status: 204}
	return steps(e.mustAcquire(c, idem.VerdictAcquired), e.completes(c, none), e.replays(rival(c), none))
}

func omittedBody(e *env) error {
	c, want := e.fresh(), &idem.Response{Status: 200, BodyOmitted: true}
	return steps(e.mustAcquire(c, idem.VerdictAcquired), e.completes(c, want), e.replays(rival(c), want))
}

func reopen(e *env) error {
	done, running, held := e.fresh(), e.fresh(), e.fresh()
	want := response("kept")
	err := steps(
		e.mustAcquire(done, idem.VerdictAcquired), e.completes(done, want),
		e.mustAcquire(running, idem.VerdictAcquired),
		e.mustAcquire(held, idem.VerdictAcquired), e.holds(held))
	if err != nil {
		return err
	}
	e.s = e.h.Reopen(e.tb, e.s)
	return steps(
		e.replays(rival(done), want),
		e.mustAcquire(rival(running), idem.VerdictInProgress),
		e.completes(running, want),
		e.replays(rival(running), want),
		e.mustAcquire(rival(held), idem.VerdictUnknown))
}

func scopes(e *env) error {
	a := e.fresh()
	b := rival(a)
	b.Key = a.Key.InScope("tenant-b")
	return steps(
		e.mustAcquire(a, idem.VerdictAcquired), e.mustAcquire(b, idem.VerdictAcquired),
		e.completes(a, response("a")), e.completes(b, response("b")),
		e.replays(rival(a), response("a")), e.replays(rival(b), response("b")))
}

func hostileKeys(e *env) error {
	names := []string{
		"{a}x", "{a}y", "{}", "{", "a b", "a,b", "*", "?", "a:b", "a", "A", `"a"`, `\`, "%0a", "%00",
		strings.Repeat("k", 255), strings.Repeat("k", 254), " lead", "lead", "trail ", "trail",
	}
	for _, name := range names {
		c := claim(name)
		if err := steps(e.mustAcquire(c, idem.VerdictAcquired), e.completes(c, response(name))); err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
	}
	for _, name := range names {
		if err := e.replays(claim(name), response(name))(); err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
	}
	return nil
}

func renewKeeps(e *env) error {
	c := e.fresh()
	c.TTL = 4 * e.h.Tick
	if _, err := e.acquire(c, idem.VerdictAcquired); err != nil {
		return err
	}
	for range 6 {
		e.h.Pass(e.h.Tick)
		if err := e.renews(c)(); err != nil {
			return fmt.Errorf("renew: %w", err)
		}
	}
	out, err := e.acquire(rival(c), idem.VerdictInProgress)
	if err != nil {
		return err
	}
	if out.Remaining <= 0 || out.Remaining > c.TTL {
		return fmt.Errorf("remaining lease is %v of %v", out.Remaining, c.TTL)
	}
	return nil
}

func batchPartly(e *env) error {
	mine, theirs, gone := e.fresh(), e.fresh(), e.fresh()
	if err := steps(e.mustAcquire(mine, idem.VerdictAcquired), e.mustAcquire(theirs, idem.VerdictAcquired)); err != nil {
		return err
	}
	errs := e.s.Renew(e.ctx, []idem.Lease{gone.Lease(), mine.Lease(), rival(theirs).Lease(), mine.Lease()})
	want := []error{idem.ErrLeaseLost, nil, idem.ErrLeaseLost, nil}
	if len(errs) != len(want) {
		return fmt.Errorf("%d answers to %d leases", len(errs), len(want))
	}
	for i := range want {
		if !errors.Is(errs[i], want[i]) {
			return fmt.Errorf("lease %d: %w, want %w", i, errs[i], want[i])
		}
	}
	if len(e.s.Renew(e.ctx, nil)) != 0 {
		return errors.New("an empty batch has answers")
	}
	return nil
}

func staleOwner(e *env) error {
	old := e.fresh()
	old.TTL = e.h.Tick
	if err := steps(e.mustAcquire(old, idem.VerdictAcquired), e.passes(2*e.h.Tick)); err != nil {
		return err
	}
	successor := rival(old)
	successor.TTL = longTTL
	want := response("the successor's")
	return steps(
		e.mustAcquire(successor, idem.VerdictAcquired),
		fails(e.renews(old), idem.ErrLeaseLost),
		fails(e.completes(old, response("stale")), idem.ErrLeaseLost),
		fails(e.releases(old), idem.ErrLeaseLost),
		fails(e.holds(old), idem.ErrLeaseLost),
		e.completes(successor, want),
		fails(e.completes(old, response("stale")), idem.ErrLeaseLost),
		e.replays(rival(old), want))
}

func attempts(e *env) error {
	c := e.fresh()
	for want := uint32(1); want <= 4; want++ {
		c = rival(c)
		c.TTL = longTTL
		if want == 2 {
			c.TTL = e.h.Tick
		}
		out, err := e.acquire(c, idem.VerdictAcquired)
		if err != nil {
			return err
		}
		if out.Attempt != want {
			return fmt.Errorf("attempt %d is counted as %d", want, out.Attempt)
		}
		if want == 2 {
			e.h.Pass(2 * e.h.Tick)
		} else if err := e.s.Release(e.ctx, c.Lease()); err != nil {
			return err
		}
	}
	return nil
}

func retentionEnds(e *env) error {
	short, long := e.fresh(), e.fresh()
	short.Retention, short.Remember = 2*e.h.Tick, 0
	if err := steps(
		e.mustAcquire(short, idem.VerdictAcquired), e.mustAcquire(long, idem.VerdictAcquired),
		// Retention counts from completion, not from acquisition.
		e.passes(3*e.h.Tick),
		e.completes(short, response("short")), e.completes(long, response("long")),
		e.replays(rival(short), response("short")),
		e.passes(3*e.h.Tick)); err != nil {
		return err
	}
	return steps(e.mustAcquire(rival(short), idem.VerdictAcquired), e.replays(rival(long), response("long")))
}

func resolve(e *env) error {
	done, retry := e.fresh(), e.fresh()
	want := response("resolved by hand")
	if err := steps(
		e.mustAcquire(done, idem.VerdictAcquired), e.holds(done),
		e.mustAcquire(retry, idem.VerdictAcquired), e.holds(retry)); err != nil {
		return err
	}
	return steps(
		func() error { return e.s.Resolve(e.ctx, done.Key, idem.Owner{}, want) },
		func() error { return e.s.Resolve(e.ctx, retry.Key, idem.Owner{}, nil) },
		e.replays(rival(done), want),
		e.mustAcquire(rival(retry), idem.VerdictAcquired))
}

func purge(e *env) error {
	second := &env{tb: e.tb, h: e.h, ctx: e.ctx, s: e.h.Second(e.tb, e.s)}
	c, want := e.fresh(), response("to be forgotten")
	if err := steps(
		e.mustAcquire(c, idem.VerdictAcquired), e.completes(c, want),
		second.replays(rival(c), want), second.replays(rival(c), want), second.replays(rival(c), want),
		func() error { return e.s.Purge(e.ctx, c.Key) },
		fails(func() error { return e.s.Purge(e.ctx, c.Key) }, idem.ErrNotFound),
	); err != nil {
		return err
	}
	// The other client hears of it by push, which may take a moment.
	deadline := time.Now().Add(10 * time.Second)
	for {
		out, err := second.s.Acquire(e.ctx, rival(c))
		if err != nil {
			return err
		}
		if out.Kind == idem.VerdictAcquired {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the other client still answers %v", out.Kind)
		}
	}
}

func ownership(e *env) error {
	c := e.fresh()
	mine := response("original")
	if err := steps(e.mustAcquire(c, idem.VerdictAcquired), e.completes(c, mine)); err != nil {
		return err
	}
	for _, b := range [][]byte{mine.Body, mine.Header[0].Name, mine.Header[0].Value} {
		for i := range b {
			b[i] = '!'
		}
	}
	if err := steps(e.replays(rival(c), response("original")), e.replays(rival(c), response("original"))); err != nil {
		return err
	}
	return e.ownsKeys()
}

// ownsKeys changes the bytes that a key refers to after each call, as a server
// does that reuses its buffers.
func (e *env) ownsKeys() error {
	name := []byte("reused buffer")
	c := claim(unsafe.String(unsafe.SliceData(name), len(name)))
	if _, err := e.acquire(c, idem.VerdictAcquired); err != nil {
		return err
	}
	copy(name, "overwritten!!")
	original := claim("reused buffer")
	if _, err := e.acquire(original, idem.VerdictInProgress); err != nil {
		return err
	}
	r, err := e.s.Get(e.ctx, original.Key)
	if err != nil || r.Key != original.Key {
		return fmt.Errorf("the record's key is now %q (%w)", r.Key.Value(), err)
	}
	return nil
}

func severed(e *env) error {
	c, next := e.fresh(), e.fresh()
	if _, err := e.acquire(c, idem.VerdictAcquired); err != nil {
		return err
	}
	acquire := func(c idem.Claim) func() error {
		return func() error {
			_, err := e.s.Acquire(e.ctx, c)
			return err
		}
	}
	mend := e.h.Sever(e.s)
	err := steps(
		fails(acquire(rival(c)), idem.ErrUnavailable),
		e.everyCallFails(c, next, idem.ErrUnavailable))
	mend()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(10 * time.Second)
	for e.s.Ping(e.ctx) != nil && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	// A complete whose first try may or may not have arrived is repeated.
	return steps(e.completes(c, response("x")), e.replays(rival(c), response("x")))
}

func closed(e *env) error {
	c := e.fresh()
	if err := steps(e.mustAcquire(c, idem.VerdictAcquired), e.s.Close, e.s.Close); err != nil {
		return err
	}
	return e.everyCallFails(c, e.fresh(), idem.ErrClosed)()
}
