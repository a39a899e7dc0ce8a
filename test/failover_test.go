package test_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// failoverRig is two proxies on a primary with two replicas that Sentinels watch,
// and clients that go on asking with their keys until they have an answer.
type failoverRig struct {
	t       *testing.T
	group   *redistest.Group
	backend *backendtest.Backend
	proxies []*process
	client  *http.Client

	stop    chan struct{}
	clients sync.WaitGroup
	next    atomic.Int64
	refused atomic.Int64

	mu   sync.Mutex
	keys []string // those that have an answer; guarded by mu
}

func newFailoverRig(t *testing.T, policy string) *failoverRig {
	t.Helper()
	r := &failoverRig{
		t: t, group: redistest.SentinelGroup(t, 2, strings.Fields(os.Getenv("FAILOVER_REDIS"))...), stop: make(chan struct{}),
	}
	r.backend = backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		time.Sleep(5 * time.Millisecond) // so that some are under way at any moment
		backendtest.OK(c, q)
	})
	for range 2 {
		r.proxies = append(r.proxies, start(t, append([]string{
			"--store", r.group.URL, "--backend", r.backend.URL(), "--on-ambiguous", policy,
		}, strings.Fields(os.Getenv("FAILOVER_ARGS"))...)...))
	}
	r.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(r.client.CloseIdleConnections)
	return r
}

// ask sends a key once.
func (r *failoverRig) ask(proxy int, key string) bool {
	q, err := http.NewRequest(http.MethodPost, r.proxies[proxy%2].url+"/pay", bytes.NewReader([]byte("amount=5")))
	if err != nil {
		r.t.Error(err)
		return true
	}
	q.Host = serviceHost
	q.Header.Set("Idempotency-Key", key)
	res, err := r.client.Do(q)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// load has clients ask, each one key after the other, and each key again through
// the other proxy while it is refused.
func (r *failoverRig) load(clients int) {
	for range clients {
		r.clients.Go(func() {
			for {
				select {
				case <-r.stop:
					return
				default:
				}
				n := int(r.next.Add(1))
				key := fmt.Sprintf("key-%d", n)
				for try := n; !r.ask(try, key); try++ {
					r.refused.Add(1)
					time.Sleep(20 * time.Millisecond)
				}
				r.mu.Lock()
				r.keys = append(r.keys, key)
				r.mu.Unlock()
			}
		})
	}
}

// answered waits until that many further keys have an answer.
func (r *failoverRig) answered(more int) {
	r.t.Helper()
	count := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.keys)
	}
	from := count()
	r.until(fmt.Sprintf("fewer than %d further keys are answered", more), func() bool { return count() >= from+more })
}

// longest is what an overloaded machine may take for anything here.
const longest = 3 * time.Minute

// planned has a Sentinel replace the primary. It refuses that while it is not long
// after the last time, and gives up by itself where the machine is too slow: it is
// asked again then.
func (r *failoverRig) planned() {
	before, asked := r.group.Primary(), time.Time{}
	r.until("the primary is not replaced", func() bool {
		if time.Since(asked) > 15*time.Second && r.group.Sentinels[0].Try("SENTINEL", "FAILOVER", "it") == nil {
			asked = time.Now()
		}
		return r.group.Primary() != before
	})
}

// crashed ends the primary.
func (r *failoverRig) crashed() {
	before := r.group.Primary()
	before.Kill()
	r.until("the primary is not replaced", func() bool { return r.group.Primary() != before })
	before.Restart()
}

// until waits for something.
func (r *failoverRig) until(inVain string, happened func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(longest); !happened(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal(inVain)
		}
	}
}

// judge has every key asked again, and counts those that were executed twice.
func (r *failoverRig) judge() (keys, twice int) {
	close(r.stop)
	r.clients.Wait()
	var again sync.WaitGroup
	for part := range 16 {
		again.Go(func() {
			for i := part; i < len(r.keys); i += 16 {
				for try := i; !r.ask(try, r.keys[i]); try++ {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	again.Wait()
	for _, key := range r.keys {
		if r.backend.Executions(key) > 1 {
			twice++
		}
	}
	return len(r.keys), twice
}

// A replica whose clock is another is told of at the start.
func TestClocksAreCompared(t *testing.T) {
	t.Parallel()
	clock := filepath.Join(t.TempDir(), "clock")
	(&faultRig{t: t, clock: clock}).setClock(5 * time.Second)
	primary := redistest.Start(t)
	_, port, _ := net.SplitHostPort(primary.Addr)
	replica := redistest.StartEnv(t, []string{"LD_PRELOAD=" + clockLibrary(t), "CLOCK_FILE=" + clock}, "--replicaof", "127.0.0.1 "+port)
	for deadline := time.Now().Add(time.Minute); !primary.HasReplica(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the replica does not get in step")
		}
	}
	p := start(t, "--store", primary.URL())
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if text := p.text(); strings.Contains(text, `"event":"store_clock"`) && strings.Contains(text, replica.Addr) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the replica's clock is not told of:\n%s", p.text())
		}
	}
}

// TestFailovers: a failover of Redis, planned or not, has at most one key in ten
// thousand executed twice while a proxy lives. FAILOVERS is how many of each. To
// measure other settings, FAILOVER_ARGS are the proxies', FAILOVER_REDIS the
// servers', and PROXY_BINARY is the proxy of another release.
func TestFailovers(t *testing.T) {
	t.Parallel()
	times := 1
	if n, err := strconv.Atoi(os.Getenv("FAILOVERS")); err == nil {
		times = n
	}
	for _, policy := range []string{"release", "hold"} {
		for kind, happen := range map[string]func(*failoverRig){"planned": (*failoverRig).planned, "crashed": (*failoverRig).crashed} {
			t.Run(kind+"/"+policy, func(t *testing.T) {
				t.Parallel()
				r := newFailoverRig(t, policy)
				r.load(16)
				for range times {
					r.answered(200)
					happen(r)
					r.group.AwaitWhole()
					r.answered(200)
				}
				keys, twice := r.judge()
				t.Logf("figure: %d failovers, %d keys, %d executed twice, %d requests refused", times, keys, twice, r.refused.Load())
				if twice*10_000 > keys {
					t.Errorf("%d of %d keys were executed twice", twice, keys)
				}
			})
		}
	}
}
