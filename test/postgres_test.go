package test_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// pairRig is two proxies on a PostgreSQL primary with a synchronous standby, and
// clients that go on asking with their keys until they have an answer.
type pairRig struct {
	t       *testing.T
	pair    *postgresPair
	backend *backendtest.Backend
	proxies []*process
	client  *http.Client

	stop    chan struct{}
	clients sync.WaitGroup
	next    atomic.Int64
	refused atomic.Int64

	mu   sync.Mutex
	keys map[string]string // what they were answered; guarded by mu
}

func newPairRig(t *testing.T, policy string) *pairRig {
	t.Helper()
	r := &pairRig{t: t, pair: newPostgresPair(t), stop: make(chan struct{}), keys: map[string]string{}}
	r.backend = backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		time.Sleep(5 * time.Millisecond) // so that some are under way at any moment
		backendtest.OK(c, q)
	})
	store := r.pair.url()
	for range 2 {
		r.proxies = append(r.proxies, start(t, "--store", store, "--backend", r.backend.URL(), "--on-ambiguous", policy,
			"--store-timeout", "5s", "--lock-ttl", "5m", "--heartbeat", "1s"))
	}
	r.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	t.Cleanup(r.client.CloseIdleConnections)
	return r
}

// crashed ends the primary at once; its standby follows it, and it its standby.
func (r *pairRig) crashed() {
	r.t.Helper()
	r.pair.crash()
	r.pair.follow()
}

// switched likewise, where the primary is ended as planned.
func (r *pairRig) switched() {
	r.t.Helper()
	r.pair.switchOver()
	r.pair.follow()
}

// ask sends a key once.
func (r *pairRig) ask(proxy int, key string) (answer string, ok bool) {
	q, err := http.NewRequest(http.MethodPost, r.proxies[proxy%2].url+"/pay", bytes.NewReader([]byte("amount=5")))
	if err != nil {
		r.t.Error(err)
		return "", true
	}
	q.Host = serviceHost
	q.Header.Set("Idempotency-Key", key)
	res, err := r.client.Do(q)
	if err != nil {
		return "", false
	}
	defer func() { _ = res.Body.Close() }()
	var body bytes.Buffer
	_, err = body.ReadFrom(res.Body)
	return body.String(), err == nil && res.StatusCode == http.StatusOK
}

// persist asks, through one proxy after the other, until there is an answer.
func (r *pairRig) persist(from int, key string) string {
	for try := from; ; try++ {
		if answer, ok := r.ask(try, key); ok {
			return answer
		}
		r.refused.Add(1)
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *pairRig) load(clients int) {
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
				answer := r.persist(n, key)
				r.mu.Lock()
				r.keys[key] = answer
				r.mu.Unlock()
			}
		})
	}
}

// answered waits until that many further keys have an answer.
func (r *pairRig) answered(more int) {
	r.t.Helper()
	count := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.keys)
	}
	from := count()
	for deadline := time.Now().Add(longest); count() < from+more; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("fewer than %d further keys are answered: %d; the store: %s", more, count()-from, r.proxies[0].text())
		}
	}
}

// judge has every key asked again, of both proxies: the answer is the same, and the
// operation was executed once.
func (r *pairRig) judge() (keys int) {
	close(r.stop)
	r.clients.Wait()
	var again sync.WaitGroup
	queue := make(chan string)
	for part := range 16 {
		again.Go(func() {
			for key := range queue {
				if answer := r.persist(part, key); answer != r.keys[key] {
					r.t.Errorf("%s was answered %q, and is now %q", key, r.keys[key], answer)
				}
				if n := r.backend.Executions(key); n != 1 {
					r.t.Errorf("%s was executed %d times", key, n)
				}
			}
		})
	}
	for key := range r.keys {
		queue <- key
	}
	close(queue)
	again.Wait()
	return len(r.keys)
}

// TestPostgresFailovers: the primary dies under load and its synchronous standby
// follows it: no key is executed twice, and no answer is lost. FAILOVERS is how many.
func TestPostgresFailovers(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, "hold")
	r.follow("failovers", r.crashed)
}

// TestPostgresSwitchovers likewise, where the primary is shut down as planned.
func TestPostgresSwitchovers(t *testing.T) {
	t.Parallel()
	r := newPairRig(t, "hold")
	r.follow("switchovers", r.switched)
}

// follow has the standby follow the primary again and again under load, and judges.
func (r *pairRig) follow(what string, end func()) {
	r.t.Helper()
	times := 2
	if n, err := strconv.Atoi(os.Getenv("FAILOVERS")); err == nil {
		times = n
	}
	if testing.Short() {
		times = 1
	}
	r.load(16)
	for range times {
		r.answered(200)
		end()
		r.answered(200)
	}
	keys := r.judge()
	r.t.Logf("figure: %d %s, %d keys, each executed once, %d requests refused", times, what, keys, r.refused.Load())
}

// A store that comes after the proxy is called ready when keys are admitted, and not a
// moment before: until the names of records are checked they are refused.
func TestPostgresUnreachableAtStart(t *testing.T) {
	t.Parallel()
	server, o := dbtest.StartPostgres(t), newOrigin(t)
	server.Kill()
	p := start(t, "--store", server.URL("postgres"), "--backend", o.url(), "--ready-requires", "store")
	p.readies("", 503, "not ready", "store")
	p.expect("/", "k", 500, false)
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		server.Restart()
	}()
	defer func() { <-restarted }()
	eventually(t, "it is ready", func() bool { status, _ := p.ready(); return status == 200 })
	p.expect("/", "k", 200, false)
	o.executions("k", 1)
}
