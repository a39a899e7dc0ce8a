package test_test

import (
	"database/sql"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the demo backend's database

	"github.com/idemproxy/idemproxy/internal/backend"
	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// Scenario A: the same key twice, in sequence and 200 at once.
func TestScenarioA(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store string) {
		gate := make(chan struct{})
		b := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
			if q.URL.Path == "/slow" {
				<-gate
			}
			backendtest.OK(c, q)
		})
		p := start(t, "--store", store, "--backend", b.URL(), "--store-timeout", "20s") // 200 at once take a slow machine a while

		first := p.expect("/", "sequence", 200, false)
		for range 5 {
			if again := p.expect("/", "sequence", 200, true); again.body != first.body {
				t.Errorf("the replay is %v, was %v", again, first)
			}
		}

		answers := make(chan answer, 200)
		for range cap(answers) {
			go func() {
				a, err := p.try("/slow", "at once")
				if err != nil {
					a.body = err.Error()
				}
				answers <- a
			}()
		}
		for range cap(answers) - 1 {
			if a := <-answers; a.status != 409 || a.header.Get("Retry-After") == "" {
				t.Errorf("got %v beside who executes", a)
			}
		}
		close(gate)
		if a := <-answers; a.status != 200 || a.replayed {
			t.Errorf("who executes got %v", a)
		}
		p.expect("/slow", "at once", 200, true)
		if one, two := b.Executions("sequence"), b.Executions("at once"); one != 1 || two != 1 {
			t.Errorf("%d and %d executions", one, two)
		}
		if n := p.metric("idemproxy_lock_contentions_total"); n != 199 {
			t.Errorf("%v contentions counted, want 199", n)
		}
		if n := p.metric(`idemproxy_requests_total{outcome="executed",route="default"}`); n != 2 {
			t.Errorf("%v executions counted, want 2", n)
		}
	})
}

// Scenario B: a job longer than its lease. At T + 35/45 of the job a second
// request gets 409; at the end the replay works.
func scenarioB(t *testing.T, ttl, job time.Duration) {
	t.Helper()
	onEveryStore(t, func(t *testing.T, store string) {
		o := newOrigin(t)
		p := start(t, "--store", store, "--backend", o.url(), "--lock-ttl", ttl.String())
		path, key := "/slow?d="+job.String(), "long job"
		first := make(chan answer, 1)
		begun := time.Now()
		go func() { first <- p.post(path, key) }()
		o.started(key)
		time.Sleep(time.Until(begun.Add(job * 35 / 45))) // the scenario's own clock
		p.expect(path, key, 409, false)
		a := <-first
		if a.status != 200 || a.replayed {
			t.Errorf("the job's answer: %v", a)
		}
		if again := p.expect(path, key, 200, true); again.body != a.body {
			t.Errorf("the replay is %v, was %v", again, a)
		}
		o.executions(key, 1)
		if n := p.metric("idemproxy_lease_renewals_total"); n < 2 {
			t.Errorf("%v renewals counted", n)
		}
		if n := p.metric("idemproxy_leases_lost_total"); n != 0 {
			t.Errorf("%v leases lost", n)
		}
	})
}

func TestScenarioBScaled(t *testing.T) {
	t.Parallel()
	scenarioB(t, 2*time.Second, 3*time.Second)
}

func TestScenarioBFull(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 45 s; TestScenarioBScaled and proxy's TestLongJobInABubble are its twins")
	}
	t.Parallel()
	scenarioB(t, 30*time.Second, 45*time.Second)
}

// Scenario C: the backend's connection breaks after 10 bytes of the response.
func TestScenarioC(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store string) {
		o := newOrigin(t)
		pipe := toxitest.New(t, o.addr)
		p := start(t, "--store", store, "--backend", "http://"+pipe.Addr)
		remove := pipe.Add("cut", "limit_data", "downstream", `{"bytes":10}`)
		for i := range 3 {
			p.expect("/", "k", 502, false)
			o.executions("k", i+1)
		}
		remove()
		first := p.expect("/", "k", 200, false)
		if again := p.expect("/", "k", 200, true); again.body != first.body {
			t.Errorf("the replay is %v, was %v", again, first)
		}
		o.executions("k", 4) // policy release: each retry after a cut runs
		if n := p.metric(`idemproxy_releases_total{cause="ambiguous"}`); n != 3 {
			t.Errorf("%v releases counted, want 3", n)
		}
	})
}

// The same under on_ambiguous: hold: one execution, whatever the client tries.
func TestScenarioCHeld(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store string) {
		o := newOrigin(t)
		pipe := toxitest.New(t, o.addr)
		p := start(t, "--store", store, "--backend", "http://"+pipe.Addr, "--on-ambiguous", "hold")
		remove := pipe.Add("cut", "limit_data", "downstream", `{"bytes":10}`)
		p.expect("/", "k", 502, false)
		remove()
		for range 3 {
			p.expect("/", "k", 409, false)
		}
		o.executions("k", 1)
		if n := p.metric("idemproxy_held_total"); n != 1 {
			t.Errorf("%v keys held, want 1", n)
		}
	})
}

// Two proxies on one Redis, or one proxy restarted on its directory, are one.
func TestTwoProxies(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store string) {
		o := newOrigin(t)
		first := start(t, "--store", store, "--backend", o.url())
		a := first.expect("/", "k", 200, false)
		if store[:5] != "redis" {
			if code := first.stop(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		}
		second := start(t, "--store", store, "--backend", o.url())
		local := func() float64 { return second.metric(`idemproxy_cache_hits_total{source="local"}`) }
		replays := 0
		replay := func() {
			replays++
			if b := second.expect("/", "k", 200, true); b.body != a.body {
				t.Errorf("the other proxy replays %v", b)
			}
		}
		replay()
		// PostgreSQL's notifications are heard some time after the start, and nothing is kept before.
		for deadline := time.Now().Add(time.Minute); strings.HasPrefix(store, "postgres") && local() == 0; {
			if time.Now().After(deadline) {
				t.Fatalf("none of %d replays was local", replays)
			}
			replay()
		}
		before := local()
		replay()
		replay()
		o.executions("k", 1)
		if n := local() - before; n != 2 {
			t.Errorf("%v of the last two replays were local", n)
		}
	})
}

func TestManyKeysAtOnce(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store string) {
		o := newOrigin(t)
		p := start(t, "--store", store, "--backend", o.url())
		go func() { _, _ = p.try("/slow?d=20s", "slow") }()
		o.started("slow")
		var done sync.WaitGroup
		for w := range 20 {
			done.Go(func() {
				for i := range 50 {
					key := fmt.Sprintf("%d-%d", w, i)
					p.expect("/", key, 200, false)
					p.expect("/", key, 200, true)
					o.executions(key, 1)
				}
			})
		}
		done.Wait()
		if n := p.metric("idemproxy_leases_in_flight"); n != 1 { // the slow one is still running
			t.Errorf("%v leases in flight, want 1", n)
		}
	})
}

// The cut cable with a backend that keeps receipts, as make run has it: the client gets
// the true answer, and there is one charge.
func TestCutCableWithReceipts(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store string) {
		db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "backend.db")+"?_pragma=busy_timeout(5000)")
		if err != nil {
			t.Fatal(err)
		}
		db.SetMaxOpenConns(1)
		t.Cleanup(func() { _ = db.Close() })
		b, err := backend.WithReceipts(db)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = b.Serve(ln) }()
		t.Cleanup(func() { _ = ln.Close() })
		url := "http://" + ln.Addr().String()
		p := start(t, "--store", store, "--backend", url, "--on-ambiguous", "settle", "--receipts", url+"/receipts")

		first := p.expect("/cut?executed=1", "charged", 200, false)
		if again := p.expect("/cut?executed=1", "charged", 200, true); again.body != first.body {
			t.Errorf("%v, and then %v", first, again)
		}
		if a := p.expect("/cut", "lost", 502, false); !strings.Contains(a.body, "#attempt-voided") {
			t.Errorf("%v", a)
		}
		p.expect("/cut", "lost", 200, false)
		for _, key := range []string{"charged", "lost"} {
			var charges int
			if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM charges WHERE op_key = ?", key).Scan(&charges); err != nil || charges != 1 {
				t.Errorf("%s: %d charges, %v", key, charges, err)
			}
		}
		if said := p.metric(`idemproxy_settlements_total{said="executed"}`) + p.metric(`idemproxy_settlements_total{said="voided"}`); said != 2 {
			t.Errorf("%v settlements", said)
		}
		if n := p.metric("idemproxy_receipts_missing_total"); n != 0 {
			t.Errorf("%v responses without a receipt", n)
		}
	})
}
