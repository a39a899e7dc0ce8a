package rstore_test

import (
	_ "embed"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// The scripts of the release before, which write the same layout, and which the
// server has to make the times for.
var (
	//go:embed testdata/acquire2.lua
	acquire2 string
	//go:embed testdata/settle2.lua
	settle2 string
)

// last is a proxy of the release before, during a rolling upgrade.
type last struct {
	tb      testing.TB
	server  *redistest.Server
	s       *rstore.Store // for names only
	layout1 string
}

func newLast(tb testing.TB, server *redistest.Server, s *rstore.Store) last {
	tb.Helper()
	layout1, err := os.ReadFile("layout1.lua")
	if err != nil {
		tb.Fatal(err)
	}
	return last{tb, server, s, string(layout1)}
}

// last2Acquire are the arguments of acquire2.lua.
func last2Acquire(s *rstore.Store, c idem.Claim) []string {
	record := (&idem.Record{
		Key: c.Key, State: idem.InProgress, Fingerprint: c.Fingerprint, Binding: c.Binding, Recipe: c.Recipe,
		Retention: c.Retention.Milliseconds(), Remember: c.Remember.Milliseconds(),
	}).Append(nil)
	flags := "\x00"
	if c.HoldOnLapse {
		flags = "\x01"
	}
	return []string{
		"2", s.Name(c.Key), s.ResponseName(c.Key), string(c.Owner[:]), string(record[24:60]), millis(c.TTL),
		millis(c.TTL + c.Retention), string(record[84:96]), flags, string(record[96:]), "",
	}
}

// last2Settle are the arguments of settle2.lua.
func last2Settle(s *rstore.Store, e idem.Event, c idem.Claim, r *idem.Response) []string {
	record := (&idem.Record{Retention: c.Retention.Milliseconds(), Remember: c.Remember.Milliseconds()}).Append(nil)
	life, response := c.Retention, ""
	switch e {
	case idem.EventRenew:
		life += c.TTL
	case idem.EventComplete:
		life, response = life+c.Remember, string(idem.AppendResponse(nil, r))
	default:
	}
	return []string{
		"2", s.Name(c.Key), s.ResponseName(c.Key), strconv.Itoa(int(e)), string(c.Owner[:]), millis(c.TTL),
		string(record[84:96]), millis(life), response,
	}
}

func (l last) acquire(c idem.Claim, want idem.Verdict) uint32 {
	l.tb.Helper()
	m := l.server.Do(append([]string{"EVAL", l.layout1 + acquire2}, last2Acquire(l.s, c)...)...)
	reply, err := m.AsIntSlice()
	if want == idem.VerdictCompleted {
		parts, _ := m.ToArray()
		reply, err = nil, nil
		for _, part := range parts[:2] {
			n, _ := part.AsInt64()
			reply = append(reply, n)
		}
	}
	if err != nil || len(reply) < 2 || reply[0] != int64(want) {
		l.tb.Fatalf("the release before acquires %s: %v, %v, want %v", c.Key.Value(), reply, err, want)
	}
	return uint32(reply[1])
}

func (l last) settle(e idem.Event, c idem.Claim, r *idem.Response) {
	l.tb.Helper()
	m := l.server.Do(append([]string{"EVAL", l.layout1 + settle2}, last2Settle(l.s, e, c, r)...)...)
	if n, err := m.AsInt64(); err != nil || n != int64(idem.VerdictOK) {
		l.tb.Fatalf("the release before: %v of %s: %d, %v", e, c.Key.Value(), n, err)
	}
}

// During a rolling upgrade, proxies of this release and of the one before have one
// truth: each takes what the other wrote for what it is, in every state.
func TestP1ARollingUpgradeSharesKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	old := newLast(t, server, s)
	ctx, r := t.Context(), &idem.Response{Status: 201, Body: []byte("kept")}
	for _, remember := range []time.Duration{0, time.Hour} {
		for _, holds := range []bool{false, true} {
			name := func(what string) idem.Claim {
				c := remembered(what+strconv.FormatBool(holds)+remember.String(), time.Hour)
				c.Remember, c.HoldOnLapse = remember, holds
				c.Hints = idem.Hints{1, 2, 3, 4} // which the release before keeps, and does not know of
				c.Owner = c.Hints.NewOwner()
				return c
			}
			rival := func(c idem.Claim) idem.Claim { c.Owner = idem.NewOwner(); return c }

			c := name("theirs, completed")
			old.acquire(c, idem.VerdictAcquired)
			acquire(t, s, c, idem.VerdictInProgress)
			old.settle(idem.EventRenew, c, nil)
			old.settle(idem.EventComplete, c, r)
			if out := acquire(t, s, c, idem.VerdictCompleted); string(out.Response.Body) != "kept" {
				t.Errorf("replays %q", out.Response.Body)
			}

			c = name("ours, completed")
			must(t, s, c)
			old.acquire(rival(c), idem.VerdictInProgress)
			if err := s.Complete(ctx, c.Lease(), r); err != nil {
				t.Fatal(err)
			}
			if n := old.acquire(rival(c), idem.VerdictCompleted); n != 1 {
				t.Errorf("attempt %d, want 1", n)
			}
			other := rival(c)
			other.Fingerprint[0]++
			old.acquire(other, idem.VerdictMismatch)

			c = name("ours, large")
			must(t, s, c)
			if err := s.Complete(ctx, c.Lease(), large()); err != nil {
				t.Fatal(err)
			}
			old.acquire(rival(c), idem.VerdictCompleted)
			replaysLarge(t, s, c)

			c = name("theirs, large")
			old.acquire(c, idem.VerdictAcquired)
			old.settle(idem.EventComplete, c, large())
			replaysLarge(t, s, c)

			c = name("ours, released, theirs, released, ours")
			must(t, s, c)
			if err := s.Release(ctx, c.Lease()); err != nil {
				t.Fatal(err)
			}
			c = rival(c)
			if n := old.acquire(c, idem.VerdictAcquired); n != 2 {
				t.Errorf("attempt %d, want 2", n)
			}
			old.settle(idem.EventRelease, c, nil)
			if out := acquire(t, s, c, idem.VerdictAcquired); out.Attempt != 3 {
				t.Errorf("attempt %d, want 3", out.Attempt)
			}

			c = name("ours, held")
			must(t, s, c)
			if err := s.Hold(ctx, c.Lease()); err != nil {
				t.Fatal(err)
			}
			old.acquire(rival(c), idem.VerdictUnknown)
			if err := s.Complete(ctx, rival(c).Lease(), r); !errors.Is(err, idem.ErrLeaseLost) {
				t.Errorf("a stranger completes: %v", err)
			}
			old.settle(idem.EventComplete, c, r)
			acquire(t, s, c, idem.VerdictCompleted)
		}
	}
}
