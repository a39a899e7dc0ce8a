package sim_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

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
		w.mu.Lock()
		name := fmt.Sprintf("r%d", len(w.requests))
		w.mu.Unlock()
		w.send(&request{
			name: name, key: keyOf(a.key), payload: payloadOf(a.payload), process: p, question: a.kind == asks,
			end: a.end, delay: a.delay, wait: a.wait, patience: a.patience,
		})
	case takes, retries, answered, purges:
		w.background(func() { w.operate(p, a.kind, keyOf(a.key), a.delay) })
	case kills:
		w.upset(upset{process: p.name})
		w.mu.Lock()
		w.killed = true
		w.mu.Unlock()
		p.kill()
		w.proxies[a.proxy] = w.start(p.number, p.life+1, p.dir)
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
		w.note("%s: its store is %s", p.name, ways[a.way])
		w.upset(upset{process: p.name})
		p.door.set(a.way)
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

// stop shuts a process down. The next one starts beside it, unless they share a directory.
func (w *world) stop(p *process) {
	w.mend(p)
	w.upset(upset{process: p.name})
	if p.dir == "" {
		w.background(p.shutdown)
	} else {
		w.await(p.shutdown)
	}
	w.proxies[p.number] = w.start(p.number, p.life+1, p.dir)
}

// operate does what an operator does, through a process.
func (w *world) operate(p *process, k kind, name string, hesitates time.Duration) {
	key, err := idem.ParseKey(name)
	if err != nil {
		w.t.Error(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	w.upset(upset{key: name, operator: true, forgets: k == purges})
	var record idem.Record
	if record, err = p.engine.Get(ctx, key); err == nil {
		time.Sleep(hesitates) // persons do
		ctx, cancel = context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		switch k { //nolint:exhaustive // those of operators
		case takes:
			err = p.engine.ReleaseFrom(ctx, key, record.Owner)
		case retries:
			err = p.door.Resolve(ctx, key, record.Owner, nil)
		case answered:
			err = p.door.Resolve(ctx, key, record.Owner, &idem.Response{Status: 200, Body: []byte("resolved " + name)})
		case purges:
			err = p.door.Purge(ctx, key)
		}
	}
	w.upset(upset{key: name, operator: true, forgets: k == purges, purged: k == purges && err == nil}) // it may have happened until now
	w.note("an operator %s %s through %s: %v", kindNames[k], name, p.name, err)
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
		case !w.mayFollow(before):
			w.violated("%s executed again (%d) after execution %d", e.key, e.number, before.number)
		case !w.forgotten(before) && e.try == before.try:
			w.violated("%s has two attempts that are called the %sth: executions %d and %d", e.key, e.try, before.number, e.number)
		}
	}
	w.executions = append(w.executions, e)
	return e
}

func (w *world) ends(e *execution) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.ended = time.Now()
	w.note("the backend is done with execution %d", e.number)
}

func (w *world) saysAll(e *execution, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.answered = err == nil
}
