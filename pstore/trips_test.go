package pstore_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/pstore"
)

// A new key is two statements, a replay that was met before is none.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, "log_statement=all")
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns})
	until(t, "notifications are heard", s.Heard)
	calls := func() int {
		return strings.Count(server.Log(), `."acquire"(`) + strings.Count(server.Log(), `.acquire(`) + strings.Count(server.Log(), `.settle(`)
	}
	before := calls()
	c := completed(t, s, "k")
	if n := calls() - before; n != 2 {
		t.Errorf("a new key is %d statements, want 2", n)
	}
	cached(t, s, c)
	before = calls()
	for range 100 {
		if out := acquire(t, s, c, idem.VerdictCompleted); !out.Local {
			t.Fatal("a replay that was met before is not local")
		}
	}
	if n := calls() - before; n != 0 {
		t.Errorf("100 replays from memory are %d statements", n)
	}
}

// Under load a new key is two round trips, too, and a part of those by which others are
// told of many keys at a time.
func TestRoundTripsUnderLoad(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	network := newCutter(t, server.Addr)
	s := open(t, pstore.Config{URL: "postgres://postgres@" + network.addr + "/postgres?sslmode=disable&pool_max_conns=16"})
	until(t, "notifications are heard", s.Heard)
	var trips atomic.Int64
	count := func(message byte) (cut bool) {
		if message == 'Z' { // ready for the next statement
			trips.Add(1)
		}
		return false
	}
	network.armed.Store(&count)
	const clients, keys = 64, 25
	var load sync.WaitGroup
	for i := range clients {
		load.Go(func() {
			for j := range keys {
				completed(t, s, fmt.Sprint(i, " ", j))
			}
		})
	}
	load.Wait()
	each := float64(trips.Load()) / (clients * keys)
	t.Logf("figure: %.2f round trips for each of %d new keys of %d clients", each, clients*keys, clients)
	if each < 2 || each > 2.5 { // what is told, and what is done every second, is done for many
		t.Errorf("%.2f round trips for each new key", each)
	}
}
