package rstore

import (
	"encoding/hex"
	"strings"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/internal/failpoint"
	"github.com/idemproxy/idemproxy/internal/replays"
)

// cache keeps completed records that the server has promised to tell us about. An
// answer and the push that makes it stale come over one connection in order, but the
// answer is handled by the goroutine that asked.
type cache struct {
	*replays.Cache

	prefix string // of the names in pushes
}

type id = replays.ID

func newCache(prefix string, bytes int64) *cache {
	return &cache{Cache: replays.New(bytes), prefix: prefix}
}

// onPush is called by the client library, one call a push; nil means everything,
// which is also what a lost connection comes to.
func (c *cache) onPush(names []rueidis.RedisMessage) {
	failpoint.Reach("push-heard")
	if names == nil {
		c.Flush()
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
		c.Forget(k)
	}
}
