package rstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// clockOf is the server's, ms.
func clockOf(tb testing.TB, server *redistest.Server) int64 {
	tb.Helper()
	m := server.Do("TIME")
	parts, err := m.AsIntSlice()
	if err != nil {
		tb.Fatal(err)
	}
	return parts[0]*1000 + parts[1]/1000
}

// learn has a store know its server's clock well.
func learn(tb testing.TB, s *rstore.Store) {
	tb.Helper()
	for i := range 50 {
		must(tb, s, claim(fmt.Sprint("warm-up ", i)))
	}
}

// The times of a record are the server's, 10 ms before to 3 ms after, whatever the client
// believes that its clock shows, and by whichever way the record was written.
func TestTheTimesOfARecordAreTheServers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	ctx := t.Context()
	for name, step := range map[string]struct {
		ahead time.Duration // what is believed, wrongly
		hold  bool
		end   func(c idem.Claim) error
		state idem.State
	}{
		"running":                        {0, false, nil, idem.InProgress},
		"running, held on lapse":         {0, true, nil, idem.InProgress},
		"running, clock behind":          {-time.Hour, false, nil, idem.InProgress},
		"running, clock ahead":           {time.Hour, false, nil, idem.InProgress},
		"held on lapse, clock ahead":     {time.Hour, true, nil, idem.InProgress},
		"running, clock a little ahead":  {50 * time.Millisecond, false, nil, idem.InProgress},
		"running, clock a little behind": {-50 * time.Millisecond, false, nil, idem.InProgress},
		"completed": {0, false, func(c idem.Claim) error {
			return s.Complete(ctx, c.Lease(), &idem.Response{Status: 200})
		}, idem.Completed},
		"completed, held on lapse": {0, true, func(c idem.Claim) error {
			return s.Complete(ctx, c.Lease(), &idem.Response{Status: 200})
		}, idem.Completed},
		"completed, clock forgotten": {0, false, func(c idem.Claim) error {
			s.ForgetClocks()
			return s.Complete(ctx, c.Lease(), &idem.Response{Status: 200})
		}, idem.Completed},
		"held": {0, false, func(c idem.Claim) error { return s.Hold(ctx, c.Lease()) }, idem.Unknown},
	} {
		c := remembered(name, 2*time.Hour)
		c.HoldOnLapse = step.hold
		must(t, s, claim("before "+name)) // which tells the clock
		first := clockOf(t, server)
		s.ShiftClock(step.ahead)
		must(t, s, c)
		if step.end != nil {
			if err := step.end(c); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		last := clockOf(t, server)
		r, err := s.Get(ctx, c.Key)
		if err != nil || r.State != step.state || r.HoldOnLapse != step.hold || r.Attempt != 1 || r.Owner != c.Owner {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		within := func(what string, got int64, after time.Duration) {
			t.Helper()
			if got -= after.Milliseconds(); got < first-10 || got > last+3 {
				t.Errorf("%s: %s is %d ms off, want -10 to %d", name, what, got-first, last-first+3)
			}
		}
		within("created", r.Created, 0)
		within("updated", r.Updated, 0)
		switch step.state {
		case idem.InProgress:
			if left := r.LeaseUntil - c.TTL.Milliseconds(); left < first || left > last+10 {
				t.Errorf("%s: the lease's end is %d ms off, want 0 to %d", name, left-first, last-first+10)
			}
			if !step.hold {
				within("its end", r.Expires, c.TTL+c.Retention)
			}
		case idem.Completed:
			within("the replay's end", r.ReplayUntil, c.Retention)
			within("its end", r.Expires, c.Retention+c.Remember)
			life := number(t, server, "PTTL", s.Name(c.Key))
			if want := (c.Retention + c.Remember).Milliseconds(); life > want || life < want-(clockOf(t, server)-first) {
				t.Errorf("%s: it stays for %d ms, want %d", name, life, want)
			}
		default:
		}
		if r.Retention != c.Retention.Milliseconds() || r.Remember != c.Remember.Milliseconds() {
			t.Errorf("%s: retention %d, remember %d", name, r.Retention, r.Remember)
		}
	}
}

// A Redis that takes no new keys still says what stands.
func TestAFullRedisSaysWhatStands(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, other := open(t, rstore.Config{URL: server.URL()}), open(t, rstore.Config{URL: server.URL()})
	c, running := completed(t, s, "k"), must(t, s, claim("running"))
	must(t, other, claim("warm-up"))
	server.Do("CONFIG", "SET", "maxmemory", "1")
	acquire(t, other, c, idem.VerdictCompleted)
	acquire(t, other, running, idem.VerdictInProgress)
	if _, err := other.Acquire(t.Context(), claim("new")); err == nil {
		t.Error("a new key is granted")
	}
}

// A claim's deadline counts also where it is nearer than what times may be off.
func TestP1ADeadlineOfMillisecondsCounts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	learn(t, s)
	c := claim("k")
	c.Within = 4 * time.Millisecond
	s.ShiftClock(-5 * time.Millisecond)
	server.Do("CONFIG", "RESETSTAT")
	_, err := s.Acquire(t.Context(), c) // once more, by the clock that it was told, if there is still time
	if n := server.Calls()["evalsha"]; err == nil && n != 2 {
		t.Errorf("a claim that was late by 1 ms is granted after %d calls, want 2", n)
	}
}

// A new key is written and nothing is read of it but its owner, which Redis does
// not have to remember (client-side caching).
func TestANewKeyIsItsWrites(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	r := &idem.Response{Status: 200, Body: []byte("x")}
	done(t, s, remembered("warm-up", time.Hour), r) // loads the scripts, and tells the server's clock
	for remember, sets := range map[time.Duration]int{0: 2, time.Hour: 3} {
		// A claim that takes longer than 10 ms to get there is another case.
		for try := 0; ; try++ {
			c := remembered(fmt.Sprint("k", remember, try), time.Hour)
			c.Remember = remember
			server.Do("CONFIG", "RESETSTAT")
			tracked := trackedKeys(t, server)
			done(t, s, c, r)
			calls := server.Calls()
			if calls["evalsha"] == 2 && calls["set"] == sets && calls["getex"] == 1 && calls["time"] == 1 &&
				calls["getrange"]+calls["get"] == 0 && trackedKeys(t, server) == tracked {
				break
			}
			if try == 100 {
				t.Fatalf("remembered for %v: %v, keys tracked: %s, then %s", remember, calls, tracked, trackedKeys(t, server))
			}
		}
	}
}

// trackedKeys is for how many keys the server remembers who has read them.
func trackedKeys(tb testing.TB, server *redistest.Server) string {
	tb.Helper()
	m := server.Do("INFO", "stats")
	text, err := m.ToString()
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(text, "tracking_total_keys:")
	n, _, _ := strings.Cut(rest, "\r")
	return n
}
