package pstore

import (
	"sync"
	"time"
)

// clock is what this process knows of the server's clock, to say in the server's own
// time until when a claim may be granted (idem.Claim's Within): a claim may be held
// up on its way for as long as it likes, by a network or by what pools connections;
// the server that it reaches then has the one clock that can tell.
//
// It keeps between what the server's clock is ahead of this process's monotonic one:
// what an answer shows as the server's time was read after the statement was sent,
// and before the answer came. So what it takes the clock to show at least is too
// little by a round trip at most, and never too much while the server's clock is not
// set back.
type clock struct {
	start time.Time

	mu          sync.Mutex
	known       bool          // guarded by mu, like what follows
	least, most time.Duration // how far the server's clock is ahead
}

func newClock() *clock { return &clock{start: time.Now()} }

// at is what the server's clock showed at t, ms, or somewhat less; 0 if that is not
// known.
func (c *clock) at(t time.Time) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known {
		return 0
	}
	return (c.least + t.Sub(c.start)).Milliseconds()
}

// learn takes what the server's clock showed, in ms, between sent and received. What
// contradicts what was known replaces it.
func (c *clock) learn(now int64, sent, received time.Time) {
	shown := time.Duration(now) * time.Millisecond
	least, most := shown-received.Sub(c.start), shown+time.Millisecond-sent.Sub(c.start)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known || least > c.most || most < c.least {
		c.known, c.least, c.most = true, least, most
		return
	}
	c.least, c.most = max(least, c.least), min(most, c.most)
}

// forget is for when another server may be there.
func (c *clock) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = false
}
