package rstore

import (
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

func record() *idem.Record {
	return &idem.Record{State: idem.Completed, Response: &idem.Response{Status: 200, Body: []byte("stale")}}
}

// An answer that was read before a push, and handled after it, is not kept.
func TestCacheTicketKeepsTheStaleOut(t *testing.T) {
	t.Parallel()
	for name, push := range map[string]func(*cache, id){
		"of the key":    func(c *cache, k id) { c.forget(k) },
		"of everything": func(c *cache, _ id) { c.onPush(nil) },
	} {
		c, k, until := newCache("idem:", 1<<20), id{7}, time.Now().Add(time.Hour)
		ticket := c.ticket(k)
		push(c, k)
		if c.put(k, ticket, record(), until); c.get(k) != nil {
			t.Errorf("push %s: the stale record is kept", name)
		}
		if c.put(k, c.ticket(k), record(), until); c.get(k) == nil {
			t.Errorf("push %s: what was asked for afterwards is not kept", name)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	c := newCache("idem:", limit)
	for i := range 4096 {
		r := record()
		r.Response.Body = make([]byte, 4096)
		k := id{byte(i), byte(i >> 8)}
		c.put(k, c.ticket(k), r, time.Now().Add(time.Hour))
	}
	c.records.CleanUp()
	if w := c.records.WeightedSize(); w > limit {
		t.Errorf("%d bytes kept, %d allowed", w, limit)
	}
}
