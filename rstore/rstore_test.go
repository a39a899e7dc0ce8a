package rstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

func open(tb testing.TB, c rstore.Config) *rstore.Store {
	tb.Helper()
	s, err := rstore.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// opened remembers how a store was made, for the harness to make another.
type opened struct {
	*rstore.Store
	config rstore.Config
	link   *toxitest.Link
}

// TestContract runs the suite on one server, every store with a namespace and a
// network of its own.
func TestContract(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	h := harness(func(tb testing.TB) opened {
		link := toxitest.New(tb, server.Addr)
		return opened{link: link, config: rstore.Config{URL: "redis://" + link.Addr + "/0"}}
	})
	if missing := h.Missing(t); len(missing) != 0 {
		t.Fatalf("the harness lacks %v", missing)
	}
	storetest.Run(t, h)
}

// TestContractOnACluster: keys spread over three nodes.
func TestContractOnACluster(t *testing.T) {
	t.Parallel()
	url, nodes := redistest.Cluster(t, 3)
	h := harness(func(testing.TB) opened { return opened{config: rstore.Config{URL: url}} })
	h.Sever = nil // tried on one server; a Cluster's nodes announce addresses that no link stands in
	storetest.Run(t, h)
	t.Cleanup(func() {
		for _, node := range nodes {
			size := node.Do("DBSIZE")
			if n, _ := size.AsInt64(); n == 0 {
				t.Errorf("node %s has no key: they do not spread", node.Addr)
			}
		}
	})
}

func harness(server func(testing.TB) opened) storetest.Harness {
	var stores atomic.Int64
	return storetest.Harness{
		New: func(tb testing.TB) storetest.Store {
			o := server(tb)
			o.config.Namespace = fmt.Sprintf("test%d", stores.Add(1))
			o.Store = open(tb, o.config)
			return o
		},
		Tick: 60 * time.Millisecond,
		Pass: time.Sleep,
		Second: func(tb testing.TB, first storetest.Store) storetest.Store {
			o := first.(opened) //nolint:forcetypeassert // ours
			o.Store = open(tb, o.config)
			return o
		},
		Reopen: func(tb testing.TB, old storetest.Store) storetest.Store {
			o := old.(opened) //nolint:forcetypeassert // ours
			_ = o.Close()
			o.Store = open(tb, o.config)
			return o
		},
		Sever: func(s storetest.Store) func() {
			return s.(opened).link.Cut() //nolint:forcetypeassert // ours
		},
		Histories: 20,
	}
}

func claim(name string) idem.Claim {
	key, err := idem.ParseKey(name)
	if err != nil {
		panic(err)
	}
	return idem.Claim{Key: key, Owner: idem.NewOwner(), TTL: time.Minute, Retention: time.Hour}
}

func acquire(tb testing.TB, s *rstore.Store, c idem.Claim, want idem.Verdict) idem.Outcome {
	tb.Helper()
	c.Owner = idem.NewOwner()
	out, err := s.Acquire(context.Background(), c)
	if err != nil || out.Kind != want {
		tb.Fatalf("acquire %s: %v, %v, want %v", c.Key, out.Kind, err, want)
	}
	return out
}

// completed puts a response under name.
func completed(tb testing.TB, s *rstore.Store, name string) idem.Claim {
	tb.Helper()
	c := claim(name)
	out, err := s.Acquire(context.Background(), c)
	if err != nil || out.Kind != idem.VerdictAcquired {
		tb.Fatalf("acquire: %v, %v", out.Kind, err)
	}
	if err := s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200, Body: []byte(name)}); err != nil {
		tb.Fatal(err)
	}
	return c
}

// A new key is two script calls, a replay that was met before is none.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	completed(t, s, "warm-up") // loads the scripts

	server.Do("CONFIG", "RESETSTAT")
	c := completed(t, s, "k")
	if calls := server.Calls(); calls["evalsha"] != 2 || calls["eval"] != 0 || calls["multi"] != 0 {
		t.Errorf("a new key: %v, want two evalsha", calls)
	}
	if out := acquire(t, s, c, idem.VerdictCompleted); out.Local {
		t.Error("the first replay claims to be local")
	}
	server.Do("CONFIG", "RESETSTAT")
	for range 100 {
		if out := acquire(t, s, c, idem.VerdictCompleted); !out.Local {
			t.Fatal("a replay that was met before is not local")
		}
	}
	for name, n := range server.Calls() {
		if !strings.HasPrefix(name, "config") && name != "info" && name != "hello" && !strings.HasPrefix(name, "client") &&
			name != "ping" && name != "cluster|slots" {
			t.Errorf("100 hot replays called %s %d times", name, n)
		}
	}
}

func TestCacheHearsOfChangesByAnyone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	other := open(t, rstore.Config{URL: server.URL()})
	for name, change := range map[string]func(c idem.Claim){
		"DEL by hand": func(c idem.Claim) { server.Do("DEL", s.Name(c.Key)) },
		"FLUSHALL":    func(idem.Claim) { server.Do("FLUSHALL") },
		"FLUSHDB":     func(idem.Claim) { server.Do("FLUSHDB") },
		"EXPIRE":      func(c idem.Claim) { server.Do("PEXPIRE", s.Name(c.Key), "1") },
		"purge elsewhere": func(c idem.Claim) {
			if err := other.Purge(context.Background(), c.Key); err != nil {
				t.Error(err)
			}
		},
		"purge here": func(c idem.Claim) {
			if err := s.Purge(context.Background(), c.Key); err != nil {
				t.Error(err)
			}
		},
		"CLIENT KILL": func(c idem.Claim) {
			server.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			server.Do("DEL", s.Name(c.Key))
		},
	} {
		c := completed(t, s, "key of "+name)
		acquire(t, s, c, idem.VerdictCompleted)
		if out := acquire(t, s, c, idem.VerdictCompleted); !out.Local {
			t.Fatalf("%s: not cached", name)
		}
		change(c)
		deadline := time.Now().Add(time.Minute)
		for {
			rival := c
			rival.Owner = idem.NewOwner()
			out, err := s.Acquire(context.Background(), rival)
			if err == nil && out.Kind == idem.VerdictAcquired {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: still answers %v, %v", name, out.Kind, err)
			}
		}
	}
}

// The cache ends an entry with the record, without waiting for the server to
// notice that it expired.
func TestP2CacheEndsWithRetention(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Do("DEBUG", "SET-ACTIVE-EXPIRE", "0")
	s := open(t, rstore.Config{URL: server.URL()})
	c := claim("k")
	c.Retention = 300 * time.Millisecond
	if _, err := s.Acquire(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	if err := s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200}); err != nil {
		t.Fatal(err)
	}
	acquire(t, s, c, idem.VerdictCompleted)
	if out := acquire(t, s, c, idem.VerdictCompleted); !out.Local {
		t.Fatal("not cached")
	}
	time.Sleep(400 * time.Millisecond)
	acquire(t, s, c, idem.VerdictAcquired)
}

func TestScriptFlushIsRecovered(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	c := claim("k")
	if _, err := s.Acquire(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	server.Do("SCRIPT", "FLUSH")
	for i, err := range s.Renew(context.Background(), []idem.Lease{c.Lease(), c.Lease()}) {
		if err != nil {
			t.Errorf("renewal %d: %v", i, err)
		}
	}
	server.Do("SCRIPT", "FLUSH")
	if err := s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200}); err != nil {
		t.Error(err)
	}
	server.Do("SCRIPT", "FLUSH")
	acquire(t, s, c, idem.VerdictCompleted)
}

// Whatever Redis answers but a verdict, nothing is given out.
func TestP5RedisErrorsFailClosed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	completed(t, s, "warm-up")
	for name, fault := range map[string][2][]string{
		"OOM":      {{"CONFIG", "SET", "maxmemory", "1"}, {"CONFIG", "SET", "maxmemory", "0"}},
		"READONLY": {{"REPLICAOF", "127.0.0.1", "1"}, {"REPLICAOF", "NO", "ONE"}},
	} {
		awaitReady(t, s)
		server.Do(fault[0]...)
		_, err := s.Acquire(context.Background(), claim("key of "+name))
		if !errors.Is(err, idem.ErrUnavailable) {
			t.Errorf("%s: %v, want %v", name, err, idem.ErrUnavailable)
		}
		server.Do(fault[1]...)
	}
	awaitReady(t, s)
	server.Do("SET", s.Name(claim("foreign").Key), "not a record")
	if _, err := s.Acquire(context.Background(), claim("foreign")); !errors.Is(err, idem.ErrVersion) {
		t.Errorf("a foreign value: %v, want %v", err, idem.ErrVersion)
	}
	server.Do("LPUSH", s.Name(claim("list").Key), "x")
	if _, err := s.Acquire(context.Background(), claim("list")); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("a list: %v, want %v", err, idem.ErrUnavailable)
	}
}

func TestUnreachableAtStart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Kill()
	s := open(t, rstore.Config{URL: server.URL()})
	if _, err := s.Acquire(context.Background(), claim("k")); !errors.Is(err, idem.ErrUnavailable) {
		t.Fatalf("acquire: %v, want %v", err, idem.ErrUnavailable)
	}
	server.Restart()
	for deadline := time.Now().Add(time.Minute); s.Ping(context.Background()) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not recover by itself")
		}
	}
	acquire(t, s, claim("k"), idem.VerdictAcquired)
}

func TestKilledServerComesBackWithWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	var claims []idem.Claim
	for i := range 50 {
		claims = append(claims, completed(t, s, fmt.Sprint(i)))
	}
	server.Kill()
	if _, err := s.Acquire(context.Background(), claim("new")); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("while it is dead: %v", err)
	}
	server.Restart()
	for deadline := time.Now().Add(time.Minute); s.Ping(context.Background()) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not recover by itself")
		}
	}
	for _, c := range claims {
		acquire(t, s, c, idem.VerdictCompleted)
	}
}

// A black hole: no answer and no end of the connection. The call ends by the
// time-out, which the watchdog of this test only bounds generously.
func TestP5BlackHoleIsATimeout(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL(), Timeout: 300 * time.Millisecond})
	completed(t, s, "warm-up")
	resume := server.Stall()
	defer resume()
	done := make(chan error, 1)
	go func() {
		_, err := s.Acquire(context.Background(), claim("k"))
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, idem.ErrUnavailable) {
			t.Errorf("acquire: %v, want %v", err, idem.ErrUnavailable)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("acquire hangs")
	}
}

func TestBadURLs(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "http://x", "redis://127.0.0.1:6379/notanumber", "::"} {
		if s, err := rstore.New(rstore.Config{URL: url}); err == nil {
			_ = s.Close()
			t.Errorf("%q is accepted", url)
		}
	}
}

func TestNamesGiveNothingAwayAndSteerNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL(), Namespace: "ns"})
	name := s.Name(claim("{slot}secret").Key)
	if strings.ContainsAny(name, "{}") || strings.Contains(name, "secret") || !strings.HasPrefix(name, "ns:") {
		t.Errorf("record name %q", name)
	}
}

func BenchmarkAcquireComplete(b *testing.B) {
	server := redistest.Start(b, "--appendonly", "no")
	s := open(b, rstore.Config{URL: server.URL()})
	body := make([]byte, 300)
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		mine := fmt.Sprintf("%x", idem.NewOwner())
		for i := 0; pb.Next(); i++ {
			c := claim(fmt.Sprint(mine, i))
			if out, err := s.Acquire(b.Context(), c); err != nil || out.Kind != idem.VerdictAcquired {
				b.Fatalf("key %d: %v, %v", i, out.Kind, err)
			}
			if err := s.Complete(b.Context(), c.Lease(), &idem.Response{Status: 200, Body: body}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkReplay(b *testing.B) {
	server := redistest.Start(b, "--appendonly", "no")
	s := open(b, rstore.Config{URL: server.URL()})
	c := completed(b, s, "k")
	acquire(b, s, c, idem.VerdictCompleted)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if out := acquire(b, s, c, idem.VerdictCompleted); !out.Local {
				b.Fatal("not local")
			}
		}
	})
}

// BenchmarkRenew is one heartbeat of many leases, as the watchdog sends it: in
// batches of 1,024. cpu-ms is this process's and Redis's own CPU time together.
func BenchmarkRenew(b *testing.B) {
	server := redistest.Start(b, "--appendonly", "no")
	s := open(b, rstore.Config{URL: server.URL()})
	for _, n := range []int{10_000, 50_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			leases := make([]idem.Lease, n)
			for i := range leases {
				c := claim(fmt.Sprintf("%d-%d", n, i))
				if out, err := s.Acquire(b.Context(), c); err != nil || out.Kind == idem.VerdictInProgress {
					c = claim(fmt.Sprintf("%d-%d-%x", n, i, c.Owner))
					if _, err := s.Acquire(b.Context(), c); err != nil {
						b.Fatal(err)
					}
				}
				leases[i] = c.Lease()
			}
			before, redisBefore := cpuTime(b), server.CPU()
			for b.Loop() {
				for from := 0; from < n; from += 1024 {
					for _, err := range s.Renew(b.Context(), leases[from:min(from+1024, n)]) {
						if err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			b.ReportMetric(float64((cpuTime(b)-before).Milliseconds())/float64(b.N), "proxy-cpu-ms/heartbeat")
			b.ReportMetric(float64((server.CPU()-redisBefore).Milliseconds())/float64(b.N), "redis-cpu-ms/heartbeat")
		})
	}
}

// cpuTime is what this process has used.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
