package upstream

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// Balance is how a request's backend is chosen.
type Balance uint8

// The ways of choosing.
const (
	// LeastConnections takes the backend with the fewest requests under way, in
	// turn among those that have as few.
	LeastConnections Balance = iota
	// RoundRobin takes them in turn.
	RoundRobin
)

// ErrBalance is a name of no way of choosing.
var ErrBalance = errors.New("want least-connections or round-robin")

// String is the name in the configuration.
func (b Balance) String() string {
	if b == RoundRobin {
		return "round-robin"
	}
	return "least-connections"
}

// ParseBalance reads what String writes.
func ParseBalance(text string) (Balance, error) {
	for _, b := range []Balance{LeastConnections, RoundRobin} {
		if text == b.String() {
			return b, nil
		}
	}
	return 0, fmt.Errorf("%q: %w", text, ErrBalance)
}

// maxEndpoints is how many the set of those tried has room for.
const maxEndpoints = 64

// pick chooses the next endpoint of those not tried yet, -1 if there is none.
// One that is down is taken only when there is no other: all being down says
// more about the checks than about the backends.
func (u *Upstream) pick(all []*endpoint, tried uint64) int {
	if len(all) == 1 {
		return -int(tried & 1)
	}
	start := int(u.turn.Add(1)) % len(all)
	best, spare, least := -1, -1, int64(math.MaxInt64)
	for n := range all {
		i := (start + n) % len(all)
		switch p := all[i]; {
		case tried&(1<<i) != 0:
		case p.down.Load():
			if spare < 0 {
				spare = i
			}
		case u.config.Balance == RoundRobin:
			return i
		default:
			if active := p.active.Load(); active < least {
				best, least = i, active
			}
		}
	}
	if best < 0 {
		return spare
	}
	return best
}

// judge takes an endpoint out that failed several times in a row, if there are
// others; the watcher lets it in again.
func (u *Upstream) judge(p *endpoint, e *Exchange) {
	switch {
	case e.Err == nil:
		if p.failures.Load() != 0 {
			p.failures.Store(0)
		}
		return
	case errors.Is(e.Err, ErrNoConn), errors.Is(e.Err, ErrQueueFull), errors.Is(e.Err, ErrClientBody),
		errors.Is(e.Err, ErrClientGone):
		return // not its fault
	case e.Sent == idem.Answered:
		return
	}
	n := p.failures.Add(1)
	if after := u.config.EjectAfter; after > 0 && int(n) >= after && len(*u.endpoints.Load()) > 1 {
		u.setDown(p, e.Err)
	}
}

// leftOut is since when an endpoint gets no requests, and why.
type leftOut struct {
	since time.Time
	why   error
}

func (u *Upstream) setDown(p *endpoint, why error) {
	if p.down.Swap(true) {
		return
	}
	p.out.Store(&leftOut{time.Now(), why})
	if u.trace.Down != nil {
		u.trace.Down(u.config.Name, p.name, why)
	}
}

func (u *Upstream) setUp(p *endpoint) {
	p.failures.Store(0)
	if !p.down.Swap(false) {
		return
	}
	p.out.Store(nil)
	if u.trace.Up != nil {
		u.trace.Up(u.config.Name, p.name)
	}
}
