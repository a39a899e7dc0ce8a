package proxy

import "sync/atomic"

// admission bounds what is under way. What is beyond it is refused at once,
// before its body is read or a store is asked, so that an overload costs little
// and nothing is left half done.
type admission struct {
	maxRequests, maxBytes atomic.Int64
	requests, bytes       atomic.Int64
	waiting               atomic.Int64 // see pause
}

// limit says how much may be under way from now on.
func (a *admission) limit(requests int, bytes int64) {
	a.maxRequests.Store(int64(requests))
	a.maxBytes.Store(bytes)
}

// enter says whether one more request may come in; if so, leave is due.
func (a *admission) enter() bool {
	if a.requests.Add(1) > a.maxRequests.Load() {
		a.requests.Add(-1)
		return false
	}
	return true
}

// leave ends a request, which holds no bytes any more.
func (a *admission) leave() { a.requests.Add(-1) }

// step out and in again, for a request that only waits: others have a bound of
// their own for those.
func (a *admission) pause() {
	a.requests.Add(-1)
	a.waiting.Add(1)
}

func (a *admission) resume() {
	a.requests.Add(1)
	a.waiting.Add(-1)
}

// hold counts n bytes more, or less. What was executed is answered, however much
// there is.
func (a *admission) hold(n int64) {
	if n != 0 {
		a.bytes.Add(n)
	}
}

// full says that nobody may take more.
func (a *admission) full() bool { return a.bytes.Load() > a.maxBytes.Load() }

// room is how many bytes there is room for.
func (a *admission) room() int { return int(max(0, a.maxBytes.Load()-a.bytes.Load())) }
