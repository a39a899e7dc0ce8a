package rstore_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// large is a response that does not go through a script.
func large() *idem.Response {
	return &idem.Response{Status: 201, Body: bytes.Repeat([]byte("0123456789abcdef"), 4<<10)}
}

func replaysLarge(tb testing.TB, s *rstore.Store, c idem.Claim) {
	tb.Helper()
	if out := acquire(tb, s, c, idem.VerdictCompleted); !bytes.Equal(out.Response.Body, large().Body) {
		tb.Errorf("replays %d bytes, not what was stored", len(out.Response.Body))
	}
}

// A large response is put beside its record, by no script, and leaves nothing else
// there, whatever comes of the attempt.
func TestALargeResponseGoesAroundTheScripts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, other := open(t, rstore.Config{URL: server.URL()}), open(t, rstore.Config{URL: server.URL()})
	ctx := t.Context()
	for _, remember := range []time.Duration{0, time.Hour} {
		server.Do("FLUSHALL")
		keys := func(want int64, after string) {
			t.Helper()
			if n := number(t, server, "DBSIZE"); n != want {
				t.Errorf("remembered for %v: %d keys after %s, want %d", remember, n, after, want)
			}
		}
		c := remembered("k", time.Hour)
		c.Remember = remember
		must(t, s, c)
		server.Do("CONFIG", "RESETSTAT")
		if err := s.Complete(ctx, c.Lease(), large()); err != nil {
			t.Fatal(err)
		}
		if calls := server.Calls(); calls["rename"] != 1 || calls["evalsha"]+calls["eval"] == 0 {
			t.Errorf("%v", calls)
		}
		keys(2, "a completion")
		life := number(t, server, "PTTL", s.ResponseName(c.Key))
		if most := (time.Hour + time.Second).Milliseconds(); life > most || life < most-time.Minute.Milliseconds() {
			t.Errorf("the response stays for %d ms", life)
		}
		replaysLarge(t, other, c)
		if err := s.Complete(ctx, c.Lease(), large()); err != nil {
			t.Errorf("a repeated completion: %v", err)
		}
		keys(2, "a repeated completion")
		stranger := c.Lease()
		stranger.Owner = idem.NewOwner()
		if err := s.Complete(ctx, stranger, &idem.Response{Status: 500, Body: make([]byte, 64<<10)}); !errors.Is(err, idem.ErrLeaseLost) {
			t.Errorf("a stranger's completion: %v", err)
		}
		nobody := claim("nobody's")
		if err := s.Complete(ctx, nobody.Lease(), large()); !errors.Is(err, idem.ErrLeaseLost) {
			t.Errorf("a completion of nothing: %v", err)
		}
		keys(2, "completions of strangers")
		replaysLarge(t, s, c)
		if err := s.Purge(ctx, c.Key); err != nil {
			t.Error(err)
		}
		keys(0, "a purge")
		c = remembered("held", time.Hour) // and completed by its owner after all
		must(t, s, c)
		if err := errors.Join(s.Hold(ctx, c.Lease()), s.Complete(ctx, c.Lease(), large())); err != nil {
			t.Error(err)
		}
		keys(2, "a completion of what was held")
		replaysLarge(t, other, c)
	}
}

// What cannot be put aside goes through the script, which may do more.
func TestP6ALargeResponseThatCannotBePutAsideIsKept(t *testing.T) {
	t.Parallel()
	rights := append([]string{"--user", "proxy", "on", ">pw", "~idem:*", "resetchannels", "-@all", "+rename", "+getex", "+mget", "+strlen"}, documented(t)...)
	for name, spoil := range map[string]func(server *redistest.Server){
		"nothing wrong":      func(*redistest.Server) {},
		"no script":          func(server *redistest.Server) { server.Do("SCRIPT", "FLUSH") },
		"a full Redis":       func(server *redistest.Server) { server.Do("CONFIG", "SET", "maxmemory", "1") },
		"no right to rename": func(server *redistest.Server) { server.Do("ACL", "SETUSER", "proxy", "-rename") },
		"nor to read so":     func(server *redistest.Server) { server.Do("ACL", "SETUSER", "proxy", "-getex") },
		"nor to fetch":       func(server *redistest.Server) { server.Do("ACL", "SETUSER", "proxy", "-mget") },
		"nor its length":     func(server *redistest.Server) { server.Do("ACL", "SETUSER", "proxy", "-strlen") },
	} {
		server := redistest.Start(t, rights...)
		s := open(t, rstore.Config{URL: "redis://proxy:pw@" + server.Addr + "/0"})
		for _, remember := range []time.Duration{0, time.Hour} {
			c := remembered("k"+remember.String(), time.Hour)
			c.Remember = remember
			must(t, s, c)
			spoil(server)
			if err := s.Complete(t.Context(), c.Lease(), large()); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			replaysLarge(t, s, c)
			server.Do("CONFIG", "SET", "maxmemory", "0")
			m := server.Do("KEYS", s.ResponseName(c.Key)+"?*")
			if left, err := m.AsStrSlice(); err != nil || len(left) != 0 {
				t.Errorf("%s: %q is left, %v", name, left, err)
			}
		}
	}
}

// A large response that no proxy has in memory does not go through a script either, and
// a small one takes one read.
func TestALargeReplayGoesAroundTheScripts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, other := open(t, rstore.Config{URL: server.URL()}), open(t, rstore.Config{URL: server.URL()})
	c, small := remembered("large", time.Hour), claim("small")
	must(t, s, c)
	must(t, s, small)
	err := errors.Join(s.Complete(t.Context(), c.Lease(), large()), s.Complete(t.Context(), small.Lease(), &idem.Response{Status: 200}))
	if err != nil {
		t.Fatal(err)
	}
	server.Do("CONFIG", "RESETSTAT")
	replaysLarge(t, other, c)
	if calls := server.Calls(); calls["mget"] != 1 || calls["get"] != 0 {
		t.Errorf("a large one: %v", calls)
	}
	if out := acquire(t, other, c, idem.VerdictCompleted); !out.Local {
		t.Error("it is not kept in memory")
	}
	server.Do("CONFIG", "RESETSTAT")
	acquire(t, other, small, idem.VerdictCompleted)
	if calls := server.Calls(); calls["getrange"] != 1 || calls["get"] != 0 || calls["mget"] != 0 {
		t.Errorf("a small one: %v", calls)
	}
	apart := remembered("small, beside its record", time.Hour)
	done(t, s, apart, &idem.Response{Status: 200})
	server.Do("CONFIG", "RESETSTAT")
	acquire(t, other, apart, idem.VerdictCompleted)
	if calls := server.Calls(); calls["get"] != 1 || calls["mget"] != 0 {
		t.Errorf("a small one beside its record: %v", calls)
	}
	// What is told of a change reaches the one that fetched.
	if err := s.Purge(t.Context(), c.Key); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // until the push has come
		out, err := other.Acquire(t.Context(), c)
		if err == nil && out.Kind == idem.VerdictAcquired {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("after a purge: %v, %v", out.Kind, err)
		}
	}
}

// A large response counts once the replicas have it, as others do.
func TestALargeResponseWaitsForReplicas(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	replica := redistest.Replica(t, primary)
	s := open(t, rstore.Config{URL: primary.URL(), WaitReplicas: 1})
	c, lacks := remembered("k", time.Hour), remembered("lacks", time.Hour)
	must(t, s, c)
	must(t, s, lacks)
	if err := s.Complete(t.Context(), c.Lease(), large()); err != nil {
		t.Fatal(err)
	}
	if n := number(t, replica, "STRLEN", s.ResponseName(c.Key)); n < 64<<10 {
		t.Errorf("the replica has %d bytes", n)
	}
	replica.Kill()
	if err := s.Complete(t.Context(), lacks.Lease(), large()); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("without a replica: %v", err)
	}
}
