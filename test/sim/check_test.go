package sim_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// grace is for how long the effects of an upset may be seen.
const grace = 45 * time.Second

// last is until when it may have happened.
func (u *upset) last() time.Time {
	if u.end.IsZero() {
		return time.Now()
	}
	return u.end
}

// forgotten says that the store may not know any more that an execution was. w.mu is held.
func (w *world) forgotten(e *execution) bool {
	for _, u := range w.upsets {
		if (u.forgets && u.key == e.key || u.flushed) && u.last().After(e.began.Add(-longestPatience)) {
			return true
		}
	}
	return false
}

// mayFollow says that a key may execute although it executed before. w.mu is held.
func (w *world) mayFollow(before *execution) bool {
	if before.end == isBusy && !before.ended.IsZero() || w.operated(before) {
		return true // nothing was done, or somebody said so
	}
	for _, u := range w.upsets {
		if u.flushed && !u.at.Before(before.began.Add(-grace)) {
			return true // the store did not know it any more
		}
	}
	if w.plan.policy != idem.AmbiguousRelease {
		return false
	}
	ambiguous := (before.end == cuts || before.end == halves) && !before.ended.IsZero() ||
		before.end == isSilent && time.Since(before.began) > backendTimeout-time.Second // it was sent earlier
	return ambiguous || w.risked(before.process, before.began.Add(-grace))
}

// operated says that an operator had to do with the key since the request of an execution was
// sent.
func (w *world) operated(e *execution) bool {
	since := w.sent(e)
	for _, u := range w.upsets {
		if u.operator && u.key == e.key && !u.last().Before(since) && strings.HasPrefix(e.attempt, u.attempt) {
			return true
		}
	}
	return false
}

// sent is when the client sent the request of an execution. w.mu is held.
func (w *world) sent(e *execution) time.Time {
	for _, r := range w.requests {
		if r.name == e.request {
			return r.sent
		}
	}
	return e.began
}

// disturbed says that something was wrong with a process in that time. w.mu is held.
func (w *world) disturbed(process string, from, to time.Time) bool {
	for _, u := range w.upsets {
		if !u.operator && (u.process == process || u.process == "") && u.at.After(from) && u.at.Before(to.Add(1)) {
			return true
		}
	}
	return false
}

// risked says that something was wrong with a process since then that may lose leases. w.mu is
// held.
func (w *world) risked(process string, from time.Time) bool {
	return slices.ContainsFunc(w.upsets, func(u *upset) bool {
		return !u.operator && !u.renews && (u.process == process || u.process == "") && u.at.After(from)
	})
}

// ill says that something is wrong with a process, or was lately. w.mu is held.
func (w *world) ill(p *process) bool {
	w.net.mu.Lock()
	bad := w.net.bad[linkOf(p.name, "backend")] != fair || w.net.bad[linkOf(p.name, "redis")] != fair
	w.net.mu.Unlock()
	return !p.door.isOpen() || bad || w.redisIs != served || w.disturbed(p.name, time.Now().Add(-grace), time.Now())
}

// check judges what has happened since the last step.
func (w *world) check() {
	w.mu.Lock()
	var open []*request
	for _, r := range w.requests {
		switch {
		case r.over.IsZero():
			open = append(open, r)
		case !r.judged:
			r.judged = true
			w.judge(r)
		}
	}
	w.mu.Unlock()
	for _, r := range open {
		w.waits(r)
	}
	if time.Since(w.looked) >= 5*time.Second {
		w.looked = time.Now()
		w.look()
	}
}

// judge judges what a client was told. w.mu is held.
func (w *world) judge(r *request) {
	switch {
	case r.named != nil && *r.named != r.key:
		w.violated("%s at %s was told of %q", r.name, r.process.name, *r.named)
	case r.replayed && r.mark != r.key:
		w.violated("%s at %s: the replay is marked as of %q", r.name, r.process.name, r.mark)
	}
	for _, e := range w.executions {
		if r.status == 200 && r.body == e.text() {
			w.judgeResponse(r, e)
			return
		}
	}
	if why := w.unexplained(r); why != "" {
		w.violated("%s at %s: %s", r.name, r.process.name, why)
	}
}

// judgeResponse judges a response that a client got. w.mu is held.
func (w *world) judgeResponse(r *request, e *execution) {
	switch {
	case e.key != r.key || e.payload != r.payload && !r.question:
		w.violated("%s got the response of execution %d", r.name, e.number)
	case !r.replayed && e.request != r.name && !r.question:
		w.violated("%s got the response of execution %d as if it were its own", r.name, e.number)
	case r.replayed && w.purged(r, e):
		w.violated("%s got the response of execution %d, which was purged", r.name, e.number)
	}
}

// purged says that a response had been purged, and everybody had heard of it, before a request
// was sent. w.mu is held.
func (w *world) purged(r *request, e *execution) bool {
	for _, u := range w.upsets {
		if u.silence && u.process == r.process.name && u.at.After(r.sent.Add(-grace)) {
			return false
		}
	}
	for _, u := range w.upsets {
		if u.purged.After(e.ended) && u.key == e.key && !e.ended.IsZero() && r.sent.Sub(u.at) > time.Second {
			return w.kept(e, u.purged)
		}
	}
	return false
}

// kept says that the store had a response by then: its client got it. w.mu is held.
func (w *world) kept(e *execution, by time.Time) bool {
	for _, r := range w.requests {
		if r.name == e.request {
			return r.status == 200 && r.over.Before(by)
		}
	}
	return false
}

// unexplained says why an answer should not have been. w.mu is held.
func (w *world) unexplained(r *request) string {
	own := func(which func(*execution) bool) bool {
		for _, e := range w.executions {
			if e.key == r.key && which(e) {
				return true
			}
		}
		return false
	}
	broken := func(e *execution) bool { return e.end == cuts || e.end == halves || e.end == isSilent }
	var ok bool
	switch {
	case r.status == 0:
		ok = r.left || r.process.dead || w.ill(r.process) || own(broken)
	case r.status == 200:
		ok = r.question || w.mayBeResolved(r)
	case r.status == 503 && r.body == "busy":
		ok = own(func(e *execution) bool { return e.request == r.name && e.end == isBusy })
	case r.kind == "in-progress":
		ok = len(w.executions) > 0 || w.ill(r.process) || w.others(r)
	case r.kind == "key-reused":
		ok = own(func(e *execution) bool { return e.payload != r.payload }) || w.other(r)
	case r.kind == "backend-outcome-unknown":
		ok = w.plan.policy != idem.AmbiguousRelease && (own(broken) || w.ill(r.process))
	case r.kind == "outcome-unknown":
		ok = w.plan.policy != idem.AmbiguousRelease && (w.killed || own(broken) || w.atRisk() || w.unheard())
	case r.kind == "backend-cut", r.kind == "backend-timeout", r.kind == "attempt-voided":
		ok = own(broken) || w.ill(r.process)
	case r.kind == "outcome-pending":
		ok = w.plan.policy == idem.AmbiguousSettle && (own(broken) || w.ill(r.process) || w.atRisk())
	case r.kind == "backend-unreachable":
		ok = w.ill(r.process)
	case r.kind == "store-unavailable":
		ok = w.ill(r.process) || time.Since(w.changed) < longestLag || r.process.register.lags() // what others entered is not read yet
	case r.kind == "outcome-none":
		ok = r.question && !own(func(e *execution) bool {
			return !w.mayFollow(e) && !w.forgotten(e) && !e.voided && e.began.Before(r.sent)
		})
	}
	if ok {
		return ""
	}
	return fmt.Sprintf("no reason for %d %s %q", r.status, r.kind, r.body)
}

// mayBeResolved says that a response is an operator's, and that no attempt was later than the one
// that was meant: what is known of that one says nothing of another. w.mu is held.
func (w *world) mayBeResolved(r *request) bool {
	response, attempt, one := strings.Cut(r.body, " as ")
	if response != "resolved "+r.key {
		return false
	}
	meant := slices.IndexFunc(w.executions, func(e *execution) bool { return one && e.key == r.key && e.try == attempt })
	return meant < 0 || w.forgotten(w.executions[meant]) || !slices.ContainsFunc(w.executions, func(e *execution) bool {
		return e.key == r.key && w.executions[meant].wasSlower(e)
	})
}

// atRisk says that there was something that may lose leases. w.mu is held.
func (w *world) atRisk() bool {
	return slices.ContainsFunc(w.upsets, func(u *upset) bool { return !u.operator && !u.renews })
}

// unheard says that a lease may have been granted that nobody heard of, and that nobody renews.
// w.mu is held.
func (w *world) unheard() bool {
	return slices.ContainsFunc(w.upsets, func(u *upset) bool { return u.unheard })
}

// others says that another request had this key at some time, and other that one had another
// payload. w.mu is held.
func (w *world) others(r *request) bool {
	for _, o := range w.requests {
		if o != r && o.key == r.key && !o.question {
			return true
		}
	}
	return false
}

func (w *world) other(r *request) bool {
	for _, o := range w.requests {
		if o.key == r.key && o.payload != r.payload && !o.question {
			return true
		}
	}
	return false
}

// longestDecided is for how long a request may wait although its key is decided. If the key was
// taken from an attempt that its proxy goes on with, that may hear of it when it renews the lease.
const (
	longestDecided = 3 * time.Second
	longestUntold  = 15 * time.Second
)

// waits judges a request that has no answer yet: what waits for a key that is decided was
// forgotten.
func (w *world) waits(r *request) {
	p := r.process
	w.mu.Lock()
	executing := w.executing(r.key)
	if executing {
		r.busy = time.Now()
	}
	excused := p.dead || w.ill(p) || p.register.lags() || executing && (p.joins || w.reached(r))
	asked := w.settling[r.key] > 0 // perhaps it waits for what the endpoint says
	overdue := time.Since(r.sent) > longestPatience-10*time.Second
	reached := w.reached(r)
	w.mu.Unlock()
	if p.stopping && w.plan.waiting != joins && time.Since(p.stopped) > longestDecided && !reached {
		w.violated("%s waits at %s, which is shut down", r.name, p.name)
		p.stopping = false // said once
	}
	if excused || asked || w.plan.policy == idem.AmbiguousSettle && reached { // it asks what became of its own attempt
		r.idle = time.Time{}
		return
	}
	if overdue {
		w.violated("%s at %s: has no answer", r.name, p.name)
	}
	key, err := idem.ParseKey(r.key)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	record, err := w.observer(p).Get(ctx, key)
	switch {
	case err != nil && !errors.Is(err, idem.ErrNotFound), record.State == idem.InProgress,
		record.State == idem.Unknown && w.plan.policy == idem.AmbiguousSettle:
		r.idle = time.Time{}
	case r.idle.IsZero():
		r.idle = time.Now()
	case time.Since(r.idle) > longestUntold, time.Since(r.idle) > longestDecided && time.Since(r.busy) > longestDecided:
		w.violated("%s at %s: waits although its key is %v", r.name, p.name, record.State)
		r.idle = time.Now().Add(time.Hour) // said once
	}
}

// executing says that the backend is at work for a key. w.mu is held.
func (w *world) executing(key string) bool {
	for _, e := range w.executions {
		if e.key == key && e.ended.IsZero() {
			return true
		}
	}
	return false
}

// reached says that a request came to the backend. w.mu is held.
func (w *world) reached(r *request) bool {
	for _, e := range w.executions {
		if e.request == r.name {
			return true
		}
	}
	return false
}

// leaseLost judges a lease that is said to be lost.
func (w *world) leaseLost(p *process, k idem.Key, attempt uint32, at idem.Event) {
	w.note("%s: the lease of attempt %d of %s is lost, at %v", p.name, attempt, k.Value(), at)
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.dead || w.risked(p.name, w.begun) {
		return
	}
	for _, u := range w.upsets {
		if u.key == k.Value() {
			return
		}
	}
	w.violated("%s: the lease of attempt %d of %s is said to be lost, at %v", p.name, attempt, k.Value(), at)
}
