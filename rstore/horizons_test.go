package rstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// done completes c, and fails the test if that fails.
func done(tb testing.TB, s *rstore.Store, c idem.Claim, r *idem.Response) {
	tb.Helper()
	if out, err := s.Acquire(context.Background(), c); err != nil || out.Kind != idem.VerdictAcquired {
		tb.Fatalf("acquire: %v, %v", out.Kind, err)
	}
	if err := s.Complete(context.Background(), c.Lease(), r); err != nil {
		tb.Fatal(err)
	}
}

// remembered is a claim whose key is remembered longer than its response.
func remembered(name string, retention time.Duration) idem.Claim {
	c := claim(name)
	c.Retention, c.Remember = retention, time.Hour
	return c
}

// number asks a server for one.
func number(tb testing.TB, server *redistest.Server, args ...string) int64 {
	tb.Helper()
	m := server.Do(args...)
	n, err := m.AsInt64()
	if err != nil {
		tb.Fatalf("%v: %v", args, err)
	}
	return n
}

// gone waits until a server has ended a key by itself.
func gone(tb testing.TB, server *redistest.Server, name string) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); number(tb, server, "EXISTS", name) == 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("%s does not end", name)
		}
	}
}

// What is kept of a key after its retention is at most 100 bytes besides its
// names, in one key of Redis. The figures of docs/redis.md are printed here.
func TestWhatAKeyCosts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "no")
	s := open(t, rstore.Config{URL: server.URL()})
	// A UUID, and a response with 300 bytes of body.
	c := remembered("7f8bb2a2-67a6-4a52-9e2c-3c1a3e1d5b10", 100*time.Millisecond)
	r := &idem.Response{Status: 201, Header: []idem.Field{
		{Name: []byte("Content-Type"), Value: []byte("application/json")},
		{Name: []byte("Date"), Value: []byte("Wed, 25 Nov 2026 12:00:00 GMT")},
	}, Body: bytes.Repeat([]byte("x"), 300)}
	running := claim("3f8bb2a2-67a6-4a52-9e2c-3c1a3e1d5b11")
	if _, err := s.Acquire(t.Context(), running); err != nil {
		t.Fatal(err)
	}
	t.Logf("in progress: %d bytes", number(t, server, "MEMORY", "USAGE", s.Name(running.Key)))
	done(t, s, c, r)
	record, response := s.Name(c.Key), s.ResponseName(c.Key)
	one := claim("9f8bb2a2-67a6-4a52-9e2c-3c1a3e1d5b12")
	done(t, s, one, r)
	t.Logf("completed, with a body of 300 bytes, not remembered: %d bytes", number(t, server, "MEMORY", "USAGE", s.Name(one.Key)))
	kept := remembered("5f8bb2a2-67a6-4a52-9e2c-3c1a3e1d5b13", time.Hour)
	done(t, s, kept, r)
	t.Logf("completed, with a body of 300 bytes, remembered: %d + %d bytes",
		number(t, server, "MEMORY", "USAGE", s.Name(kept.Key)), number(t, server, "MEMORY", "USAGE", s.ResponseName(kept.Key)))
	gone(t, server, response)
	t.Logf("remembered: %d bytes", number(t, server, "MEMORY", "USAGE", record))
	names := int64(len(c.Key.Scope()) + len(c.Key.Value()))
	if n := number(t, server, "STRLEN", record); n > names+100 {
		t.Errorf("%d bytes are kept besides the names, want at most 100", n-names)
	}
	acquire(t, s, c, idem.VerdictExpired)
	if left := number(t, server, "PTTL", record); left <= 0 || left > time.Hour.Milliseconds() {
		t.Errorf("it is remembered for %d ms more, want about an hour", left)
	}
}

// What a thousand keys cost in all that Redis has to keep of them, printed for
// docs/redis.md: MEMORY USAGE leaves out the table of when keys end.
func TestWhatManyKeysCost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "no")
	s := open(t, rstore.Config{URL: server.URL()})
	completed(t, s, "warm-up")
	used := func() int64 {
		m := server.Do("INFO", "memory")
		text, _ := m.ToString()
		_, rest, _ := strings.Cut(text, "used_memory:")
		rest, _, _ = strings.Cut(rest, "\r")
		n, err := strconv.ParseInt(rest, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const keys = 2000
	before := used()
	for i := range keys {
		done(t, s, remembered(fmt.Sprintf("7f8bb2a2-67a6-4a52-9e2c-%012d", i), time.Millisecond), &idem.Response{Status: 200})
	}
	for deadline := time.Now().Add(time.Minute); number(t, server, "DBSIZE") > keys+1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the responses do not end")
		}
	}
	each := (used() - before) / keys
	t.Logf("remembered, of %d: %d bytes each", keys, each)
	if each > 500 {
		t.Errorf("%d bytes a key", each)
	}
}

// A response that is gone before its time makes the key expired: in no case is it
// executed again. Who has it in memory hears of it.
func TestP2AResponseThatIsGoneIsNotExecutedAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, other := open(t, rstore.Config{URL: server.URL()}), open(t, rstore.Config{URL: server.URL()})
	c := remembered("k", time.Hour)
	done(t, s, c, &idem.Response{Status: 200, Body: []byte("kept")})
	acquire(t, other, c, idem.VerdictCompleted)
	if out := acquire(t, other, c, idem.VerdictCompleted); !out.Local || string(out.Response.Body) != "kept" {
		t.Fatalf("not cached, but %+v", out)
	}
	server.Do("DEL", s.ResponseName(c.Key))
	acquire(t, s, c, idem.VerdictExpired)
	for deadline := time.Now().Add(time.Minute); ; { // by push
		rival := c
		rival.Owner = idem.NewOwner()
		out, err := other.Acquire(t.Context(), rival)
		if err == nil && out.Kind == idem.VerdictExpired {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the other store still answers %v, %v", out.Kind, err)
		}
	}
	if r, err := s.Get(t.Context(), c.Key); err != nil || r.State != idem.Expired || r.Key != c.Key {
		t.Errorf("an operator sees %v, %v", r.State, err)
	}
}

// A response that had to stay in its record (a slot was moving) ends with its
// time all the same, though Redis keeps the record.
func TestP2AResponseInItsRecordEnds(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	for name, c := range map[string]struct {
		left time.Duration
		want idem.Verdict
	}{"in time": {time.Hour, idem.VerdictCompleted}, "over": {0, idem.VerdictExpired}} {
		m := server.Do("TIME")
		parts, err := m.AsIntSlice()
		if err != nil {
			t.Fatal(err)
		}
		now, one := parts[0]*1000, remembered(name, time.Hour)
		r := idem.Record{
			Key: one.Key, State: idem.Completed, Attempt: 1, Owner: one.Owner, Created: now, Updated: now,
			ReplayUntil: now + c.left.Milliseconds(), Expires: now + 2*time.Hour.Milliseconds(),
			Retention: time.Hour.Milliseconds(), Remember: time.Hour.Milliseconds(), Response: &idem.Response{Status: 200},
		}
		server.Do("SET", s.Name(one.Key), string(r.Append(nil)))
		acquire(t, s, one, c.want)
	}
}

// What is in memory is replayed until its retention ends, not until the key does;
// no server tells of that.
func TestP2CacheEndsWithTheResponse(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	s := open(t, rstore.Config{URL: server.URL()})
	c := remembered("k", 300*time.Millisecond)
	done(t, s, c, &idem.Response{Status: 200})
	ends := time.Now().Add(300 * time.Millisecond)
	acquire(t, s, c, idem.VerdictCompleted)
	if out := acquire(t, s, c, idem.VerdictCompleted); !out.Local {
		t.Fatal("not cached")
	}
	time.Sleep(time.Until(ends))
	acquire(t, s, c, idem.VerdictExpired)
}

func TestPurgeTakesBothKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	c := remembered("k", time.Hour)
	done(t, s, c, &idem.Response{Status: 200})
	if n := number(t, server, "DBSIZE"); n != 2 {
		t.Fatalf("a remembered response is in %d keys, want 2", n)
	}
	if err := s.Purge(t.Context(), c.Key); err != nil {
		t.Fatal(err)
	}
	if n := number(t, server, "DBSIZE"); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

// A record that somebody deleted leaves its response; the next attempt's is what
// is replayed, wherever it is kept.
func TestP2ALeftResponseIsNotReplayed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	for _, remember := range []time.Duration{time.Hour, 0} {
		c := remembered("key, "+remember.String(), time.Hour)
		done(t, s, c, &idem.Response{Status: 200, Body: []byte("old")})
		server.Do("DEL", s.Name(c.Key))
		next := c
		next.Owner, next.Remember = idem.NewOwner(), remember
		done(t, s, next, &idem.Response{Status: 200, Body: []byte("new")})
		if out := acquire(t, s, c, idem.VerdictCompleted); string(out.Response.Body) != "new" {
			t.Errorf("remembered for %v: replays %q", remember, out.Response.Body)
		}
	}
}

// A record in which it cannot be known whether something was executed has no end
// in Redis, and gets one with its outcome.
func TestP7HeldHasNoEnd(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	ctx := t.Context()
	ends := func(c idem.Claim, want bool, after string) {
		t.Helper()
		if left := number(t, server, "PTTL", s.Name(c.Key)); left > 0 != want || left == -2 {
			t.Errorf("after %s: PTTL %d", after, left)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c, hold := claim("released on lapse"), claim("held on lapse")
	hold.HoldOnLapse = true
	for _, c := range []idem.Claim{c, hold} {
		_, err := s.Acquire(ctx, c)
		must(err)
		ends(c, !c.HoldOnLapse, "acquire of "+c.Key.Value())
		must(s.Renew(ctx, []idem.Lease{c.Lease()})[0])
		ends(c, !c.HoldOnLapse, "renewal of "+c.Key.Value())
		must(s.Hold(ctx, c.Lease()))
		ends(c, false, "hold of "+c.Key.Value())
		must(s.Release(ctx, c.Lease()))
		ends(c, true, "release of "+c.Key.Value())
	}
	c = claim("resolved")
	_, err := s.Acquire(ctx, c)
	must(err)
	must(s.Hold(ctx, c.Lease()))
	must(s.Resolve(ctx, c.Key, idem.Owner{}, &idem.Response{Status: 200}))
	ends(c, true, "resolve")
}

// While a Cluster moves a slot, keys of it can be taken, completed, replayed,
// looked at and purged, on either side.
func TestP1ASlotThatMoves(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 64 << 10} {
		for _, replicas := range []int{0, 1} {
			t.Run(fmt.Sprintf("%d bytes, %d replicas", size, replicas), func(t *testing.T) {
				t.Parallel()
				aSlotMoves(t, replicas, strings.Repeat("x", size), strings.Repeat("y", size))
			})
		}
	}
}

func aSlotMoves(t *testing.T, replicas int, before, after string) {
	t.Helper()
	url, nodes, others := redistest.ClusterWith(t, 3, replicas)
	s := open(t, rstore.Config{URL: url, WaitReplicas: replicas})
	c := remembered("k", time.Hour)
	slot := strconv.FormatInt(number(t, nodes[0], "CLUSTER", "KEYSLOT", s.Name(c.Key)), 10)
	if n := number(t, nodes[0], "CLUSTER", "KEYSLOT", s.ResponseName(c.Key)); strconv.FormatInt(n, 10) != slot {
		t.Fatalf("the response is in slot %d, its record in slot %s", n, slot)
	}
	if n := rstore.SlotOf(s.Name(c.Key)); strconv.Itoa(int(n)) != slot {
		t.Fatalf("slot %d, Redis says %s", n, slot)
	}
	source, target := 0, 1
	for i, node := range nodes {
		if node.Try("EXISTS", s.Name(c.Key)) == nil {
			source, target = i, (i+1)%3
		}
	}
	id := func(node *redistest.Server) string {
		m := node.Do("CLUSTER", "MYID")
		text, _ := m.ToString()
		return text
	}
	stands := func(after string) { // in one piece, and nothing beside it
		t.Helper()
		var n int64
		for _, node := range nodes {
			n += number(t, node, "CLUSTER", "COUNTKEYSINSLOT", slot)
		}
		if n != 1 {
			t.Errorf("%d keys of the slot after %s, want the record", n, after)
		}
	}
	nodes[target].Do("CLUSTER", "SETSLOT", slot, "IMPORTING", id(nodes[source]))
	if _, err := s.Acquire(t.Context(), c); err != nil { // on the side that the slot leaves
		t.Fatal(err)
	}
	nodes[source].Do("CLUSTER", "SETSLOT", slot, "MIGRATING", id(nodes[target]))
	if err := s.Complete(t.Context(), c.Lease(), &idem.Response{Status: 200, Body: []byte(before)}); err != nil {
		t.Fatalf("complete: %v", err)
	}
	stands("a completion on the side that the slot leaves")
	if out := acquire(t, s, c, idem.VerdictCompleted); string(out.Response.Body) != before {
		t.Errorf("replays %q", out.Response.Body)
	}
	if r, err := s.Get(t.Context(), c.Key); err != nil || r.State != idem.Completed || r.Response == nil {
		t.Errorf("an operator sees %v, %v", r.State, err)
	}
	if err := s.Purge(t.Context(), c.Key); err != nil {
		t.Errorf("purge: %v", err)
	}
	next := remembered("k", time.Hour) // of nobody: on the side that it moves to
	done(t, s, next, &idem.Response{Status: 200, Body: []byte(after)})
	stands("a completion on the side that it moves to")
	if out := acquire(t, s, c, idem.VerdictCompleted); string(out.Response.Body) != after {
		t.Errorf("replays %q", out.Response.Body)
	}
	if n := nodes[source].Try("EXISTS", s.Name(c.Key)); n == nil || !strings.HasPrefix(n.Error(), "ASK") {
		t.Errorf("the side that the slot leaves says %v, want ASK", n)
	}
	if replicas == 0 {
		return
	}
	// The replicas that count are those of the side where the key is.
	if err := s.Purge(t.Context(), c.Key); err != nil {
		t.Errorf("purge: %v", err)
	}
	must(t, s, next)
	for _, other := range others {
		if other.Replicates(nodes[target]) {
			other.Kill()
		}
	}
	if err := s.Hold(t.Context(), next.Lease()); !errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused) {
		t.Errorf("what no replica has: %v, want it to be in doubt", err)
	}
}

// Two keys and a deadline cost no round trip: a new key is two script calls, a
// replay that was not met before is one, and any other none.
func TestRoundTripsOfTwoKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, other := open(t, rstore.Config{URL: server.URL()}), open(t, rstore.Config{URL: server.URL()})
	r := &idem.Response{Status: 200, Body: []byte("x")}
	c := remembered("warm-up", time.Hour)
	c.Within = time.Minute
	done(t, s, c, r) // loads the scripts, and tells the server's clock
	calls := func(want int, what string, f func()) {
		t.Helper()
		server.Do("CONFIG", "RESETSTAT")
		f()
		if calls := server.Calls(); calls["evalsha"] != want || calls["eval"] != 0 {
			t.Errorf("%s: %d calls by SHA and %d whole ones, want %d and none", what, calls["evalsha"], calls["eval"], want)
		}
	}
	c.Key = claim("k").Key
	calls(2, "a new key", func() { done(t, s, c, r) })
	calls(1, "its first replay elsewhere", func() { acquire(t, other, c, idem.VerdictCompleted) })
	calls(0, "its next", func() { acquire(t, other, c, idem.VerdictCompleted) })
}
