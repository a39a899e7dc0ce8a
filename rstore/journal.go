package rstore

import (
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

// journal is what the store acknowledged to this process lately: for each key the
// last state. After a failover, which may have lost it, it is asserted on the new
// primary (assert.go). A nil journal keeps nothing.
//
// It is bounded in time and in bytes; of the leases that this process holds, which
// are bounded otherwise, none is forgotten.
type journal struct {
	window time.Duration
	shards [journalShards]journalShard
}

const journalShards = 64

type journalShard struct {
	mu      sync.Mutex
	entries map[id]*entry // guarded by mu, like all below
	queue   []queued      // in the order in which they were put here; those before head are gone
	head    int
	size    int64
	bound   int64
	early   []early // a few, of which the oldest is forgotten
}

// queued is a place in the order of forgetting.
type queued struct {
	key id
	e   *entry
	at  time.Time
}

// entry is a key's state. Its strings refer to what was sent, and are shared.
type entry struct {
	state  idem.State // Absent, InProgress, Completed or Unknown
	holds  bool
	hinted bool // see idem.Record
	// resolved: an operator said what became of the attempt. The record that says so has no
	// owner; owner is still whose attempt it is, and of an earlier record of it.
	resolved bool
	// gone: the store refused an event since the key was not this owner's any more. Nothing of
	// the attempt is asserted, unless the store acknowledges another event of it.
	gone bool
	// purged is for a purge, whoever's the record was: when that was last updated,
	// in ms on its server's clock.
	purged int64
	// before is a purge that the state followed, of a record that a server may still have: when
	// that was last updated, and whose it was. 0: none is known.
	before      int64
	beforeOwner string
	// unheard are the owners, 16 bytes each, of records that were purged before the state, though
	// nobody here was told: see tellsOfAPurge. A server may still have one of them.
	unheard string
	attempt uint32
	owner   idem.Owner
	made    string // fingerprint, binding and recipe, as in the record; of a purge, the owner of what was purged
	keep    string // retention and remember, as in the record
	tail    string // the key's names, as in the record
	result  string // the response, encoded
	lease   time.Duration
	began   time.Time // on this process's monotonic clock, like at
	read    time.Time // when the grant or the purge was read
	at      time.Time // when the state was acknowledged, or a moment before
}

// entryCost is about what an entry takes besides its strings.
const entryCost = 320

func (e *entry) cost() int64 {
	return int64(entryCost + len(e.made) + len(e.keep) + len(e.tail) + len(e.result) + len(e.beforeOwner) + len(e.unheard))
}

// newJournal is nil for a window that is not positive.
func newJournal(window time.Duration, bytes int64) *journal {
	if window <= 0 {
		return nil
	}
	j := &journal{window: window}
	for i := range j.shards {
		j.shards[i].entries, j.shards[i].bound = map[id]*entry{}, bytes/journalShards
	}
	return j
}

// granted: a claim was, which asked for that record.
func (j *journal) granted(k id, c *idem.Claim, record string, attempt uint32, sent time.Time) {
	if j == nil {
		return
	}
	sh := &j.shards[k[0]%journalShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	// The answers of a server are read in any order: this one may be of before the purge, and
	// of before what an operator has made of it.
	if was := sh.entries[k]; was != nil && sent.Before(was.read) &&
		(was.hasPurged(c.Owner) || was.attempt > attempt && sh.hasEarly(k, c.Owner)) {
		return
	}
	e := &entry{
		state: idem.InProgress, holds: c.HoldOnLapse, hinted: c.Hinted(), attempt: attempt, owner: c.Owner,
		made: record[madeAt : madeAt+madeSize], keep: record[keepAt:idem.HeadSize], tail: record[idem.HeadSize:],
		lease: c.TTL, began: sent, at: sent, read: time.Now(),
	}
	if was := sh.entries[k]; was != nil {
		if e.unheard = was.unheard; e.tellsOfAPurge(was) {
			e.unheard = (string(was.owner[:]) + e.unheard)[:min(len(was.owner)+len(e.unheard), mostUnheard*len(was.owner))]
		}
	}
	sh.put(k, e, sent.Add(-j.window))
	sh.catchUp(k, c.Owner, sent)
}

// mostUnheard bounds them: within a window, they are seldom two.
const mostUnheard = 4

// tellsOfAPurge says of a grant that the record of the attempt before was purged, or has ended:
// what is completed is granted to nobody, and the numbers of attempts go up until then. The grant
// must have been sent when that attempt was known to be granted: answers are read in any order.
func (e *entry) tellsOfAPurge(was *entry) bool {
	return was.purged == 0 && was.owner != e.owner && e.began.After(was.read) &&
		(e.attempt <= was.attempt || was.state == idem.Completed)
}

// settled: an event of settle.lua was acknowledged that was sent at a time.
func (j *journal) settled(k id, e idem.Event, l *idem.Lease, response []byte, sent time.Time) {
	if j == nil {
		return
	}
	sh := &j.shards[k[0]%journalShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	known := sh.entries[k]
	switch {
	case known == nil || !known.isAbout(e, l.Owner, sent):
		sh.remember(early{k, e, *l, response, sent})
		return // a record cannot be made of what is known
	case known.resolved && !e.Resolves():
		return // that was before: what an operator resolved has no owner
	}
	sh.settle(known, e, l, response, sent)
	if e == idem.EventHold {
		sh.catchUp(k, idem.Owner{}, sent)
	}
}

// settle has an entry be what an event makes of it.
func (sh *journalShard) settle(known *entry, e idem.Event, l *idem.Lease, response []byte, sent time.Time) {
	known.gone = false
	if e == idem.EventRenew {
		if known.state == idem.InProgress { // otherwise that was before
			known.at, known.lease = sent, l.TTL
		}
		return
	}
	sh.size -= known.cost()
	known.at, known.result, known.resolved = sent, "", e.Resolves()
	if l.Retention > 0 {
		known.keep = rueidis.BinaryString(appendKeep(make([]byte, 0, keepSize), l.Retention, l.Remember))
	}
	switch e {
	case idem.EventComplete, idem.EventResolveComplete:
		known.state, known.result = idem.Completed, rueidis.BinaryString(response)
	case idem.EventHold:
		known.state = idem.Unknown
	default:
		known.state = idem.Absent
	}
	sh.size += known.cost()
}

// isAbout says whether an event happened to the attempt that the entry is of. An
// operator who names none resolves only what is unknown: if this one cannot be,
// it was somebody else's; and so it was if this one was granted after that was sent.
func (e *entry) isAbout(event idem.Event, owner idem.Owner, sent time.Time) bool {
	if event.Resolves() && owner == (idem.Owner{}) {
		return !e.gone && (e.state == idem.Unknown || e.state == idem.InProgress && e.holds && !e.read.After(sent))
	}
	return e.owner == owner
}

// purged: an operator had a record forgotten, or there was none.
func (j *journal) purged(k id, p purged, sent time.Time) {
	if j == nil {
		return
	}
	sh := &j.shards[k[0]%journalShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if p.updated > 0 {
		sh.purged(k, p, sent, sent.Add(-j.window))
		return
	}
	e := sh.entries[k]
	if e == nil || e.purged == 0 && e.read.After(sent) { // that grant may have followed this, and stands
		return
	}
	if before, of := e.purge(); before > 0 { // a server may still have that record
		sh.put(k, purgeEntry(before, of, sent), sent.Add(-j.window))
		return
	}
	sh.drop(k, e)
}

// purged writes down a purge of a record. Answers are read in any order: another purge, or a
// grant of another attempt, may have been read before this, and stands.
func (sh *journalShard) purged(k id, p purged, sent, oldest time.Time) {
	e := sh.entries[k]
	if e == nil || !e.read.After(sent) || e.purged == 0 && e.isOf(p.owner) {
		sh.put(k, purgeEntry(p.updated, p.owner, sent), oldest)
		return
	}
	if latest, _ := e.purge(); latest >= p.updated {
		return
	}
	if e.purged > 0 {
		sh.put(k, purgeEntry(p.updated, p.owner, sent), oldest)
		return
	}
	sh.size -= e.cost()
	e.before, e.beforeOwner = p.updated, p.owner
	sh.size += e.cost()
}

// purgeEntry is for a purge of a record of that owner, which was last updated then.
func purgeEntry(updated int64, owner string, sent time.Time) *entry {
	return &entry{
		state: idem.Absent, purged: updated, made: owner, keep: string(make([]byte, keepSize)), began: sent, at: sent, read: time.Now(),
	}
}

// purge is the latest purge of the key that the entry knows of; 0: of none.
func (e *entry) purge() (updated int64, owner string) {
	if e.purged > 0 {
		return e.purged, e.made
	}
	return e.before, e.beforeOwner
}

// lost: the store refused an event, since the key is not this owner's any more. What its owner
// or an operator made of it stands: that is why it is not. It is not known what else did.
// It may have been an ending whose answer was lost, which is acknowledged when it is sent again.
//
// A renewal is also refused when the key is unknown: its owner held it just before, or its
// lease lapsed. It is still this owner's, and executes again if a failover loses it.
func (j *journal) lost(k id, event idem.Event, owner idem.Owner) {
	if j == nil {
		return
	}
	sh := &j.shards[k[0]%journalShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.entries[k]
	if e == nil || e.owner != owner || e.resolved || event == idem.EventRenew && (e.holds || e.state == idem.Unknown) {
		return
	}
	e.gone = e.state == idem.InProgress || e.state == idem.Unknown
}

func (j *journal) put(k id, e *entry, now time.Time) {
	sh := &j.shards[k[0]%journalShards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.put(k, e, now.Add(-j.window))
}

// forgetAtOnce bounds what one more entry costs.
const forgetAtOnce = 8

// put has e be the key's state, and forgets what is older than oldest or too much.
func (sh *journalShard) put(k id, e *entry, oldest time.Time) {
	if before := sh.entries[k]; before != nil {
		sh.size -= before.cost()
		if e.purged == 0 {
			e.before, e.beforeOwner = before.purge()
		}
	}
	sh.entries[k] = e
	sh.size += e.cost()
	sh.queue = append(sh.queue, queued{k, e, e.at})
	for looked := min(forgetAtOnce, len(sh.queue)-sh.head-1); looked > 0; looked-- {
		first := sh.queue[sh.head]
		current := sh.entries[first.key] == first.e
		if current && sh.size <= sh.bound && !first.at.Before(oldest) {
			break
		}
		sh.queue[sh.head] = queued{}
		sh.head++
		switch {
		case !current: // it has got another place, or none
		case first.e.at.After(first.at), first.e.state == idem.InProgress && first.e.at.Add(first.e.lease).After(e.at):
			sh.queue = append(sh.queue, queued{first.key, first.e, first.e.at})
		default:
			sh.drop(first.key, first.e)
		}
	}
	if sh.head > 1024 && sh.head > len(sh.queue)/2 {
		sh.queue = append(sh.queue[:0:0], sh.queue[sh.head:]...)
		sh.head = 0
	}
}

func (sh *journalShard) drop(k id, e *entry) {
	sh.size -= e.cost()
	delete(sh.entries, k)
}

// assertion is an entry that is to be asserted.
type assertion struct {
	key id
	entry
}

// assertions are all entries that are not too old at now.
func (j *journal) assertions(now time.Time) (all []assertion) {
	if j == nil {
		return nil
	}
	for i := range j.shards {
		sh := &j.shards[i]
		sh.mu.Lock()
		for k, e := range sh.entries {
			if age := now.Sub(e.at); age > j.window && (e.state != idem.InProgress || age >= e.lease) {
				continue
			}
			if !e.gone {
				all = append(all, assertion{k, *e})
			} else if updated, of := e.purge(); updated > 0 { // that much is known
				all = append(all, assertion{k, *purgeEntry(updated, of, e.at)})
			}
		}
		sh.mu.Unlock()
	}
	return all
}

// args are assert.lua's for a script that runs now, or a moment later: the later,
// the later are the times that it makes of them.
func (e *entry) args(now time.Time) []string {
	owner, flags, hinted, purged, resolved := string(e.owner[:]), "\x00", "\x00", "", ""
	updated, of := e.purge()
	if updated > 0 {
		purged = strconv.FormatInt(updated, 10)
	}
	if e.purged > 0 {
		owner = ""
	}
	if e.holds {
		flags = "\x01"
	}
	if e.hinted {
		hinted = "\x01"
	}
	if e.resolved {
		resolved = "1"
	}
	return []string{
		strconv.Itoa(int(e.state)), owner, e.made, e.keep, strconv.FormatUint(uint64(e.attempt), 10), flags,
		ms(now.Sub(e.at)), ms(e.lease), ms(now.Sub(e.began)), e.tail, e.result, purged, hinted, resolved, of, e.unheard,
	}
}
