package rstore_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// Messages as Sentinels of Redis 7.0.15 publish them during SENTINEL FAILOVER.
func TestWhatSentinelsSay(t *testing.T) {
	t.Parallel()
	const old, next = "127.0.0.1:21001", "127.0.0.1:21003"
	const slave = "slave 127.0.0.1:21003 127.0.0.1 21003 @ it 127.0.0.1 21001"
	for _, c := range []struct {
		channel, message, from, to string
		end, ok                    bool
	}{
		{"+failover-state-select-slave", "master it 127.0.0.1 21001", old, "", false, true},
		{"+selected-slave", slave, old, next, false, true},
		{"+failover-state-send-slaveof-noone", slave, old, next, false, true},
		{"+failover-state-wait-promotion", slave, old, next, false, true},
		{"+promoted-slave", slave, old, next, false, true},
		{"+switch-master", "it 127.0.0.1 21001 127.0.0.1 21003", old, next, false, true},
		{"+odown", "master it 127.0.0.1 21001 #quorum 2/2", old, "", false, true},
		{"-odown", "master it 127.0.0.1 21001", old, "", true, true},
		{"-failover-abort-no-good-slave", "master it 127.0.0.1 21001", old, "", true, true},
		{"-failover-abort-not-elected", "master it 127.0.0.1 21001", old, "", true, true},
		{"+failover-state-reconf-slaves", "master it 127.0.0.1 21001", "", "", false, false},
		{"+switch-master", "other 127.0.0.1 21001 127.0.0.1 21003", "", "", false, false},
		{"+odown", "master other 127.0.0.1 21001 #quorum 2/2", "", "", false, false},
		{"+odown", "", "", "", false, false},
		{"+selected-slave", "slave", "", "", false, false},
	} {
		from, to, end, ok := rstore.ParseNews("it", c.channel, c.message)
		if ok != c.ok || ok && (from != c.from || to != c.to || end != c.end) {
			t.Errorf("%s %s: %s, %s, end %v, %v", c.channel, c.message, from, to, end, ok)
		}
	}
}

// A planned failover: nothing is acknowledged by the earlier primary after its
// replica was promoted, although it takes writes for seconds; and calls wait for
// the next one rather than fail.
func TestPlannedFailoverLosesNothing(t *testing.T) {
	t.Parallel()
	group := redistest.SentinelGroup(t, 2)
	var out lines
	s := open(t, rstore.Config{URL: group.URL, Journal: -1, Timeout: 10 * time.Second, Logger: zerolog.New(&out)})
	awaitReady(t, s)
	for deadline := time.Now().Add(time.Minute); out.count(`"event":"sentinel_heard"`) < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the Sentinels are not heard")
		}
	}
	var mu sync.Mutex
	var all []idem.Claim
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c := claim(fmt.Sprintf("%x", idem.NewOwner()))
				_, err := s.Acquire(t.Context(), c)
				switch {
				case err == nil:
					mu.Lock()
					all = append(all, c)
					mu.Unlock()
				case !errors.Is(err, idem.ErrUnavailable):
					t.Error(err)
					return
				}
			}
		})
	}
	before := group.Primary()
	group.Sentinels[0].Do("SENTINEL", "FAILOVER", "it")
	for deadline := time.Now().Add(time.Minute); group.Primary() == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("there is no failover")
		}
	}
	group.AwaitWhole()
	close(stop)
	clients.Wait()
	lost := 0
	for _, c := range all {
		if _, err := s.Get(t.Context(), c.Key); errors.Is(err, idem.ErrNotFound) {
			lost++
		}
	}
	if out.count(`"event":"store_failover"`) == 0 {
		t.Error("the Sentinels were not heard")
	}
	t.Logf("figure: %d leases, %d lost without a journal", len(all), lost)
	if lost > len(all)/1000 {
		t.Errorf("%d of %d leases are lost", lost, len(all))
	}
	// A Sentinel that is gone is told of, with its name, at the level that the reference says.
	group.Sentinels[2].Kill()
	gone := fmt.Sprintf(`{"level":"debug","event":"sentinel_unheard","sentinel":%q`, group.Sentinels[2].Addr)
	for deadline := time.Now().Add(time.Minute); out.count(gone) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not told that a Sentinel is gone")
		}
	}
}
