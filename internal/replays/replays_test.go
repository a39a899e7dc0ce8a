package replays

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
func TestTicketKeepsTheStaleOut(t *testing.T) {
	t.Parallel()
	for name, push := range map[string]func(*Cache, ID){
		"of the key":    func(c *Cache, k ID) { c.Forget(k) },
		"of everything": func(c *Cache, _ ID) { c.Flush() },
	} {
		c, k, until := New(1<<20), ID{7}, time.Now().Add(time.Hour)
		ticket := c.Ticket(k)
		push(c, k)
		if c.Put(k, ticket, record(), until); c.Get(k) != nil {
			t.Errorf("push %s: the stale record is kept", name)
		}
		if c.Put(k, c.Ticket(k), record(), until); c.Get(k) == nil {
			t.Errorf("push %s: what was asked for afterwards is not kept", name)
		}
	}
}

func TestIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	c := New(limit)
	for i := range 4096 {
		r := record()
		r.Response.Body = make([]byte, 4096)
		k := ID{byte(i), byte(i >> 8)}
		c.Put(k, c.Ticket(k), r, time.Now().Add(time.Hour))
	}
	c.records.CleanUp()
	if w := c.records.WeightedSize(); w > limit {
		t.Errorf("%d bytes kept, %d allowed", w, limit)
	}
}

// The bound is of memory, not of payload: what an entry weighs is about what it
// takes.
func TestWeighsWhatItTakes(t *testing.T) {
	const entries = 20_000
	for _, body := range []int{60, 4096} {
		c := New(1 << 40)
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
			c.Put(key.ID(), c.Ticket(key.ID()), &decoded, time.Now().Add(time.Hour))
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

// What is more than the whole cache may have is not kept, not even for a moment: see
// Put. So a cache of a byte keeps nothing, and what cannot be kept throws nothing out.
func TestKeepsNothingLargerThanItself(t *testing.T) {
	t.Parallel()
	c, until := New(4096), time.Now().Add(time.Hour)
	small, large := ID{1}, ID{2}
	c.Put(small, c.Ticket(small), record(), until)
	r := record()
	r.Response.Body = make([]byte, 4096)
	if c.Put(large, c.Ticket(large), r, until); c.Get(large) != nil {
		t.Error("a response as large as the cache is answered from it")
	}
	if c.records.CleanUp(); c.Get(small) == nil {
		t.Error("it threw out what was there")
	}
}
