package app_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// What a request without trouble costs a real Redis is the same whatever becomes of those
// in doubt: commandstats are equal, and the endpoint for receipts is asked nothing.
func TestSettleCostsRedisNothing(t *testing.T) {
	t.Parallel()
	const requests = 25
	calls := map[idem.Ambiguity]map[string]int{}
	for _, ambiguity := range []idem.Ambiguity{idem.AmbiguousRelease, idem.AmbiguousHold, idem.AmbiguousSettle} {
		calls[ambiguity] = callsOf(t, ambiguity, requests)
		t.Logf("%s: %v", ambiguity, calls[ambiguity])
	}
	for ambiguity, got := range calls {
		if want := calls[idem.AmbiguousRelease]; !maps.Equal(got, want) {
			t.Errorf("%s: %d requests cost Redis %v, with release %v", ambiguity, requests, got, want)
		}
	}
}

// callsOf is what Redis was asked during so many requests with new keys.
func callsOf(t *testing.T, ambiguity idem.Ambiguity, requests int) map[string]int {
	t.Helper()
	var asked atomic.Int64
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(endpoint.Close)
	b := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Answer(201, "charged", "Idempotency-Outcome: executed")
	})
	redis := redistest.Start(t)
	a, end := runUntil(t, zerolog.Nop(), configOf(t, b.URL(), func(c *config.Config) {
		c.Store, c.OnAmbiguous = redis.URL(), ambiguity
		c.LockTTL = 10 * time.Minute // the look through the store, which comes after that, is no request's
		if ambiguity == idem.AmbiguousSettle {
			c.Receipts = endpoint.URL
		}
	}))
	defer end()
	ask := func(key string) {
		if status := post(t, a.URL(), key, "x"); status != 201 {
			t.Errorf("%s: %s: %d", ambiguity, key, status)
		}
	}
	ask("first") // the scripts are loaded by it
	redis.Do("CONFIG", "RESETSTAT")
	for i := range requests {
		ask("k" + strconv.Itoa(i))
	}
	calls := redis.Calls()
	// Not counted: what is of connections, and what scripts read. By how well the proxy
	// knows Redis's clock, they read the record and the time or do with one command.
	for _, name := range []string{"config|resetstat", "hello", "ping", "getex", "getrange", "time"} {
		delete(calls, name)
	}
	if calls["evalsha"] != 2*requests {
		t.Errorf("%s: %d scripts were called for %d requests, want two for each", ambiguity, calls["evalsha"], requests)
	}
	if asked.Load() != 0 {
		t.Errorf("%s: the endpoint was asked %d times", ambiguity, asked.Load())
	}
	return calls
}
