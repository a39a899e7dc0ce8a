package rstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// must acquires a key and says under what.
func must(tb testing.TB, s *rstore.Store, c idem.Claim) idem.Claim {
	tb.Helper()
	if out, err := s.Acquire(context.Background(), c); err != nil || out.Kind != idem.VerdictAcquired {
		tb.Fatalf("acquire %s: %v, %v", c.Key, out.Kind, err)
	}
	return c
}

// failover is a store whose primary is lost, with all that it had acknowledged,
// and followed by another.
type failover struct {
	*rstore.Store
	first, second *redistest.Server
	elsewhere     *rstore.Store // another process's, on the second server
	endpoint      *endpoint
	log           lines
}

func newFailover(t *testing.T, c rstore.Config) *failover {
	t.Helper()
	f := &failover{first: redistest.Start(t), second: redistest.Start(t)}
	f.endpoint = newEndpoint(t, f.first)
	c.URL, c.Logger = "redis://"+f.endpoint.addr+"/0", zerolog.New(&f.log)
	f.Store = open(t, c)
	f.elsewhere = open(t, rstore.Config{URL: f.second.URL()})
	return f
}

func (f *failover) happens(t *testing.T) {
	t.Helper()
	f.endpoint.to.Store(f.second)
	f.first.Kill()
	awaitReady(t, f.Store)
}

// What a primary had acknowledged and lost is on the next one before that takes a
// key: leases go on, responses are replayed, what is held is held.
func TestAFailoverLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	running := must(t, f.Store, claim("running"))
	again := must(t, f.Store, claim("second attempt"))
	if err := f.Release(t.Context(), again.Lease()); err != nil {
		t.Fatal(err)
	}
	again = must(t, f.Store, claim("second attempt"))
	done1, done2 := completed(t, f.Store, "completed"), remembered("remembered", time.Hour)
	done(t, f.Store, done2, &idem.Response{Status: 201, Body: []byte("remembered")})
	held, released, purged := must(t, f.Store, claim("held")), must(t, f.Store, claim("released")), completed(t, f.Store, "purged")
	resolved := must(t, f.Store, claim("resolved"))
	for _, err := range []error{
		f.Hold(t.Context(), held.Lease()), f.Release(t.Context(), released.Lease()), f.Purge(t.Context(), purged.Key),
		f.Hold(t.Context(), resolved.Lease()), f.Resolve(t.Context(), resolved.Key, idem.Owner{}, &idem.Response{Status: 200, Body: []byte("so")}),
		f.Renew(t.Context(), []idem.Lease{running.Lease()})[0],
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.happens(t)
	acquire(t, f.elsewhere, running, idem.VerdictInProgress)
	if out := acquire(t, f.elsewhere, again, idem.VerdictInProgress); out.Attempt != 2 {
		t.Errorf("attempt %d, want 2", out.Attempt)
	}
	for c, body := range map[*idem.Claim]string{&done1: "completed", &done2: "remembered", &resolved: "so"} {
		if out := acquire(t, f.elsewhere, *c, idem.VerdictCompleted); string(out.Response.Body) != body {
			t.Errorf("%s replays %q", c.Key, out.Response.Body)
		}
	}
	acquire(t, f.elsewhere, held, idem.VerdictUnknown)
	acquire(t, f.elsewhere, released, idem.VerdictAcquired)
	acquire(t, f.elsewhere, purged, idem.VerdictAcquired)
	if err := f.Complete(t.Context(), running.Lease(), &idem.Response{Status: 200, Body: []byte("ran on")}); err != nil {
		t.Errorf("completing what ran during the failover: %v", err)
	}
	if r, err := f.elsewhere.Get(t.Context(), done1.Key); err != nil || r.Retention != time.Hour.Milliseconds() || r.Key.Value() != "completed" {
		t.Errorf("the restored record: %+v, %v", r, err)
	}
}

// What is on the new primary and older is brought up to date.
func TestAFailoverBringsUpToDate(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	running, held, released, purged, ended := claim("running"), claim("held"), claim("released"), claim("purged"), claim("ended")
	for _, c := range []idem.Claim{running, held, released, purged, ended} {
		must(t, f.elsewhere, c) // as a replica that has got no further
		must(t, f.Store, c)
	}
	for _, err := range []error{
		f.Hold(t.Context(), held.Lease()), f.Release(t.Context(), released.Lease()), f.Purge(t.Context(), purged.Key),
		f.Complete(t.Context(), ended.Lease(), &idem.Response{Status: 200, Body: []byte("ended")}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.happens(t)
	acquire(t, f.elsewhere, running, idem.VerdictInProgress)
	acquire(t, f.elsewhere, held, idem.VerdictUnknown)
	if out := acquire(t, f.elsewhere, released, idem.VerdictAcquired); out.Attempt != 2 {
		t.Errorf("attempt %d of what was released, want 2", out.Attempt)
	}
	if out := acquire(t, f.elsewhere, purged, idem.VerdictAcquired); out.Attempt != 1 {
		t.Errorf("attempt %d of what was purged, want 1", out.Attempt)
	}
	if out := acquire(t, f.elsewhere, ended, idem.VerdictCompleted); string(out.Response.Body) != "ended" {
		t.Errorf("replays %q", out.Response.Body)
	}
	f.log.await(t, `"event":"store_asserted"`)
}

// What was made after a purge stays, though its times may be some milliseconds old.
func TestP1AFailoverKeepsWhatFollowedAPurge(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	learn(t, f.Store)
	learn(t, f.elsewhere)
	c := must(t, f.Store, claim("k"))
	if err := f.Purge(t.Context(), c.Key); err != nil {
		t.Fatal(err)
	}
	f.elsewhere.ShiftClock(-8 * time.Millisecond)
	next := c
	next.Owner = idem.NewOwner()
	must(t, f.elsewhere, next)
	f.happens(t)
	acquire(t, f.elsewhere, c, idem.VerdictInProgress)
}

// What this process did and got no answer to is further than its journal.
func TestAFailoverTakesNothingBack(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	finished, released, held := must(t, f.Store, claim("finished")), must(t, f.Store, claim("released")), must(t, f.Store, claim("held"))
	both, renewed := must(t, f.Store, claim("held by both")), must(t, f.Store, claim("renewed"))
	for _, c := range []idem.Claim{finished, released, held, both, renewed} {
		must(t, f.elsewhere, c)
	}
	longer := renewed.Lease()
	longer.TTL = time.Hour
	for _, err := range []error{
		f.elsewhere.Complete(t.Context(), finished.Lease(), &idem.Response{Status: 200, Body: []byte("finished")}),
		f.elsewhere.Release(t.Context(), released.Lease()), f.elsewhere.Hold(t.Context(), held.Lease()),
		f.Hold(t.Context(), both.Lease()), f.elsewhere.Hold(t.Context(), both.Lease()),
		f.elsewhere.Renew(t.Context(), []idem.Lease{longer})[0],
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.happens(t)
	f.log.await(t, `"same":5,"restored":0,"advanced":0,"conflicts":0,"failed":0`)
	acquire(t, f.elsewhere, finished, idem.VerdictCompleted)
	acquire(t, f.elsewhere, released, idem.VerdictAcquired)
	acquire(t, f.elsewhere, held, idem.VerdictUnknown)
	acquire(t, f.elsewhere, both, idem.VerdictUnknown)
	if out := acquire(t, f.elsewhere, renewed, idem.VerdictInProgress); out.Remaining < 30*time.Minute {
		t.Errorf("it goes on for %v, of an hour", out.Remaining)
	}
}

// The same process, which has had another's data in between, is told.
func TestAPrimaryThatWasAReplicaIsTold(t *testing.T) {
	t.Parallel()
	first, other := redistest.Start(t), redistest.Start(t)
	s := open(t, rstore.Config{URL: first.URL()})
	c := must(t, s, claim("k"))
	host, port, _ := net.SplitHostPort(other.Addr)
	first.Do("REPLICAOF", host, port)
	for deadline := time.Now().Add(time.Minute); !other.HasReplica(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not become a replica")
		}
	}
	for deadline := time.Now().Add(time.Minute); s.Ping(t.Context()) == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not noticed")
		}
	}
	first.Do("REPLICAOF", "NO", "ONE")
	awaitReady(t, s)
	acquire(t, s, c, idem.VerdictInProgress)
}

// A slot of a Cluster has another server, which lacks what the one before had: it
// is told within a moment.
func TestAClusterIsTold(t *testing.T) {
	t.Parallel()
	url, nodes := redistest.Cluster(t, 3)
	s := open(t, rstore.Config{URL: url})
	c := must(t, s, claim("k"))
	slot := strconv.Itoa(int(rstore.SlotOf(s.Name(c.Key))))
	var from, to *redistest.Server
	for _, node := range nodes {
		if m := node.Do("DBSIZE"); asInt(t, m.AsInt64) == 1 {
			from = node
		} else {
			to = node
		}
	}
	awaitCalls := func(n int) { // until the store has looked at the slots' servers that often
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			calls := 0
			for _, node := range nodes {
				calls += node.Calls()["cluster|slots"]
			}
			if calls >= n {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the store does not look at the Cluster")
			}
		}
	}
	for _, node := range nodes {
		node.Do("CONFIG", "RESETSTAT")
	}
	awaitCalls(2)
	if err := from.Try("DEL", s.Name(c.Key)); err != nil {
		t.Fatal(err)
	}
	m := to.Do("CLUSTER", "MYID")
	id, err := m.ToString()
	if err != nil {
		t.Fatal(err)
	}
	to.Do("CLUSTER", "SETSLOT", slot, "NODE", id)
	for _, node := range nodes {
		node.Do("CLUSTER", "SETSLOT", slot, "NODE", id)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r, err := s.Get(t.Context(), c.Key)
		if err == nil && r.Owner == c.Owner && r.State == idem.InProgress {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the new server is not told: %+v, %v", r, err)
		}
	}
}

// nextMillisecond returns when the server's clock has gone on by one.
func nextMillisecond(t *testing.T, s *redistest.Server) {
	t.Helper()
	now := func() int64 {
		m := s.Do("TIME")
		parts, err := m.AsIntSlice()
		if err != nil {
			t.Fatal(err)
		}
		return parts[0]*1000 + parts[1]/1000
	}
	for start := now(); now() == start; {
		continue
	}
}

// What somebody else has done since stays, and is told.
func TestAFailoverKeepsWhatIsLater(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	taken, finished := must(t, f.Store, claim("taken")), must(t, f.Store, claim("finished"))
	var purged []idem.Claim // and made anew at once: the order of milliseconds is not enough
	for i := range 200 {
		purged = append(purged, completed(t, f.Store, fmt.Sprint("purged", i)))
		nextMillisecond(t, f.second)
		if err := f.Purge(t.Context(), purged[i].Key); err != nil {
			t.Fatal(err)
		}
		completed(t, f.elsewhere, fmt.Sprint("purged", i))
	}
	other := must(t, f.elsewhere, claim("taken"))
	completed(t, f.elsewhere, "finished")
	f.happens(t)
	if errs := f.Renew(t.Context(), []idem.Lease{taken.Lease()}); !errors.Is(errs[0], idem.ErrLeaseLost) {
		t.Errorf("renewing what another has: %v", errs[0])
	}
	if err := f.Complete(t.Context(), finished.Lease(), &idem.Response{Status: 200}); !errors.Is(err, idem.ErrLeaseLost) {
		t.Errorf("completing what another has: %v", err)
	}
	if errs := f.elsewhere.Renew(t.Context(), []idem.Lease{other.Lease()}); errs[0] != nil {
		t.Errorf("the other's lease: %v", errs[0])
	}
	for i := range purged {
		acquire(t, f.elsewhere, purged[i], idem.VerdictCompleted)
	}
	if n := f.log.count(`"event":"store_conflict"`); n != 2 {
		t.Errorf("%d conflicts are told, want 2", n)
	}
}

// The same primary was told to forget: it is not reminded.
func TestNothingIsAssertedOnTheSamePrimary(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	c := completed(t, s, "k")
	server.Do("FLUSHALL")
	server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if s.Ping(t.Context()) == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not connect anew")
		}
	}
	acquire(t, s, c, idem.VerdictAcquired)
}

// A journal of 0 asserts nothing, and one that is full forgets the oldest first,
// but no lease.
func TestTheJournalIsBounded(t *testing.T) {
	t.Parallel()
	none := newFailover(t, rstore.Config{Journal: -1})
	c := completed(t, none.Store, "k")
	none.happens(t)
	acquire(t, none.Store, c, idem.VerdictAcquired)

	small := newFailover(t, rstore.Config{JournalBytes: 64 << 10})
	running := must(t, small.Store, claim("running"))
	const n = 2000
	for i := range n {
		completed(t, small.Store, fmt.Sprint(i))
	}
	small.happens(t)
	acquire(t, small.Store, running, idem.VerdictInProgress)
	acquire(t, small.Store, claim(fmt.Sprint(n-1)), idem.VerdictCompleted)
	if size := small.second.Do("DBSIZE"); asInt(t, size.AsInt64) > n/4 {
		t.Errorf("%d records were asserted: the journal is not bounded", asInt(t, size.AsInt64))
	}
}

func asInt(tb testing.TB, get func() (int64, error)) int64 {
	tb.Helper()
	n, err := get()
	if err != nil {
		tb.Fatal(err)
	}
	return n
}
