package sim_test

import (
	"context"
	"sync"
	"time"
)

// moment is something that happens to a key, and that other things may come right after. What
// comes at a drawn time seldom comes just then.
type moment uint8

const (
	anytime   moment = iota
	aGrant           // somebody has the lease
	anArrival        // a request is at the backend
	anAnswer         // the backend is done with one
	anEnding         // the store has taken what became of an attempt
	aRenewal         // the lease was renewed
	aChange          // an operator has changed something, or tried to
)

var moments = [...]string{"at any time", "after a grant", "after an arrival", "after an answer", "after an ending", "after a renewal", "after an operator's act"}

// bell rings at moments.
type bell struct {
	mu    sync.Mutex
	rings chan struct{} // is closed at the next moment of any kind; guarded by mu
	heard map[rung]int  // guarded by mu
}

// rung is a moment of a key.
type rung struct {
	what moment
	key  string
}

func newBell() *bell { return &bell{rings: make(chan struct{}), heard: map[rung]int{}} }

// ring says that it is a moment.
func (b *bell) ring(what moment, key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard[rung{what, key}]++
	close(b.rings)
	b.rings = make(chan struct{})
}

// listen is how often there was such a moment, and a channel that is closed at the next one of
// any kind.
func (b *bell) listen(at rung) (times int, next <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heard[at], b.rings
}

// longestUpon is for how long something waits for its moment.
const longestUpon = 20 * time.Second

// wait waits until the next such moment, unless it is long in coming.
func (b *bell) wait(ctx context.Context, what moment, key string) {
	if what == anytime {
		return
	}
	over := time.NewTimer(longestUpon)
	defer over.Stop()
	before, next := b.listen(rung{what, key})
	for times := before; times == before; times, next = b.listen(rung{what, key}) {
		select {
		case <-next:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
