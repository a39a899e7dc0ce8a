package pstore

import (
	"sync/atomic"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/replays"
)

// cache keeps completed records while the server's notifications are heard.
//
// They come over another connection than answers do. One that came before a ticket was
// taken was about a change which the answer has seen, since notifications are sent when
// what they are about can be seen by all.
type cache struct {
	*replays.Cache

	start time.Time
	heard atomic.Int64 // until when what is here can be used, ns after start; 0: it cannot
}

type id = replays.ID

func newCache(bytes int64) *cache { return &cache{Cache: replays.New(bytes), start: time.Now()} }

// Get is replays' while notifications are heard.
func (c *cache) Get(k id) *idem.Record {
	if int64(time.Since(c.start)) >= c.heard.Load() {
		return nil
	}
	return c.Cache.Get(k)
}

// Put is replays' while notifications are heard.
func (c *cache) Put(k id, ticket uint64, r *idem.Record, until time.Time) {
	if c.heard.Load() != 0 {
		c.Cache.Put(k, ticket, r, until)
	}
}

// hearUntil says until when notifications are taken to be heard.
func (c *cache) hearUntil(t time.Time) { c.heard.Store(int64(t.Sub(c.start))) }

// deaf says that no notification may arrive any more.
func (c *cache) deaf() {
	c.heard.Store(0)
	c.Flush()
}
