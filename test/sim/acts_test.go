package sim_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// keyCount is how many keys there are.
const keyCount = 4

func keyOf(i int) string { return fmt.Sprintf("k%d", i) }

// payloadOf is what must not change between two requests with one key: the last two differ in
// the host alone.
func payloadOf(i int) string {
	return [...]string{"payload=0 at shop", "payload=1 at shop", "payload=0 at bank"}[i]
}

// do does one act.
func (w *world) do(a act) {
	p := w.proxies[a.proxy]
	switch a.kind {
	case sends, asks:
		w.crowd(&a)
	case takes, retries, answered, purges:
		w.background(func() { w.operate(p, &a) })
	case kills:
		w.upset(upset{process: p.name})
		w.mu.Lock()
		w.killed = true
		w.mu.Unlock()
		p.kill()
		w.replace(p)
	case stops:
		w.stop(p)
	case reloads:
		if !p.reachesStore() || w.redisIs != served {
			return // it cannot be entered how records will be compared
		}
		w.note("%s: is reloaded: %s, recipe %d", p.name, waitings[a.waiting], a.recipe)
		c := p.config(a.waiting, a.recipe)
		w.enter(c)
		if err := p.server.Reload(c); err != nil {
			w.violated("%s: reload: %v", p.name, err)
		}
	case storeIs:
		w.note("%s: its store is %s%s", p.name, ways[a.way], parts[a.part])
		w.upset(upset{
			process: p.name, renews: p.door.set(a.way, a.part),
			unheard: (a.way == deaf || a.way == lately) && a.part.has("acquire"),
		})
	case registryIs:
		w.note("%s: its registry %s", p.name, registries[a.registry])
		p.register.set(a.registry)
	case backendIs:
		w.mu.Lock()
		w.killed = true
		w.mu.Unlock()
		w.note("%s: its backend's weather is %d", p.name, a.weather)
		w.upset(upset{process: p.name})
		w.net.set(p.name, "backend", a.weather)
	case linkIs:
		w.note("%s: its way to Redis is %d", p.name, a.weather)
		w.upset(upset{process: p.name, silence: true})
		w.net.set(p.name, "redis", a.weather)
	case redisIs:
		w.treat(a.server)
	case mutes:
		w.mu.Lock()
		w.mute = !w.mute
		w.note("the endpoint for receipts fails: %v", w.mute)
		w.mu.Unlock()
	}
}

// crowd has clients send what one sends, one after another.
func (w *world) crowd(a *act) {
	for i := range a.crowd {
		if i > 0 {
			w.pass(a.gap)
		}
		w.mu.Lock()
		name := fmt.Sprintf("r%d", len(w.requests))
		w.mu.Unlock()
		w.send(&request{
			name: name, key: keyOf(a.key), payload: payloadOf(a.payload), process: w.proxies[a.proxy], question: a.kind == asks,
			end: a.end, delay: a.delay, wait: a.wait, patience: a.patience, tries: a.tries,
		})
	}
}

// stop shuts a process down. The next one starts beside it, unless they share a directory.
func (w *world) stop(p *process) {
	w.mend(p)
	w.upset(upset{process: p.name})
	if p.dir == "" {
		w.background(p.shutdown)
	} else {
		w.await(p.shutdown)
	}
	w.replace(p)
}

// replace begins the next life of a proxy.
func (w *world) replace(p *process) {
	next := w.start(p.number, p.life+1, p.dir)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proxies[p.number] = next
}

// arrives notes a request that reached the backend, and judges whether it may execute.
func (w *world) arrives(r *http.Request, body, from string) *execution {
	w.mu.Lock()
	defer w.mu.Unlock()
	end, _ := strconv.Atoi(r.Header.Get("Sim-End"))
	e := &execution{
		number: len(w.executions) + 1, key: strings.Trim(r.Header.Get("Idempotency-Key"), `"`), payload: body + " at " + r.Host, request: r.Header.Get("Sim-Request"),
		try: r.Header.Get("Idempotency-Attempt"), attempt: r.Header.Get("Idempotency-Attempt-Token"), process: from, end: ending(end), began: time.Now(),
	}
	if e.voided = w.voids[e.attempt]; e.voided {
		w.note("%s came to the backend by %s, voided", e.request, from)
		return e
	}
	w.note("%s came to the backend by %s: execution %d", e.request, from, e.number)
	for _, before := range w.executions {
		switch {
		case before.key != e.key:
		case e.wasSlower(before) && w.plan.policy == idem.AmbiguousRelease && w.risked(from, before.began.Add(-longestPatience)):
			// It was in flight when its attempt was given up, and the later attempt overtook it.
		case w.sent(e).Before(before.began) && w.operated(e):
			// Likewise, and an operator gave it up.
		case !w.mayFollow(before):
			w.violated("%s executed again (%d) after execution %d", e.key, e.number, before.number)
		case !w.forgotten(before) && e.try == before.try:
			w.violated("%s has two attempts that are called the %sth: executions %d and %d", e.key, e.try, before.number, e.number)
		}
	}
	w.executions = append(w.executions, e)
	w.bell.ring(anArrival, e.key)
	return e
}

// wasSlower says that an execution is of an earlier attempt than one that came before it.
func (e *execution) wasSlower(before *execution) bool {
	own, err := strconv.Atoi(e.try)
	other, wrong := strconv.Atoi(before.try)
	return err == nil && wrong == nil && own < other
}

func (w *world) ends(e *execution) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.ended = time.Now()
	w.note("the backend is done with execution %d", e.number)
	w.bell.ring(anAnswer, e.key)
}

func (w *world) saysAll(e *execution, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.answered = err == nil
}
