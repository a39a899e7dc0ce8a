package rstore

import (
	"strconv"
	"sync/atomic"
	"time"
)

// clocks is what this process knows of the servers' clocks, for one purpose: to
// say in a server's own time until when a claim may be granted (idem.Claim's
// Within). A claim may be held up on its way for as long as it likes; the server
// that it reaches then has the one clock that can tell.
//
// For each slot of a Cluster (and for slot 0 of a single server) it keeps how far
// the server's clock is ahead of this process's monotonic one, at least: what a
// reply shows as its time was read before the reply came. So a deadline may be
// too soon by a round trip, and is never too late while the server's clock is not
// set back. What was learned is corrected by what contradicts it; where nothing is
// known, a claim asks for the time (the deadline 0) and is sent once more.
type clocks struct {
	start time.Time
	ahead [slots]atomic.Int64 // ns; 0: not known
}

const slots = 1 << 14

func newClocks() *clocks { return &clocks{start: time.Now()} }

// deadline is acquire.lua's, of a claim that was made at called.
func (c *clocks) deadline(slot uint16, called time.Time, within time.Duration) string {
	if within <= 0 {
		return ""
	}
	ahead := c.ahead[slot].Load()
	if ahead == 0 {
		return "0"
	}
	return strconv.FormatInt((ahead+int64(called.Sub(c.start)+within))/int64(time.Millisecond), 10)
}

// learn takes what the server's clock showed, in ms, between sent and received.
func (c *clocks) learn(slot uint16, now int64, sent, received time.Time) {
	least := now*int64(time.Millisecond) - int64(received.Sub(c.start))
	most := (now+1)*int64(time.Millisecond) - int64(sent.Sub(c.start))
	if ahead := c.ahead[slot].Load(); ahead < least || ahead > most {
		c.ahead[slot].Store(least)
	}
}

// forget is for when other servers may be there: a connection was lost.
func (c *clocks) forget() {
	for i := range c.ahead {
		c.ahead[i].Store(0)
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
