package rstore_test

import (
	_ "embed"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// The scripts of the release before, which wrote layout 1.
var (
	//go:embed testdata/acquire1.lua
	acquire1 string
	//go:embed testdata/settle1.lua
	settle1 string
)

// before is a proxy of the release before.
type before struct {
	tb     testing.TB
	server *redistest.Server
	s      *rstore.Store // for names only
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func (b before) acquire(c idem.Claim) {
	b.tb.Helper()
	flags := "\x00"
	if c.HoldOnLapse {
		flags = "\x01"
	}
	var rest [16]byte // of hashes that were twice as long
	for i := range rest {
		rest[i] = 0xee
	}
	hash := func(half [16]byte) string { return string(half[:]) + string(rest[:]) }
	m := b.server.Do("EVAL", acquire1, "1", b.s.Name(c.Key), string(c.Owner[:]), hash(c.Fingerprint), hash(c.Binding),
		millis(c.TTL), millis(c.TTL+c.Retention), flags, string(idem.AppendTail(nil, c.Key, nil)))
	if reply, err := m.ToArray(); err != nil || len(reply) != 2 {
		b.tb.Fatalf("acquire: %v, %v", reply, err)
	}
}

func (b before) settle(e idem.Event, c idem.Claim, r *idem.Response) {
	b.tb.Helper()
	life, response := c.Retention, ""
	if r != nil {
		response = string(idem.AppendResponse(nil, r))
	}
	m := b.server.Do("EVAL", settle1, "1", b.s.Name(c.Key), strconv.Itoa(int(e)), string(c.Owner[:]), millis(c.TTL), millis(life), response)
	if n, err := m.AsInt64(); err != nil || n != int64(idem.VerdictOK) {
		b.tb.Fatalf("%v: %d, %v", e, n, err)
	}
}

// legacy is a claim as the release before made it, or would be compared with it.
func legacy(name string) idem.Claim {
	c := claim(name)
	c.Recipe, c.Fingerprint, c.Binding = idem.LegacyRecipe, idem.Fingerprint{1, 15: 9}, idem.Binding{2, 15: 9}
	c.TTL, c.Retention, c.Remember = time.Minute, 2*time.Hour, 3*time.Hour
	return c
}

func layout(tb testing.TB, server *redistest.Server, name string) byte {
	tb.Helper()
	m := server.Do("GETRANGE", name, "0", "0")
	b, err := m.ToString()
	if err != nil || b == "" {
		tb.Fatalf("%s: %q, %v", name, b, err)
	}
	return b[0]
}

// Whatever the release before left is compared by its own recipe, and by no other.
func TestP3RecordsOfTheReleaseBeforeAreCompared(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	old := before{t, server, s}
	for name, end := range map[string]struct {
		prepare func(c idem.Claim)
		same    idem.Verdict
	}{
		"running": {func(idem.Claim) {}, idem.VerdictInProgress},
		"completed": {func(c idem.Claim) {
			old.settle(idem.EventComplete, c, &idem.Response{Status: 201, Body: []byte("old")})
		}, idem.VerdictCompleted},
		"held": {func(c idem.Claim) { old.settle(idem.EventHold, c, nil) }, idem.VerdictUnknown},
	} {
		c := legacy(name)
		old.acquire(c)
		end.prepare(c)
		caller, payload, recipe := c, c, c
		caller.Binding[15], payload.Fingerprint[15], recipe.Recipe = 0, 0, 5
		if out := acquire(t, s, caller, idem.VerdictMismatch); out.Part != idem.PartIdentity {
			t.Errorf("%s: %v differs", name, out.Part)
		}
		if out := acquire(t, s, payload, idem.VerdictMismatch); out.Part != idem.PartPayload {
			t.Errorf("%s: %v differs", name, out.Part)
		}
		if out := acquire(t, s, recipe, idem.VerdictOtherRecipe); out.Recipe != idem.LegacyRecipe {
			t.Errorf("%s: recipe %d", name, out.Recipe)
		}
		out := acquire(t, s, c, end.same)
		if out.Attempt != 1 || end.same == idem.VerdictCompleted && string(out.Response.Body) != "old" {
			t.Errorf("%s: %+v", name, out)
		}
		if out := acquire(t, s, c, end.same); end.same == idem.VerdictCompleted && (!out.Local || string(out.Response.Body) != "old") {
			t.Errorf("%s, once more: %+v", name, out)
		}
		if n := layout(t, server, s.Name(c.Key)); n != 1 {
			t.Errorf("%s: looking at it wrote layout %d", name, n)
		}
		r, err := s.Get(t.Context(), c.Key)
		if err != nil || r.Key != c.Key || r.Attempt != 1 || r.Recipe != idem.LegacyRecipe || r.Retention < time.Hour.Milliseconds() {
			t.Errorf("%s: an operator sees %+v, %v", name, r, err)
		}
	}
	n := 0
	if err := s.List(t.Context(), func(*idem.Record) bool { n++; return true }); err != nil || n != 3 {
		t.Errorf("%d records are listed, %v", n, err)
	}
}

// Attempts that began under the release before end under this one.
func TestP6RecordsOfTheReleaseBeforeAreEnded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	old := before{t, server, s}
	ctx := t.Context()
	want := &idem.Response{Status: 201, Body: []byte("new")}
	of := func(c idem.Claim) idem.Lease { return idem.Lease{Key: c.Key, Owner: c.Owner} } // all else is in the record
	held := func(c idem.Claim) { old.settle(idem.EventHold, c, nil) }
	for name, step := range map[string]struct {
		prepare func(c idem.Claim)
		end     func(c idem.Claim) error
		then    idem.Verdict
	}{
		"renewed":           {nil, func(c idem.Claim) error { return s.Renew(ctx, []idem.Lease{c.Lease()})[0] }, idem.VerdictInProgress},
		"completed":         {nil, func(c idem.Claim) error { return s.Complete(ctx, c.Lease(), want) }, idem.VerdictCompleted},
		"held":              {nil, func(c idem.Claim) error { return s.Hold(ctx, c.Lease()) }, idem.VerdictUnknown},
		"released":          {nil, func(c idem.Claim) error { return s.Release(ctx, c.Lease()) }, idem.VerdictAcquired},
		"released by hand":  {nil, func(c idem.Claim) error { return s.Release(ctx, of(c)) }, idem.VerdictAcquired},
		"resolved":          {held, func(c idem.Claim) error { return s.Resolve(ctx, c.Key, idem.Owner{}, want) }, idem.VerdictCompleted},
		"resolved as free":  {held, func(c idem.Claim) error { return s.Resolve(ctx, c.Key, idem.Owner{}, nil) }, idem.VerdictAcquired},
		"held and released": {held, func(c idem.Claim) error { return s.Release(ctx, of(c)) }, idem.VerdictAcquired},
		"held and complete": {held, func(c idem.Claim) error { return s.Complete(ctx, c.Lease(), want) }, idem.VerdictCompleted},
	} {
		c := legacy(name)
		old.acquire(c)
		if step.prepare != nil {
			step.prepare(c)
		}
		if err := step.end(c); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n := layout(t, server, s.Name(c.Key)); n != idem.LayoutVersion {
			t.Errorf("%s: layout %d", name, n)
		}
		left := number(t, server, "PTTL", s.Name(c.Key))
		if kept := left > time.Hour.Milliseconds(); kept == (step.then == idem.VerdictUnknown) {
			t.Errorf("%s: PTTL %d", name, left)
		}
		out := acquire(t, s, c, step.then)
		if out.Response != nil && string(out.Response.Body) != "new" {
			t.Errorf("%s: replays %q", name, out.Response.Body)
		}
		if attempt := map[bool]uint32{true: 2, false: 1}[step.then == idem.VerdictAcquired]; out.Attempt != attempt {
			t.Errorf("%s: attempt %d, want %d", name, out.Attempt, attempt)
		}
	}
	c := legacy("a completed one stays")
	old.acquire(c)
	old.settle(idem.EventComplete, c, want)
	if err := s.Release(ctx, of(c)); !errors.Is(err, idem.ErrLeaseLost) {
		t.Errorf("release of a completed one: %v", err)
	}
	if err := s.Complete(ctx, c.Lease(), &idem.Response{Status: 500}); err != nil {
		t.Errorf("a repeated complete: %v", err)
	}
	if out := acquire(t, s, c, idem.VerdictCompleted); string(out.Response.Body) != "new" {
		t.Errorf("replays %q", out.Response.Body)
	}
}

// What is free is taken again, by any recipe, and the count goes on.
func TestP7AttemptsGoOnFromTheReleaseBefore(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	old := before{t, server, s}
	lapsed, released := legacy("lapsed"), legacy("released")
	lapsed.TTL = time.Millisecond
	old.acquire(lapsed)
	old.acquire(released)
	old.settle(idem.EventRelease, released, nil)
	for _, c := range []idem.Claim{lapsed, released} {
		next := c
		next.Recipe, next.TTL = 5, time.Minute
		for deadline := time.Now().Add(time.Minute); ; {
			out, err := s.Acquire(t.Context(), next)
			if err != nil || out.Kind == idem.VerdictAcquired && out.Attempt != 2 {
				t.Fatalf("%s: attempt %d, %v", c.Key.Value(), out.Attempt, err)
			}
			if out.Kind == idem.VerdictAcquired {
				break
			}
			if next.Owner = idem.NewOwner(); time.Now().After(deadline) {
				t.Fatalf("%s: %v", c.Key.Value(), out.Kind)
			}
		}
		if n := layout(t, server, s.Name(c.Key)); n != idem.LayoutVersion {
			t.Errorf("%s: layout %d", c.Key.Value(), n)
		}
	}
}

// The release before gave held records an end; meeting one takes it away.
func TestP7HeldRecordsOfTheReleaseBeforeLoseTheirEnd(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	old := before{t, server, s}
	held, lapses := legacy("held"), legacy("held on lapse")
	lapses.HoldOnLapse = true
	old.acquire(held)
	old.acquire(lapses)
	old.settle(idem.EventHold, held, nil)
	for c, want := range map[*idem.Claim]idem.Verdict{&held: idem.VerdictUnknown, &lapses: idem.VerdictInProgress} {
		if left := number(t, server, "PTTL", s.Name(c.Key)); left <= 0 {
			t.Fatalf("%s: the release before left PTTL %d", c.Key.Value(), left)
		}
		acquire(t, s, *c, want)
		if left := number(t, server, "PTTL", s.Name(c.Key)); left != -1 {
			t.Errorf("%s: PTTL %d, want none", c.Key.Value(), left)
		}
	}
}
