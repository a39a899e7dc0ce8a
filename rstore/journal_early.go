package rstore

import (
	"slices"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// early is what an operator did to an attempt of which the journal does not know yet that it has
// come so far: the answers of a server are read in any order.
type early struct {
	key      id
	event    idem.Event
	lease    idem.Lease
	response []byte
	sent     time.Time
}

// earlyAtMost bounds them: an operator acts rarely, and mostly on other processes' attempts.
const earlyAtMost = 8

// remember keeps what an operator did.
func (sh *journalShard) remember(e early) {
	if !e.event.Resolves() && e.event != idem.EventTake {
		return
	}
	if len(sh.early) == earlyAtMost {
		sh.early = append(sh.early[:0:0], sh.early[1:]...)
	}
	sh.early = append(sh.early, e)
}

// catchUp has the key's entry be what an operator made of it, if that was read before it: by the
// owner's token after a grant, and without one after a hold. The grant or the hold was sent at a
// time; an act that was sent before it was about another attempt.
func (sh *journalShard) catchUp(k id, owner idem.Owner, sent time.Time) {
	known := sh.entries[k]
	for i := 0; known != nil && i < len(sh.early); i++ {
		e := sh.early[i]
		if e.key == k && e.lease.Owner == owner && !e.sent.Before(sent) {
			sh.settle(known, e.event, &e.lease, e.response, e.sent)
			sh.early = append(sh.early[:i:i], sh.early[i+1:]...)
			return
		}
	}
}

// hasEarly says whether something is remembered of an attempt.
func (sh *journalShard) hasEarly(k id, owner idem.Owner) bool {
	return slices.ContainsFunc(sh.early, func(e early) bool { return e.key == k && e.lease.Owner == owner })
}

// hasPurged says whether the entry knows that a record of an owner's was purged, and what it is
// was made after that.
func (e *entry) hasPurged(owner idem.Owner) bool {
	updated, of := e.purge()
	return updated > 0 && of == string(owner[:])
}

// isOf says whether a record with an owner's token was the entry's attempt's.
func (e *entry) isOf(owner string) bool {
	return string(e.owner[:]) == owner || e.resolved && owner == string(make([]byte, len(e.owner)))
}
