package test_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// kill -9 of the proxy while the backend works. Policy release: the key is free
// when the lease has lapsed, and not before; the retry runs, as the operator
// chose. Policy hold: it never runs again.
func TestKillProxyMidFlight(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"release", "hold"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			onEveryStore(t, func(t *testing.T, store string) {
				o := newOrigin(t)
				args := []string{"--store", store, "--backend", o.url(), "--lock-ttl", "2s", "--on-ambiguous", policy}
				first := start(t, args...)
				go func() { _, _ = first.try("/slow?d=1s", "k") }()
				o.started("k")
				first.kill()

				second := start(t, args...)
				second.expect("/slow?d=1s", "k", 409, false) // the lease is still running
				if policy == "hold" {
					eventually(t, "the key becomes unknown", func() bool {
						return strings.Contains(second.post("/slow?d=1s", "k").body, "outcome-unknown")
					})
					second.expect("/slow?d=1s", "k", 409, false)
					o.executions("k", 1)
					return
				}
				eventually(t, "the lease lapses", func() bool { return second.post("/slow?d=1s", "k").status == 200 })
				second.expect("/slow?d=1s", "k", 200, true)
				o.executions("k", 2)
			})
		})
	}
}

// kill -9 again and again while requests are answered: what a client saw is
// replayed by the next process. KILLS is how often, on each store.
func TestKillLoopKeepsEveryAnswer(t *testing.T) {
	t.Parallel()
	kills := 5
	if n, err := strconv.Atoi(os.Getenv("KILLS")); err == nil {
		kills = n
	}
	onEveryStore(t, func(t *testing.T, store string) {
		o := newOrigin(t)
		answers := &answerBook{bodies: map[string]string{}}
		var fresh []string // of the last round
		for round := range kills {
			p := start(t, "--store", store, "--backend", o.url())
			answers.check(t, p, fresh)
			var done sync.WaitGroup
			for w := range 4 {
				done.Go(func() {
					for i := 0; ; i++ {
						key := fmt.Sprintf("%d-%d-%d", round, w, i)
						a, err := p.try("/", key)
						if err != nil {
							return // killed
						}
						if a.status == 500 && strings.Contains(a.body, "#store-unavailable") {
							continue // the machine stood still, and nothing was done
						}
						answers.add(key, a.body)
					}
				})
			}
			eventually(t, "some answers", func() bool { return answers.count() >= 50 })
			time.Sleep(rand.N(20 * time.Millisecond)) // amid whatever it is at
			p.kill()
			done.Wait()
			fresh = answers.drain()
		}
		p := start(t, "--store", store, "--backend", o.url())
		answers.check(t, p, answers.all())
		for _, key := range answers.all() {
			o.executions(key, 1)
		}
		t.Logf("figure: %d kills, %d answers, all replayed", kills, len(answers.all()))
	})
}

// answerBook is what clients were told.
type answerBook struct {
	mu     sync.Mutex
	bodies map[string]string // guarded by mu
	recent []string          // guarded by mu
}

func (b *answerBook) add(key, body string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bodies[key] = body
	b.recent = append(b.recent, key)
}

func (b *answerBook) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.recent)
}

func (b *answerBook) drain() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	recent := b.recent
	b.recent = nil
	return recent
}

func (b *answerBook) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.bodies))
}

func (b *answerBook) check(t *testing.T, p *process, keys []string) {
	t.Helper()
	for _, key := range keys {
		if a := p.expect("/", key, 200, true); a.body != b.bodies[key] {
			t.Errorf("key %s: %v, the client had seen %q", key, a, b.bodies[key])
		}
	}
}

// kill -9 of Redis while the backend works: the client gets its answer, the
// record is written when Redis is back, and nothing runs twice.
func TestKillRedisMidFlight(t *testing.T) {
	t.Parallel()
	redis, o := redistest.Start(t), newOrigin(t)
	p := start(t, "--store", redis.URL(), "--backend", o.url(), "--store-timeout", "500ms")
	first := make(chan answer, 1)
	go func() { first <- p.post("/slow?d=2s", "k") }()
	o.started("k")
	redis.Kill()
	p.expect("/", "other", 500, false)
	o.executions("other", 0)
	if status, body := p.ready(); status != 200 || !strings.Contains(body, `"degraded":["store"]`) {
		t.Errorf("readyz says %d %s", status, body)
	}
	if a := <-first; a.status != 200 || a.replayed {
		t.Errorf("the request under way got %v", a)
	}
	redis.Restart()
	eventually(t, "the record is written", func() bool { return p.post("/slow?d=2s", "k").replayed })
	o.executions("k", 1)
	p.expect("/", "other", 200, false)
	if n := p.metric("idemproxy_endings_deferred_total"); n < 1 {
		t.Errorf("%v endings deferred", n)
	}
	if n := p.metric("idemproxy_endings_dropped_total"); n != 0 {
		t.Errorf("%v endings dropped", n)
	}
}

// A drain in which the store does not take what became of a request ends with
// exit code 1, and the last line of the log says of how many.
func TestDrainWithoutTheStore(t *testing.T) {
	t.Parallel()
	redis, o := redistest.Start(t), newOrigin(t)
	p := start(t, "--store", redis.URL(), "--backend", o.url(), "--store-timeout", "500ms")
	answers := make(chan answer, 1)
	go func() { answers <- p.post("/slow?d=2s", "k") }()
	o.started("k")
	redis.Kill()
	if a := <-answers; a.status != 200 {
		t.Fatalf("got %v", a)
	}
	if code := p.stop(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	last := p.text()[strings.LastIndex(p.text(), `"event":"stopped"`):]
	if !strings.Contains(last, `"dropped":1`) || strings.Contains(last, "every request was finished") {
		t.Errorf("it says %s", last)
	}
}

// A proxy that stood still for longer than its lease finds it taken: its late
// completion is refused and counted, and overwrites nothing.
func TestStoppedProxyDoesNotOverwrite(t *testing.T) {
	t.Parallel()
	redis, o := redistest.Start(t), newOrigin(t)
	args := []string{"--store", redis.URL(), "--backend", o.url(), "--lock-ttl", "1s"}
	first, second := start(t, args...), start(t, args...)
	late := make(chan answer, 1)
	go func() {
		a, _ := first.try("/slow?d=1s", "k")
		late <- a
	}()
	o.started("k")
	first.signal(syscall.SIGSTOP)
	eventually(t, "the lease lapses", func() bool { return second.post("/slow?d=1s", "k").status == 200 })
	winner := second.expect("/slow?d=1s", "k", 200, true)
	first.signal(syscall.SIGCONT)
	if a := <-late; a.status != 200 || a.body == winner.body {
		t.Errorf("the stopped proxy's client got %v", a) // what the backend told it, and no more
	}
	eventually(t, "the loss is counted", func() bool { return first.metric("idemproxy_leases_lost_total") == 1 })
	for _, p := range []*process{first, second} {
		if a := p.expect("/slow?d=1s", "k", 200, true); a.body != winner.body {
			t.Errorf("the record is now %v, was %v", a, winner)
		}
	}
	o.executions("k", 2) // the lease was lost: counted and logged, which is what P1 promises
	if !strings.Contains(first.text(), "lease_lost") {
		t.Error("the loss is not logged")
	}
}

func TestRedisUnreachableAtStart(t *testing.T) {
	t.Parallel()
	redis, o := redistest.Start(t), newOrigin(t)
	redis.Kill()
	p := start(t, "--store", redis.URL(), "--backend", o.url())
	if status, body := p.ready(); status != 200 || !strings.Contains(body, `"degraded":["store"]`) {
		t.Errorf("readyz says %d %s", status, body)
	}
	p.expect("/", "k", 500, false)
	o.executions("k", 0)
	redis.Restart()
	eventually(t, "it is ready", func() bool { _, body := p.ready(); return strings.Contains(body, `"ready"`) })
	p.expect("/", "k", 200, false)
}

// Redis comes back without its data: what was running is executed again only by
// policy, and the loss is reported.
func TestRedisLosesItsData(t *testing.T) {
	t.Parallel()
	redis, o := redistest.Start(t), newOrigin(t)
	p := start(t, "--store", redis.URL(), "--backend", o.url())
	first := make(chan answer, 1)
	go func() { first <- p.post("/slow?d=1s", "k") }()
	o.started("k")
	redis.Do("FLUSHALL")
	if a := <-first; a.status != 200 {
		t.Errorf("the request under way got %v", a)
	}
	if n := p.metric("idemproxy_leases_lost_total"); n != 1 {
		t.Errorf("%v leases lost, want 1", n)
	}
	if n := p.metric("idemproxy_endings_dropped_total"); n != 0 { // the store was asked, and had nothing that could end
		t.Errorf("%v endings dropped, want none", n)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store string) {
		o := newOrigin(t)
		p := start(t, "--store", store, "--backend", o.url())
		first := make(chan answer, 1)
		go func() { first <- p.post("/slow?d=1s", "k") }()
		o.started("k")
		p.signal(syscall.SIGTERM)
		eventually(t, "no connection is taken", func() bool {
			_, err := p.try("/", "late")
			return err != nil
		})
		if a := <-first; a.status != 200 {
			t.Errorf("the request under way got %v", a)
		}
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		next := start(t, "--store", store, "--backend", o.url())
		next.expect("/slow?d=1s", "k", 200, true)
		o.executions("k", 1)
	})
}

func TestSecondProcessOnADirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, "--store", "embedded:"+dir)
	code, out := run(t, "--listen", "127.0.0.1:0", "--admin", "", "--store", "embedded:"+dir)
	if code != 1 || !strings.Contains(out, "another process is using this directory") || !strings.Contains(out, dir) {
		t.Errorf("exit code %d, %s", code, out)
	}
}

// A running clock that is set forward or back does not matter: see
// TestP1LeaseStartsAnewAfterACrash in estore; Redis measures by its own.

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--lock-ttl", "banana"}, "lock-ttl"},
		{[]string{"--lock-ttl", "1ms"}, "--lock-ttl: 1ms cannot be used: want from 100ms to 1h"},
		{[]string{"--heartbeat", "29s"}, "--heartbeat: 29s cannot be used"},
		{[]string{"--backend", "ftp://x"}, `--backend: "ftp://x" cannot be used: want 1 to 64 of http://host:port`},
		{[]string{"--store", "mysql://x"}, "--store"},
		{[]string{"--on-ambiguous", "maybe"}, `"maybe" is none of "release", "hold" and "settle"`},
		{[]string{"--max-request-body", "lots"}, "is not a size"},
		{[]string{"--nonsense"}, "unknown flag: --nonsense"},
		{[]string{"surplus"}, `"surplus" is no command`},
		{[]string{"--config", "/nonexistent.yaml"}, "no such file"},
	} {
		code, out := run(t, c.args...)
		if code != 2 || !strings.Contains(out, c.want) {
			t.Errorf("%v: exit code %d, %s, want 2 and %q", c.args, code, out, c.want)
		}
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	p := start(t, "--store", "embedded:"+t.TempDir())
	addr := strings.TrimPrefix(p.url, "http://")
	code, out := run(t, "--listen", addr, "--admin", "", "--store", "embedded:"+t.TempDir())
	if code != 1 || !strings.Contains(out, "--listen: "+addr) {
		t.Errorf("exit code %d, %s", code, out)
	}
}

// run runs the proxy to its end, which is expected to come at once.
func run(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	cmd := execCommand(t, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

const runAtMost = 30 * time.Second
