package rstore_test

import (
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// A process that is not told of a purge, although its connection stands, goes on to replay
// what it has in memory: until the connection breaks, and no longer than the response is kept.
func TestWhatBoundsAReplayThatNobodyTookBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	liar := redistest.NewLiar(t, server.Addr, func([]string) redistest.Lie { return redistest.Lie{} })
	s, other := open(t, rstore.Config{URL: "redis://" + liar.Addr + "/0"}), open(t, rstore.Config{URL: server.URL()})
	short, long := remembered("short", 3*time.Second), remembered("long", time.Hour)
	for _, c := range []idem.Claim{short, long} {
		done(t, other, c, &idem.Response{Status: 200, Body: []byte("before")})
		acquire(t, s, c, idem.VerdictCompleted)
	}
	liar.Deaf(true)
	for _, c := range []idem.Claim{short, long} {
		if err := other.Purge(t.Context(), c.Key); err != nil {
			t.Fatal(err)
		}
		next := c
		next.Owner, next.Retention = idem.NewOwner(), time.Hour
		done(t, other, next, &idem.Response{Status: 200, Body: []byte("after")})
	}
	stale := func(c idem.Claim) bool {
		c.Owner = idem.NewOwner()
		out, err := s.Acquire(t.Context(), c)
		if err != nil {
			return true // not connected again
		}
		if out.Kind != idem.VerdictCompleted {
			t.Fatalf("%v: %v", c.Key, out.Kind)
		}
		return string(out.Response.Body) == "before"
	}
	until := func(c idem.Claim, what string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); stale(c); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("it replays what was purged, %s", what)
			}
		}
	}
	until(short, "although that is not kept any more")
	if !stale(long) {
		t.Error("it was told: this test shows nothing")
	}
	liar.Break()
	until(long, "although its connection broke")
}
