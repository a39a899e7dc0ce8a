package rstore

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// journalOfKeys has n keys acquired and completed.
func journalOfKeys(tb testing.TB, j *journal, n int) {
	tb.Helper()
	key, err := idem.ParseKey("0123456789abcdef0123456789abcdef0123")
	if err != nil {
		tb.Fatal(err)
	}
	c := idem.Claim{Key: key, Owner: idem.NewOwner(), TTL: time.Minute, Retention: time.Hour}
	lease, response := c.Lease(), make([]byte, 300)
	args, err := acquireArgs(&c, 0)
	if err != nil {
		tb.Fatal(err)
	}
	now := time.Now()
	var last id
	for i := range n {
		binary.BigEndian.PutUint64(last[8:], uint64(i))
		last[0] = byte(i)
		j.granted(last, &c, args[0], 1, now)
		j.settled(last, idem.EventComplete, &lease, response, now)
	}
}

// The journal's memory is bounded by its bytes and by its window, also under a
// lease that is renewed for ever.
func TestTheJournalForgets(t *testing.T) {
	t.Parallel()
	const bound = 1 << 20
	j := newJournal(time.Minute, bound)
	journalOfKeys(t, j, 100_000)
	total, places := int64(0), 0
	for i := range j.shards {
		total += j.shards[i].size
		places += len(j.shards[i].queue)
	}
	if total > bound || places > 100_000 {
		t.Errorf("%d bytes in %d places, at most %d", total, places, bound)
	}

	j = newJournal(time.Minute, 64<<20)
	now := time.Now()
	renewed := &entry{state: idem.InProgress, lease: time.Minute, at: now}
	j.put(id{}, renewed, now)
	for i := range 1000 {
		now = now.Add(time.Second)
		renewed.at = now
		k := id{1: byte(i >> 8), 2: byte(i), 3: 1}
		j.put(k, &entry{state: idem.Completed, at: now}, now)
	}
	if n := len(j.shards[0].entries); n < 61 || n > 63 || j.shards[0].entries[id{}] != renewed {
		t.Errorf("%d entries of a window of 60 and a lease", n)
	}
}

func BenchmarkJournal(b *testing.B) {
	b.ReportAllocs()
	journalOfKeys(b, newJournal(time.Minute, 64<<20), b.N)
}

// What a key was before takes no room any more: one that is used again and again pushes no
// others out.
func TestTheJournalCountsWhatItHas(t *testing.T) {
	t.Parallel()
	j := newJournal(time.Minute, 1<<20)
	for range 100 {
		journalOfKeys(t, j, 200)
	}
	for i := range j.shards {
		sh, size := &j.shards[i], int64(0)
		for _, e := range sh.entries {
			size += e.cost()
		}
		if sh.size != size {
			t.Errorf("shard %d counts %d bytes, and has %d", i, sh.size, size)
		}
	}
	if n := len(j.assertions(time.Now())); n != 200 {
		t.Errorf("it remembers %d keys of 200", n)
	}
}

// A purge that finds nothing takes no room: who purges many keys pushes no others out.
func TestAPurgeOfNothingIsNotRemembered(t *testing.T) {
	t.Parallel()
	j := newJournal(time.Minute, 1<<20)
	journalOfKeys(t, j, 1)
	var k id
	for range 2 { // what was known of the key is forgotten, and stays so
		j.purged(k, purged{}, time.Now())
		if sh := &j.shards[0]; len(sh.entries) != 0 || sh.size != 0 {
			t.Errorf("%d entries, %d bytes", len(sh.entries), sh.size)
		}
	}
}

// Answers of one server are read in any order. A grant whose record was purged meanwhile is
// not what stands.
func TestAGrantThatIsReadAfterItsPurge(t *testing.T) {
	t.Parallel()
	j := newJournal(time.Minute, 1<<20)
	key, err := idem.ParseKey("0123456789abcdef0123456789abcdef0123")
	if err != nil {
		t.Fatal(err)
	}
	c := idem.Claim{Key: key, Owner: idem.NewOwner(), TTL: time.Minute, Retention: time.Hour}
	args, err := acquireArgs(&c, 0)
	if err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	j.purged(id{}, purged{keys: 1, updated: 1, owner: string(c.Owner[:])}, sent)
	j.granted(id{}, &c, args[0], 1, sent)
	if all := j.assertions(time.Now()); len(all) != 1 || all[0].purged != 1 {
		t.Errorf("it remembers %+v, want the purge", all)
	}
	j.granted(id{}, &c, args[0], 1, time.Now().Add(time.Millisecond)) // once more, after the purge
	if all := j.assertions(time.Now()); len(all) != 1 || all[0].state != idem.InProgress || all[0].before != 1 {
		t.Errorf("it remembers %+v, want the grant", all)
	}
}

// A grant that followed a purge stands, though it was read before it; a purge that was sent
// later than the grant was read is later.
func TestAPurgeThatIsReadAfterTheNextGrant(t *testing.T) {
	t.Parallel()
	j := newJournal(time.Minute, 1<<20)
	key, err := idem.ParseKey("0123456789abcdef0123456789abcdef0123")
	if err != nil {
		t.Fatal(err)
	}
	c := idem.Claim{Key: key, Owner: idem.NewOwner(), TTL: time.Minute, Retention: time.Hour}
	args, err := acquireArgs(&c, 0)
	if err != nil {
		t.Fatal(err)
	}
	sent, other := time.Now().Add(-time.Second), idem.NewOwner()
	j.granted(id{}, &c, args[0], 1, sent)
	j.purged(id{}, purged{keys: 1, updated: 1, owner: string(other[:])}, sent)
	if all := j.assertions(time.Now()); len(all) != 1 || all[0].state != idem.InProgress || all[0].before != 1 {
		t.Errorf("it remembers %+v, want the grant", all)
	}
	j.purged(id{}, purged{keys: 1, updated: 2, owner: string(other[:])}, time.Now().Add(time.Millisecond))
	if all := j.assertions(time.Now()); len(all) != 1 || all[0].purged != 2 {
		t.Errorf("it remembers %+v, want the purge", all)
	}
}
