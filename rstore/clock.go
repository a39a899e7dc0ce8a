package rstore

import (
	"sync"
	"sync/atomic"
	"time"
)

// clocks is what this process knows of the servers' clocks, for two purposes. One
// is to say in a server's own time until when a claim may be granted (idem.Claim's
// Within): a claim may be held up on its way for as long as it likes; the server
// that it reaches then has the one clock that can tell. The other is to write the
// times of a record for it, which it would take longer to do itself.
//
// For each slot of a Cluster (and for slot 0 of a single server) it keeps between
// what the server's clock is ahead of this process's monotonic one: what a reply
// shows as its time was read after the command was sent, and before the reply came.
// So what it takes the clock to show at least is too little by a round trip at most,
// and never too much while the server's clock is not set back. What was learned is
// corrected by what contradicts it. A claim is compared with the server's clock
// there: where nothing is known, one that has a deadline is sent once more.
type clocks struct {
	start time.Time
	slots [slots]atomic.Pointer[clock] // nil: not known
}

// clock is how far a server's clock is ahead.
type clock struct {
	mu          sync.Mutex
	least, most time.Duration // guarded by mu, like heard
	heard       time.Time     // when the server showed its time last
}

const slots = 1 << 14

// What is written without a comparison with the server's clock needs to be right to
// within exactly, and heard at most that long ago: a server's clock may be set, and
// a slot move to another server.
const (
	exactly     = 2 * time.Millisecond
	heardAtMost = 10 * time.Second
)

func newClocks() *clocks { return &clocks{start: time.Now()} }

// at is what the server's clock showed at t, ms, or somewhat less; 0 if that is not
// known.
func (c *clocks) at(slot uint16, t time.Time) int64 {
	known := c.slots[slot].Load()
	if known == nil {
		return 0
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	return (known.least + t.Sub(c.start)).Milliseconds()
}

// surely is what the server's clock showed at t, ms; 0 if that is not known well.
func (c *clocks) surely(slot uint16, t time.Time) int64 {
	known := c.slots[slot].Load()
	if known == nil {
		return 0
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	if known.most-known.least > exactly || t.Sub(known.heard) > heardAtMost {
		return 0
	}
	return (known.most + t.Sub(c.start)).Milliseconds()
}

// learn takes what the server's clock showed, in ms, between sent and received.
func (c *clocks) learn(slot uint16, now int64, sent, received time.Time) {
	shown := time.Duration(now) * time.Millisecond
	least, most := shown-received.Sub(c.start), shown+time.Millisecond-sent.Sub(c.start)
	known := c.slots[slot].Load()
	if known == nil {
		c.slots[slot].CompareAndSwap(nil, &clock{least: least, most: most, heard: received})
		return
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	known.heard = received
	if least > known.most || most < known.least {
		known.least, known.most = least, most
		return
	}
	known.least, known.most = max(least, known.least), min(most, known.most)
}

// forget is for when other servers may be there: a connection was lost.
func (c *clocks) forget() {
	for i := range c.slots {
		c.slots[i].Store(nil)
	}
}

// slotOf is a name's slot in a Cluster: its CRC16 (XMODEM), as names of records
// have no braces.
func slotOf(name string) uint16 {
	var crc uint16
	for i := range len(name) {
		crc ^= uint16(name[i]) << 8
		for range 8 {
			carry := crc&0x8000 != 0
			if crc <<= 1; carry {
				crc ^= 0x1021
			}
		}
	}
	return crc % slots
}
