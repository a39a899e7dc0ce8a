package rstore

import (
	"fmt"
	"runtime"
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

// The bound is of memory, not of payload: what an entry weighs is about what it
// takes.
func TestCacheWeighsWhatItTakes(t *testing.T) {
	const entries = 20_000
	for _, body := range []int{60, 4096} {
		c := newCache("idem:", 1<<40)
		before := heap()
		for i := range entries {
			key, err := idem.ParseKey(fmt.Sprintf("order-%d", i))
			if err != nil {
				t.Fatal(err)
			}
			r := record()
			r.Key, r.Response.Body = key, make([]byte, body)
			r.Response.Header = []idem.Field{{Name: []byte("Content-Type"), Value: []byte("application/json")}}
			decoded, err := idem.DecodeRecord(r.Append(nil))
			if err != nil {
				t.Fatal(err)
			}
			c.put(key.ID(), c.ticket(key.ID()), &decoded, time.Now().Add(time.Hour))
		}
		c.records.CleanUp()
		taken, weight := float64(heap()-before), float64(c.records.WeightedSize())
		if ratio := taken / weight; ratio < 0.7 || ratio > 1.3 {
			t.Errorf("bodies of %d bytes: %.0f bytes an entry, weighed as %.0f", body, taken/entries, weight/entries)
		}
		runtime.KeepAlive(c)
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
