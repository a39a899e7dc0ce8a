// Package replays keeps completed records in memory, for the stores that other
// processes change as well. Each store says by its own means when a record has changed
// (Redis by its invalidation messages, PostgreSQL by notifications); what that means for
// an answer which is just being handled is decided here, once.
package replays

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// ID is a key's name in the stores.
type ID = [16]byte

// Cache holds as many records as its bound has room for. It can be used by many at once.
//
// An answer of the server and the message that makes it stale may be handled in the
// other order than they were sent in. Therefore whoever asks takes a ticket first, and
// the answer is kept only if nothing was heard of the key's shard since.
type Cache struct {
	most    int64 // bytes
	records *otter.Cache[ID, kept]
	shards  [256]shard

	onChange atomic.Pointer[func(ID)]
}

type shard struct {
	mu    sync.Mutex
	heard uint64 // guarded by mu
}

type kept struct {
	record *idem.Record
	until  time.Time // on this process's monotonic clock
}

// overhead is what a record takes besides its response: its head, its names, the
// cache's own node (TestWeighsWhatItTakes).
const overhead = idem.HeadSize + 560

// Weight is the memory that a record takes, in bytes.
func Weight(r *idem.Record) int64 { return int64(r.Response.Size()) + overhead }

// New is a cache of at most so many bytes, which must be positive.
func New(bytes int64) *Cache {
	return &Cache{
		most: bytes,
		records: otter.Must(&otter.Options[ID, kept]{
			MaximumWeight: uint64(bytes), //nolint:gosec // positive
			Weigher: func(_ ID, e kept) uint32 {
				return uint32(Weight(e.record)) //nolint:gosec // bodies are far below 4 GiB
			},
		}),
	}
}

// Get is a record that may still be replayed, or nil. It never waits.
func (c *Cache) Get(k ID) *idem.Record {
	e, ok := c.records.GetIfPresent(k)
	if !ok || !time.Now().Before(e.until) {
		return nil
	}
	return e.record
}

// Ticket is taken before the server is asked.
func (c *Cache) Ticket(k ID) uint64 {
	sh := &c.shards[k[0]]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.heard
}

// Put keeps what the server answered, up to a moment of this process's clock which must
// not be later than the record's end on the server's. It is not kept if it may be stale
// already, or is more than all that may be kept: it would be thrown out again some time
// later, until when it would take its room and answer.
func (c *Cache) Put(k ID, ticket uint64, r *idem.Record, until time.Time) {
	if Weight(r) > c.most {
		return
	}
	failpoint.Reach("ticket-held")
	sh := &c.shards[k[0]]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.heard == ticket {
		c.records.Set(k, kept{record: r, until: until})
	}
}

// Forget is for a record that somebody has changed. Who waits for the key is told.
func (c *Cache) Forget(k ID) {
	sh := &c.shards[k[0]]
	sh.mu.Lock()
	sh.heard++
	c.records.Invalidate(k)
	sh.mu.Unlock()
	c.Changed(k)
}

// Flush is Forget for every record: the server may have said something that was not heard.
func (c *Cache) Flush() {
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		sh.heard++
		sh.mu.Unlock()
	}
	// After the tickets: what is put from here on was asked for after the loss.
	c.records.InvalidateAll()
	c.Changed(ID{})
}

// OnChange has f told of each key that has changed; of the zero ID when it may be any.
func (c *Cache) OnChange(f func(ID)) { c.onChange.Store(&f) }

// Changed tells who waits for the key, and keeps the record.
func (c *Cache) Changed(k ID) {
	if f := c.onChange.Load(); f != nil {
		(*f)(k)
	}
}
