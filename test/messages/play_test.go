package messages_test

import (
	"slices"
	"sync"
	"time"
)

// play sends an exchange, its repetition and its sibling, one after the other.
func (w *world) play(x *exchange) *played {
	p := &played{world: w, x: x, idle: true}
	x.fields = append([]field{{"X-Request-Id", x.id, lineEnd}}, x.fields...)
	w.mu.Lock()
	w.sizes[x.id] = len(x.reply.sent(x.method))
	w.mu.Unlock()
	p.y = siblingOf(x)
	e := w.origin.expect(x)
	defer w.origin.forget(x.id)
	for _, step := range []func(){
		func() {
			if x.joins {
				w.join(p, e)
			} else {
				p.first = w.until(x)
			}
		},
		e.comesBehind,
		func() { p.again = w.until(x) },
		func() { p.storm = w.pipeline(x, x.storm) },
		func() { w.ofSibling(p) },
		func() { w.ofNext(p) },
		func() { p.idle = w.ends(e) },
	} {
		if step(); slices.ContainsFunc(p.answers(), (*answer).timedOut) {
			break // the others would wait, too
		}
	}
	e.proceed()
	p.seen, p.strays = e.requests(), w.origin.strays()
	w.mu.Lock()
	p.local = w.local
	w.mu.Unlock()
	return p
}

// ofSibling sends another operation with the same key.
func (w *world) ofSibling(p *played) {
	if p.x.sibling == nil {
		return
	}
	w.origin.expect(p.y)
	defer w.origin.forget(p.y.id)
	p.other = w.until(p.y)
}

// siblingOf is the other operation.
func siblingOf(x *exchange) *exchange {
	if x.sibling == nil {
		return nil
	}
	y := x.clone()
	x.sibling(y)
	y.id, y.joins, y.late = x.id+"-sibling", false, false
	y.fields[0].value = y.id
	return y
}

// ends says whether the backend has answered all that came.
func (w *world) ends(e *expected) bool {
	for end := time.Now().Add(w.patience); !e.idle(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// until asks until there is an answer of the operation.
func (w *world) until(x *exchange) (a *answer) {
	for end := time.Now().Add(w.patience); ; time.Sleep(time.Millisecond) {
		if a = w.ask(x, nil); a.status != 202 || time.Now().After(end) {
			return a
		}
	}
}

// join sends a request, and the same one while it is being answered.
func (w *world) join(p *played, e *expected) {
	var wg sync.WaitGroup
	ended := make(chan struct{})
	wg.Go(func() {
		defer close(ended)
		p.first = w.until(p.x)
	})
	select {
	case <-e.begun:
	case <-ended:
	}
	y := p.x.clone()
	if p.x.last != "" {
		y.add("Last-Event-ID", p.x.last)
	}
	to := &p.joined
	if p.x.mixes && p.y != nil {
		w.origin.expect(p.y)
		y, to = p.y, &p.mixed
	}
	met := make(chan struct{})
	var once sync.Once
	wg.Go(func() {
		*to = w.ask(y, func() { once.Do(func() { close(met) }) })
		once.Do(func() { close(met) })
	})
	select { // who only waits goes on when the answer does
	case <-met:
	case <-time.After(10 * time.Millisecond):
	}
	e.proceed()
	wg.Wait()
}
