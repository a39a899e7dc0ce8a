package sim_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/fakeredis"
)

// world is one episode: the processes, what happened, and what should not have.
type world struct {
	t        *testing.T
	plan     *plan
	net      *network
	memory   *storetest.Memory
	redis    *fakeredis.Server
	watching *rstore.Store // sees what is in Redis
	dir      string
	begun    time.Time
	proxies  []*process
	recipes  []recipe
	working  sync.WaitGroup // what goes on in the background
	traces   *traces
	bell     *bell

	mu         sync.Mutex
	executions []*execution // guarded by mu, as all below
	requests   []*request
	voids      map[string]bool // attempts
	mute       bool            // the receipts' endpoint fails
	asked      int             // of the receipts' endpoint
	upsets     []*upset
	settling   map[string]int // questions about a key that the receipts' endpoint has not answered
	redisIs    server
	persisting int // clients that are about to ask once more
	registry   map[string]string
	changed    time.Time // when something was entered there last
	looked     time.Time // into the store, last
	killed     bool      // a process was between its lease and the backend, perhaps, or was cut off there
	wrong      []string

	noteMu sync.Mutex
	log    []string // guarded by noteMu
}

// upset is something that may excuse what comes after it.
type upset struct {
	at       time.Time // since when it may have been; an act goes on until its end
	end      time.Time // zero: the act is under way
	process  string    // empty: all
	key      string    // empty: all
	silence  bool      // nothing comes from the store, and nobody notices
	renews   bool      // leases are kept
	unheard  bool      // leases may be granted that nobody hears of
	operator bool
	attempt  string    // which an operator meant; empty: whichever it was
	flushed  bool      // the store lost what it had
	forgets  bool      // the key, perhaps
	purged   time.Time // the key was certainly purged, between then and at; zero: perhaps it was not
}

func (w *world) note(format string, args ...any) {
	w.noteMu.Lock()
	defer w.noteMu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%9.3f  ", time.Since(w.begun).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) violated(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note("VIOLATED: %s", text)
	w.noteMu.Lock()
	defer w.noteMu.Unlock()
	w.wrong = append(w.wrong, text)
}

func (w *world) background(f func()) {
	w.working.Go(f)
}

// upset notes what may excuse what comes after it. w.mu is not held.
func (w *world) upset(u upset) {
	w.begin(&u)()
}

// begin is upset for something that goes on until end is called.
func (w *world) begin(u *upset) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u.at = time.Now()
	w.upsets = append(w.upsets, u)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		u.end = time.Now()
	}
}

// play runs a plan, and returns what was violated and the transcript.
func play(t *testing.T, p *plan) (wrong, log []string) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, plan: p, net: newNetwork(p.seed), memory: storetest.NewMemory(), begun: time.Now(),
			voids: map[string]bool{}, settling: map[string]int{}, registry: map[string]string{}, recipes: recipesOf(t), dir: dir, traces: newTraces(), bell: newBell(),
		}
		ln := w.net.listen("backend")
		go w.backend(ln)
		w.redis = fakeredis.New()
		redisLn := w.net.listen("redis")
		go w.serveRedis(redisLn)
		if p.store == "redis" {
			w.watching = w.openRedis(w.redis.Dial)
		}
		for i := range p.proxies {
			store := ""
			if p.store == "embedded" {
				store = filepath.Join(dir, strconv.Itoa(i))
			}
			w.proxies = append(w.proxies, w.start(i, 1, store))
		}
		w.playActs()
		w.pass(p.still)
		w.finish()
		_ = ln.Close()
		_ = redisLn.Close()
		if w.watching != nil {
			_ = w.watching.Close()
		}
		w.redis.Close()
		w.pass(3 * time.Minute) // what cleans up after itself, does
		if err := w.traces.check(); err != nil {
			w.violated("%v", err)
		}
		wrong, log = w.wrong, w.log
	})
	return wrong, log
}

// playActs does one act after the other. An act that waits for a moment has it also if the moment
// came since the act before.
func (w *world) playActs() {
	heard := 0
	for i, a := range w.plan.acts {
		if a.upon != anytime {
			w.passUntil(longestUpon, rung{a.upon, keyOf(a.key)}, heard)
		}
		w.pass(a.after)
		if i+1 < len(w.plan.acts) {
			next := &w.plan.acts[i+1]
			heard, _ = w.bell.listen(rung{next.upon, keyOf(next.key)})
		}
		w.do(a)
	}
}

// pass lets time pass, and delivers what flies.
func (w *world) pass(d time.Duration) { w.passUntil(d, rung{}, 0) }

// passUntil is pass, but for no longer than until there is another such moment than those that
// were heard.
func (w *world) passUntil(longest time.Duration, at rung, heard int) {
	until := time.Now().Add(longest)
	for {
		synctest.Wait()
		w.check()
		times, rings := w.bell.listen(at)
		if times != heard {
			return
		}
		flow, due := w.net.next()
		left := time.Until(until)
		switch {
		case flow != nil && time.Until(due) <= 0:
			w.net.deliver(flow)
			continue
		case left <= 0:
			return
		case flow != nil:
			left = min(left, time.Until(due))
		}
		timer := time.NewTimer(min(left, w.tick()))
		select {
		case <-w.net.news:
		case <-rings:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// await lets the world go on until f has returned.
func (w *world) await(f func()) {
	var over atomic.Bool
	w.background(func() { f(); over.Store(true) })
	for synctest.Wait(); !over.Load(); synctest.Wait() {
		w.pass(100 * time.Millisecond)
	}
}

// underWay says that a client has no answer yet, or the backend is at work.
func (w *world) underWay() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if r.over.IsZero() {
			return true
		}
	}
	for _, e := range w.executions {
		if e.ended.IsZero() {
			return true
		}
	}
	return w.persisting > 0
}

// tick is how often the world is looked at while nothing flies.
func (w *world) tick() time.Duration {
	if w.underWay() {
		return 500 * time.Millisecond
	}
	return 30 * time.Second
}

// finish heals everything, and looks at how it stands.
func (w *world) finish() {
	w.note("all is healed")
	w.mu.Lock()
	w.mute = false
	w.mu.Unlock()
	if w.redisIs != served {
		w.treat(served)
	}
	for _, p := range w.proxies {
		w.mend(p)
	}
	w.upset(upset{})        // what was wrong until now may show a little longer
	w.pass(3 * time.Minute) // a clock that was set back makes leases last longer
	for w.underWay() {
		w.pass(10 * time.Second)
	}
	w.probe()
	w.quiet()
	for _, p := range w.proxies {
		w.await(p.shutdown)
	}
	w.pass(longestDrain + time.Minute)
	w.working.Wait()
}

func (w *world) serveRedis(l *listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go w.redis.Serve(c)
	}
}

// observer is a way to look into the store that nothing is wrong with.
func (w *world) observer(p *process) idem.Inspector {
	if w.plan.store != "redis" {
		return p.door.whole
	}
	return w.watching
}

// treat does something to Redis.
func (w *world) treat(how server) {
	w.note("Redis %s", servers[how])
	w.upset(upset{})
	w.mu.Lock()
	w.redisIs = served
	if how == readOnly || how == full {
		w.redisIs = how
	}
	w.mu.Unlock()
	w.redis.SetReadOnly(how == readOnly)
	w.redis.SetOOM(how == full)
	switch how { //nolint:exhaustive // done
	case restarted:
		w.redis.Restart(true)
	case forgetful:
		w.redis.ScriptFlush()
	case flushed:
		w.redis.FlushAll()
		w.traces.lost()
		w.upset(upset{flushed: true})
	case later:
		w.redis.Shift(time.Minute)
		w.traces.leapt = true
		w.upset(upset{flushed: true}) // leases lapse
	case earlier:
		w.redis.Shift(-time.Minute)
	}
}

func (w *world) mend(p *process) {
	w.net.set(p.name, "redis", fair)
	p.door.set(open, all)
	p.register.set(read)
	w.net.set(p.name, "backend", fair)
}

// probe asks every proxy for every key, when everything is over.
func (w *world) probe() {
	for _, p := range w.proxies {
		var probes []*request
		for k := range keyCount {
			r := &request{
				name: fmt.Sprintf("probe%d.%d", k, p.number), key: keyOf(k), payload: payloadOf(0), process: p,
				wait: -1, patience: longestPatience,
			}
			probes = append(probes, r)
			w.send(r)
		}
		w.pass(10 * time.Second)
		w.mu.Lock()
		for _, r := range probes {
			settled := r.status == 200 || r.kind == "key-reused" || r.kind == "outcome-unknown" && w.plan.policy == idem.AmbiguousHold
			if !settled {
				w.violated("%s: when all is over, %s got %d %s", p.name, r.key, r.status, r.kind)
			}
		}
		w.mu.Unlock()
	}
}

// quiet checks that a process that has nothing to do does nothing.
func (w *world) quiet() {
	w.pass(2 * time.Minute)
	before := make([]int, len(w.proxies))
	for i, p := range w.proxies {
		before[i] = p.door.asked()
	}
	w.mu.Lock()
	asked := w.asked
	w.mu.Unlock()
	w.pass(20 * time.Minute)
	for i, p := range w.proxies {
		if n := p.door.asked() - before[i]; n > 0 {
			w.violated("%s: has nothing to do, and asked the store %d times in twenty minutes", p.name, n)
		}
	}
	w.mu.Lock()
	asked = w.asked - asked
	w.mu.Unlock()
	if asked > 0 {
		w.violated("the endpoint for receipts was asked %d times in twenty minutes although nothing is in doubt", asked)
	}
}
