package test_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// failRun is a history at the client's end, in which the first proxy comes to points.
type failRun struct {
	*endRun
	campaign *failCampaign
	one      failCase
	log      string // what the first proxy writes

	quit   chan struct{} // closed when the clients are ready
	beside sync.WaitGroup
	brief  int                      // how many short-lived keys there were
	keys   atomic.Pointer[[]string] // of the round
}

// play runs one case.
func (c *failCampaign) play(t *testing.T, one failCase) {
	t.Helper()
	r := c.newRun(t, one)
	r.beside.Go(r.watch)
	r.beside.Go(r.reload)
	r.beside.Go(r.shortLived)
	if r.comesBy(operators...) {
		r.beside.Go(r.operator) // not always: what is taken or purged cannot be found stuck
	}
	keys := r.rounds()
	close(r.quit)
	r.beside.Wait()
	if r.comesBy("ticket-held") {
		time.Sleep(endLag) // what is answered of purged keys now is answered for ever
	}
	for _, key := range keys {
		if err := r.settle(key); err != nil {
			t.Errorf("%s: %v", key, err)
			break // the others need not be waited for
		}
		for _, p := range r.proxies { // what was answered is answered everywhere
			r.ask(p, key, 0, "ok", "wait=2", 20*time.Second)
		}
	}
	lines := readFailLog(t, r.log)
	r.delay(lines)
	c.note(one, lines)
	for _, a := range one.arms {
		if a.point == one.arms[0].point && !acted(lines, a) && !strings.HasPrefix(one.about, "all=") {
			c.missed(t, fmt.Sprintf("it never acted at %s; seed %d", a, c.seed))
		}
	}
	r.check()
	if t.Failed() {
		t.Logf("the log of the points: %v", lines)
	}
}

func acted(lines []failLine, a arm) bool {
	return slices.ContainsFunc(lines, func(l failLine) bool { return l.point == a.point && l.act != "" })
}

// comesBy says whether the run is to come to one of the points.
func (r *failRun) comesBy(points ...string) bool {
	return slices.ContainsFunc(r.one.arms, func(a arm) bool { return slices.Contains(points, a.point) })
}

// hashOf has each case play other clients.
func hashOf(name string) uint64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return uint64(h.Sum32())
}

// newRun starts the proxies: on the embedded store one, elsewhere two.
func (c *failCampaign) newRun(t *testing.T, one failCase) *failRun {
	t.Helper()
	r := &failRun{
		endRun:   &endRun{t: t, policy: one.policy, faulty: true, begun: time.Now(), asked: map[int]*endRequest{}, receipts: map[string]endReceipt{}, seed: c.seed ^ hashOf(one.name())},
		campaign: c, one: one, quit: make(chan struct{}), log: t.TempDir() + "/points",
	}
	r.calls = newStoreCalls(t, one.kind, endLag)
	r.backend = backendtest.Start(t, r.respond)
	r.file = t.TempDir() + "/idemproxy.yaml"
	r.settings("body", "reject")
	name := "run" + strconv.FormatUint(rand.Uint64(), 36)
	stores := [][]string{{"--store", "embedded:" + t.TempDir()}}
	switch one.kind {
	case "redis":
		to := []string{"--store", c.redis.URL(), "--namespace", name}
		stores = [][]string{to, to}
	case "postgres":
		to := []string{"--store", c.postgres.URL("postgres"), "--store-schema", name}
		stores = [][]string{to, to}
	}
	for i, store := range stores {
		p := &endProxy{addr: fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))}
		p.args = append([]string{
			"-c", r.file, "--listen", p.addr, "--backend", r.backend.URL(), "--on-ambiguous", one.policy,
			"--lock-ttl", endLease.String(), "--heartbeat", endHeartbeat.String(), "--store-timeout", "1s", "--backend-timeout", endBackend,
			"--max-wait", endWait.String(),
		}, store...)
		if one.policy == "settle" {
			p.args = append(p.args, "--receipts", r.backend.URL()+"/receipts", "--settle-every", "1s", "--settle-within", "5s")
		}
		how := launch{binary: binary}
		if i == 0 {
			how = r.armed()
		}
		p.run = r.calls.start(t, how, p.args...)
		if how.dies && p.run.url == "" && !acted(readFailLog(t, r.log), one.arms[0]) {
			t.Fatalf("the proxy does not start:\n%s", p.run.text())
		}
		r.proxies = append(r.proxies, p)
	}
	return r
}

// armed starts a proxy that acts.
func (r *failRun) armed() launch {
	var all []string
	for _, a := range r.one.arms {
		all = append(all, a.String())
	}
	return launch{
		binary: r.campaign.binary, dies: true,
		env: []string{"PROXY_FAILPOINTS=" + strings.Join(all, ","), "PROXY_FAILPOINTS_LOG=" + r.log},
	}
}

// settings has a route beside, whose records end soon.
func (r *failRun) settings(recipe, inProgress string) {
	whole := r.file + ".new" // a reload may be reading
	writeText(r.t, whole, "fingerprint: [method, target, "+recipe+"]\nrespond_async: true\nstream_responses: true\nin_progress: "+inProgress+"\n"+
		"routes:\n  - name: brief\n    path: /brief\n    retention: 1s\n    remember: 0\n")
	if err := os.Rename(whole, r.file); err != nil {
		r.t.Error(err)
	}
}

// rounds has clients ask until the proxy has acted, and a round more. A point that is come to
// seldom takes many rounds where the machine has much else to do.
func (r *failRun) rounds() (keys []string) {
	after, begun := 0, time.Now()
	for round := 0; after < 2 && (round < 60 || time.Since(begun) < 3*endLease); round++ {
		var some []string
		for i := range 4 {
			some = append(some, fmt.Sprintf("key-%d-%d", round, i))
		}
		keys = append(keys, some...)
		operated := some
		var clients sync.WaitGroup
		for i := range 8 {
			clients.Go(func() { r.client(some, uint64(1+round*100+i)) })
		}
		if r.comesBy("renew-asked", "renew-answered", "take-asked", "take-answered") {
			slow := fmt.Sprint("slow-", round) // for longer than a heartbeat, and than an operator needs to take its lease
			keys, operated = append(keys, slow), append(slices.Clone(some), slow)
			clients.Go(func() { r.ask(r.proxies[0], slow, 0, "ok 1200ms", "", 20*time.Second) })
		}
		r.keys.Store(&operated)
		clients.Wait()
		if r.allActed() {
			after++
		}
	}
	return keys
}

// allActed says whether what the run is about has happened.
func (r *failRun) allActed() bool {
	text, err := os.ReadFile(r.log)
	if err != nil {
		return false
	}
	arms := r.one.arms
	if !strings.HasPrefix(r.one.about, "all=") {
		arms = arms[:1]
	}
	return !slices.ContainsFunc(arms, func(a arm) bool { return !strings.Contains(string(text), "acts "+a.point+" ") })
}

// watch starts the first proxy again when it has died. Then it acts no more.
func (r *failRun) watch() {
	p := r.proxies[0]
	select {
	case <-r.quit:
		return
	case <-p.run.done:
	}
	died, meant := r.now(), false
	for _, line := range readFailLog(r.t, r.log) {
		if line.act == "end" || line.point == "log-append" && line.act == "fail" { // which ends it, too
			died, meant = min(died, line.at.Sub(r.begun)), true
		}
	}
	if !meant {
		r.t.Errorf("the proxy ended by itself: %v", p.run.cmd.ProcessState)
	}
	p.trouble(died)
	next := r.calls.start(r.t, launch{binary: r.campaign.binary, env: []string{"PROXY_FAILPOINTS_LOG=" + r.log}}, p.args...)
	p.mu.Lock()
	p.run = next
	p.mu.Unlock()
	p.trouble(r.now() + time.Second)
}

// reload has the proxies compare by one recipe and the other.
func (r *failRun) reload() {
	for i := 0; ; i++ {
		select {
		case <-r.quit:
			return
		case <-time.After(200 * time.Millisecond):
		}
		r.settings([]string{"json", "body"}[i%2], []string{"reject", "join", "wait"}[i%3])
		for _, p := range r.proxies {
			p.mu.Lock()
			p.run.signal(syscall.SIGHUP)
			p.mu.Unlock()
		}
	}
}

// operator does through the first proxy what clients do seldom: takes leases above all,
// which are short.
func (r *failRun) operator() {
	rng := rand.New(rand.NewPCG(r.seed, 12))
	acts := []int{1, 1, 2, 1, 1, 3, 1, 1, 1, 0}
	if r.one.arms[0].point == "ticket-held" {
		acts = []int{0}
	}
	for i := 0; ; i++ {
		select {
		case <-r.quit:
			return
		case <-time.After(15 * time.Millisecond):
		}
		if keys := r.keys.Load(); keys != nil {
			r.operateBy(r.proxies[0], (*keys)[i%len(*keys)], acts[i%len(acts)], rng)
		}
	}
}

// shortLived asks once for each of many keys whose records soon end, so that there is
// something to sweep.
func (r *failRun) shortLived() {
	for {
		select {
		case <-r.quit:
			return
		case <-time.After(50 * time.Millisecond):
		}
		r.brief++
		q := &endRequest{number: int(r.serial.Add(1)), key: fmt.Sprint("brief-", r.brief), act: "ok", proxy: r.proxies[0], call: r.now()}
		r.mu.Lock()
		r.asked[q.number] = q
		r.mu.Unlock()
		r.askBrief(q)
	}
}

func (r *failRun) askBrief(q *endRequest) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+q.proxy.addr+"/brief", strings.NewReader("{}"))
	if err != nil {
		r.t.Error(err)
		return
	}
	req.Host = serviceHost
	for name, value := range map[string]string{
		"Idempotency-Key": q.key, "X-Request-Id": strconv.Itoa(q.number), "X-Act": q.act, "Content-Type": "application/json",
		"Authorization": endCaller,
	} {
		req.Header.Set(name, value)
	}
	r.note(q, req)
}

// delay notes when the proxy was late with what it did, so that what a request led to may
// have come after its answer. A proxy that was held up for longer than a lease may have
// lost what it had.
func (r *failRun) delay(lines []failLine) {
	p := r.proxies[0]
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range lines {
		if line.act == "" {
			continue
		}
		at := line.at.Sub(r.begun)
		var pause time.Duration
		if text, ok := strings.CutPrefix(line.act, "pause:"); ok {
			var err error
			if pause, err = time.ParseDuration(text); err != nil {
				r.t.Error(err)
			}
		}
		p.delays = append(p.delays, at, at+pause+time.Second)
		if pause >= endLease {
			p.lapses = append(p.lapses, at, at+pause+time.Second)
		}
	}
}
