package rstore

import (
	"encoding/hex"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

// cache keeps completed records that the server has promised to tell us about.
//
// An answer and the push that makes it stale come over one connection in order,
// but the answer is handled by the goroutine that asked: it may be about to
// store what the push has just removed. Therefore whoever asks takes a ticket
// first, and stores only if no push came for the key's shard since.
type cache struct {
	prefix  string // of the names in pushes
	records *otter.Cache[id, cached]
	shards  [256]cacheShard

	onChange atomic.Pointer[func(id)]
}

type id = [16]byte

type cacheShard struct {
	mu     sync.Mutex
	pushes uint64 // guarded by mu
}

type cached struct {
	record *idem.Record
	until  time.Time // on this process's monotonic clock, never later than the server's expiry
}

// entryOverhead is what an entry takes besides its response: the record, its
// names, the cache's own node (TestCacheWeighsWhatItTakes).
const entryOverhead = idem.HeadSize + 560

func newCache(prefix string, bytes int64) *cache {
	return &cache{
		prefix: prefix,
		records: otter.Must(&otter.Options[id, cached]{
			MaximumWeight: uint64(bytes), //nolint:gosec // defaulted to a positive number
			Weigher: func(_ id, c cached) uint32 {
				return uint32(c.record.Response.Size()) + entryOverhead //nolint:gosec // bodies are far below 4 GiB
			},
		}),
	}
}

// get never waits and never sends.
func (c *cache) get(k id) *idem.Record {
	e, ok := c.records.GetIfPresent(k)
	if !ok || !time.Now().Before(e.until) {
		return nil
	}
	return e.record
}

// ticket is taken before the server is asked.
func (c *cache) ticket(k id) uint64 {
	sh := &c.shards[k[0]]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.pushes
}

// put keeps what the server answered, unless it may be stale already.
func (c *cache) put(k id, ticket uint64, r *idem.Record, until time.Time) {
	sh := &c.shards[k[0]]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.pushes == ticket {
		c.records.Set(k, cached{record: r, until: until})
	}
}

// onPush is called by the client library, one call a push; nil means everything,
// which is also what a lost connection comes to.
func (c *cache) onPush(names []rueidis.RedisMessage) {
	if names == nil {
		c.flush()
		return
	}
	for i := range names {
		if name, err := names[i].ToString(); err == nil {
			c.forgetName(name)
		}
	}
}

// forgetName takes a record's name, or its response's (see Store.names).
func (c *cache) forgetName(name string) {
	if inner, ok := strings.CutPrefix(name, c.prefix+"r{"); ok {
		name = strings.TrimSuffix(inner, "}")
	}
	if len(name) != len(c.prefix)+2*len(id{}) || name[:len(c.prefix)] != c.prefix {
		return
	}
	var k id
	if _, err := hex.Decode(k[:], []byte(name[len(c.prefix):])); err == nil {
		c.forget(k)
	}
}

func (c *cache) forget(k id) {
	sh := &c.shards[k[0]]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.pushes++
	c.records.Invalidate(k)
	c.changed(k)
}

// changed tells whoever waits for the key.
func (c *cache) changed(k id) {
	if f := c.onChange.Load(); f != nil {
		(*f)(k)
	}
}

func (c *cache) flush() {
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.Lock()
		sh.pushes++
		sh.mu.Unlock()
	}
	// After the tickets: what is put from here on was asked for after the loss.
	c.records.InvalidateAll()
	c.changed(id{})
}
