package test_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestReceipts: with receipts, nothing that breaks makes an operation have two effects,
// and no key is left for an operator. Effects are the rows that a business table gained.
//
// First only the backend breaks off, and clients get the true answer in their first response.
// Then proxies, store, database, endpoint and the backend's process break as well, and clients ask until they
// know.
//
// RECEIPTS is how many operations there are at least, all of which are ambiguous at least
// once; SEED repeats which.
func TestReceipts(t *testing.T) { //nolint:tparallel // the figures come after both
	t.Parallel()
	seed := rand.Uint64N(1 << 40)
	if s, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = s
	}
	n := 400
	if s, err := strconv.Atoi(os.Getenv("RECEIPTS")); err == nil {
		n = s
	}
	if testing.Short() {
		n = 40
	}
	var sum settleFigures
	t.Run("stores", func(t *testing.T) {
		for i, kind := range []string{"embedded", "redis"} {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				r := newSettleRig(t, kind, seed+uint64(i))
				t.Logf("%d operations, SEED=%d", n/2, seed)
				atOnce := min(8+n/500, 24)
				all := r.clients("quiet", n/4, atOnce)
				r.checkFirst(all)
				d := r.disturb(seed+uint64(i), max(1, n/2000))
				for batch := 0; (batch < n/4/batchOf || d.goesOn()) && !r.gaveUp.Load(); batch++ {
					all = append(all, r.clients(fmt.Sprint("disturbed-", batch), batchOf, atOnce)...)
				}
				r.backend.noMoreWork()
				sum.disturbed.Add(int64(d.stop()))
				r.check(all, &sum)
				did, faults := r.backend.figures()
				for _, all := range []map[string]int{did, faults} {
					for what, times := range all {
						t.Logf("%4d x %s", times, what)
					}
				}
				for _, what := range []string{"the backend is killed", "the backend stands still"} {
					if faults[what] == 0 {
						t.Errorf("it never happened that %s", what)
					}
				}
				sum.kills.Add(int64(faults["the backend is killed"]))
				sum.stalls.Add(int64(faults["the backend stands still"]))
				sum.within.Add(int64(faults["a transaction is killed with it"]))
			})
		}
	})
	t.Logf("figure: the backend's process was killed %d times, with %d transactions under way, and stood still %d times",
		sum.kills.Load(), sum.within.Load(), sum.stalls.Load())
	t.Logf("figure: %d ambiguous faults at %d operations, and %d faults of proxies, store, database, endpoint and backend besides: "+
		"%d second effects, %d keys left unknown", sum.faults.Load(), sum.operations.Load(), sum.disturbed.Load(),
		sum.second.Load(), sum.unknown.Load())
}

// batchOf is how many clients there are between two looks whether it goes on.
const batchOf = 32

// settleFigures are what is counted, on both stores.
type settleFigures struct{ operations, faults, disturbed, second, unknown, kills, within, stalls atomic.Int64 }

// settleClient is one client with its key, which asks until it knows.
type settleClient struct {
	key   string
	heard []heard
}

// clients runs n of them, some at a time.
func (r *settleRig) clients(name string, n, atOnce int) []*settleClient {
	r.t.Helper()
	all := make([]*settleClient, n)
	next := make(chan *settleClient)
	var work sync.WaitGroup
	for range atOnce {
		work.Go(func() {
			for c := range next {
				r.run1(c)
			}
		})
	}
	for i := range all {
		all[i] = &settleClient{key: fmt.Sprintf("%s-%d", name, i)}
		next <- all[i]
	}
	close(next)
	work.Wait()
	return all
}

func (r *settleRig) run1(c *settleClient) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i := r.below(len(r.proxies)); ctx.Err() == nil && !r.gaveUp.Load(); i++ {
		h := r.ask(ctx, r.proxies[i%len(r.proxies)].addr, c.key)
		c.heard = append(c.heard, h)
		if h.err == nil && h.status == 201 {
			return
		}
		time.Sleep(pause)
	}
	if !r.gaveUp.Swap(true) { // the others need not try for as long
		r.t.Errorf("%s: the client never knew: %v", c.key, c.heard)
	}
}

// settleHTTP keeps no connections: what is killed is not to be asked again by them.
var settleHTTP = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (r *settleRig) ask(ctx context.Context, addr, key string) heard {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/pay", strings.NewReader("amount=5"))
	if err != nil {
		return heard{err: err}
	}
	req.Host = serviceHost
	req.Header.Set("Idempotency-Key", key)
	resp, err := settleHTTP.Do(req)
	if err != nil {
		return heard{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	h := heard{status: resp.StatusCode, replayed: resp.Header.Get("Idempotent-Replayed") == "true", body: string(body), err: err}
	if _, rest, found := strings.Cut(h.body, "/problems.md#"); found {
		h.problem, _, _ = strings.Cut(rest, `"`)
	}
	return h
}

// checkFirst: while everything but the backend was well, the first response was true:
// what was done, or that nothing was. A client that found the store or the backend away,
// as on a machine that is too busy, counts apart: its dependencies were not up within the
// bound. Those are few, or the proxy is to blame.
func (r *settleRig) checkFirst(all []*settleClient) {
	told, away := 0, 0
	for _, c := range all {
		first := c.heard[0]
		switch {
		case first.err == nil && (first.status == 201 || first.problem == "attempt-voided"):
			told++
		case first.problem == "store-unavailable" || first.problem == "backend-unreachable":
			away++
		default:
			r.t.Logf("%s: the first response was %v %q", c.key, first, first.body)
		}
	}
	up := len(all) - away
	r.t.Logf("figure: %d of %d clients got the true answer in their first response, and %d besides found the store or the backend away",
		told, up, away)
	if allowed := up / 1000; up-told > allowed {
		r.t.Errorf("%d clients did not get the true answer in their first response, at most %d may", up-told, allowed)
	}
	if allowed := len(all) / 20; away > allowed {
		r.t.Errorf("%d clients found the store or the backend away, at most %d may", away, allowed)
	}
}

// check says what must not be, once all is well again.
func (r *settleRig) check(all []*settleClient, sum *settleFigures) {
	t := r.t
	r.backend.idle()
	unknown := func() (n int) {
		for _, p := range r.proxies {
			n = max(n, p.listed(t, "unknown"), int(p.metric("idemproxy_unsettled")))
		}
		return n
	}
	for deadline := time.Now().Add(patience); unknown() > 0 && time.Now().Before(deadline); time.Sleep(pause) {
	}
	if n := unknown(); n > 0 {
		t.Errorf("%d keys are left unknown", n)
		sum.unknown.Add(int64(n))
	}
	charges := r.charges()
	for _, c := range all {
		n := charges[c.key]
		sum.second.Add(int64(max(0, n-1)))
		if n != 1 && len(c.heard) > 0 {
			t.Errorf("%s: %d effects, want 1; the client heard %v", c.key, n, c.heard)
		}
		delete(charges, c.key)
		if len(c.heard) == 0 { // a client before it had given up
			continue
		}
		last := r.ask(t.Context(), r.proxies[0].addr, c.key)
		if said := c.heard[len(c.heard)-1]; last.status != 201 || last.body != said.body {
			t.Errorf("%s: %v %q at the end, and %v %q before", c.key, last, last.body, said, said.body)
		}
	}
	if len(charges) > 0 {
		t.Errorf("effects that nobody asked for: %v", charges)
	}
	r.calls.check()
	sum.operations.Add(int64(len(all)))
	did, _ := r.backend.figures()
	for _, times := range did {
		sum.faults.Add(int64(times))
	}
}

// listed is how many keys the proxy knows in a state.
func (p *settleProxy) listed(t *testing.T, state string) int {
	t.Helper()
	resp, err := http.Get(p.adminURL + "/keys/list?state=" + state) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var listing struct{ Keys []json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&listing); err != nil {
		t.Fatal(err)
	}
	return len(listing.Keys)
}

// disturber breaks one thing after another.
type disturber struct {
	quit, ended chan struct{}
	rounds      chan struct{} // closed once every one has been broken often enough
	times       int           // to be read once it has ended
}

// disturb begins to. Each disturbance comes at least so often.
func (r *settleRig) disturb(seed uint64, least int) *disturber {
	rng := rand.New(rand.NewPCG(seed, 2))
	d := &disturber{quit: make(chan struct{}), ended: make(chan struct{}), rounds: make(chan struct{})}
	all := r.disturbances()
	go func() {
		defer close(d.ended)
		for ; ; d.times++ {
			if d.times%len(all) == 0 {
				rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			}
			if d.times == least*len(all) {
				close(d.rounds)
			}
			select {
			case <-d.quit:
				return
			case <-time.After(time.Duration(100+rng.IntN(400)) * time.Millisecond):
			}
			mend := all[d.times%len(all)]()
			select { // it lasts longer than a lease, now and then
			case <-time.After(time.Duration(100+rng.IntN(1400)) * time.Millisecond):
			case <-d.quit:
			}
			mend()
		}
	}()
	return d
}

// goesOn says whether a disturbance has not come often enough.
func (d *disturber) goesOn() bool {
	select {
	case <-d.rounds:
		return false
	default:
		return true
	}
}

// stop mends everything, and says how often something was broken.
func (d *disturber) stop() int {
	close(d.quit)
	<-d.ended
	return d.times
}

// disturbances each break something, and return what mends it.
func (r *settleRig) disturbances() []func() (mend func()) {
	some := func() *settleProxy { return r.proxies[r.below(len(r.proxies))] }
	all := []func() func(){
		func() func() { // the proxy dies
			p := some()
			p.kill()
			return func() { r.run(p) }
		},
		func() func() { // it stands still
			p := some().process
			p.signal(syscall.SIGSTOP)
			return func() { p.signal(syscall.SIGCONT) }
		},
		func() func() { // the backend dies: its connections, its transactions, and what it meant to do
			r.backend.atWork(r.upTo(20 * time.Millisecond))
			return r.backend.kill()
		},
		func() func() { // it stands still, and holds what its transactions have locked
			r.backend.atWork(r.upTo(20 * time.Millisecond))
			return r.backend.stall()
		},
		r.link.Cut,
		r.endpoint.Cut,
		func() func() { // nothing comes through any more
			return r.link.Add("silent", "timeout", "downstream", `{"timeout":0}`)
		},
		func() func() {
			return r.endpoint.Add("silent", "timeout", "downstream", `{"timeout":0}`)
		},
		func() func() {
			r.terminate()
			return func() {}
		},
	}
	if dir, embedded := strings.CutPrefix(r.proxies[0].store, "embedded:"); embedded {
		all = append(all, func() func() { // the store is lost
			p := r.proxies[0]
			p.kill()
			r.calls.loses(func() {
				if err := os.RemoveAll(dir); err != nil {
					r.t.Error(err)
				}
			})
			return func() { r.run(p) }
		})
	}
	if r.redis != nil {
		all = append(all,
			func() func() { r.redis.Kill(); return r.redis.Restart },
			r.redis.Stall,
			func() func() { r.calls.loses(func() { _ = r.redis.Try("FLUSHALL") }); return func() {} },
			func() func() { _ = r.redis.Try("CLIENT", "KILL", "TYPE", "normal"); return func() {} },
		)
	}
	return all
}

// terminate ends the backend's connections at the database.
func (r *settleRig) terminate() {
	_, _ = r.direct.ExecContext(context.Background(),
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
}
