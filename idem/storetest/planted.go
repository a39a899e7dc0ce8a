package storetest

import (
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// Bug is a promise that a store made by [NewPlanted] breaks.
type Bug uint8

// The planted bugs.
const (
	NoBug                  Bug = iota
	BugCompleteByAnyone        // complete does not look at the owner token
	BugReleaseByAnyone         // release does not look at the owner token
	BugIgnoresPayload          // another payload gets the first one's response
	BugIgnoresIdentity         // another caller gets the first one's response
	BugNeverLapses             // a dead proxy's lease stays for ever
	BugForgetsOwner            // a repeated acquire does not recognise itself
	BugSharesBytes             // keeps the caller's slices
	BugSilentAfterClose        // calls after Close succeed
	BugUnknownRunsAgain        // a held key is given out
	BugReleaseForgetsCount     // attempts start again from 1
	BugCompleteUnretained      // a completed record has no retention
	BugHeldEnds                // what is held is forgotten after the retention
	BugIgnoresRecipe           // hashes of two recipes are compared
	BugForgetsExpired          // nothing is remembered after the retention
	BugResolveUnretained       // a resolved key is kept for another time than its claim said
	BugResolveOfAnyone         // resolve does not look at the owner token that it is given
	lastBug
)

// Bugs lists them.
func Bugs() []Bug {
	var bugs []Bug
	for b := NoBug + 1; b < lastBug; b++ {
		bugs = append(bugs, b)
	}
	return bugs
}

// NewPlanted is the reference store with one bug.
func NewPlanted(b Bug) *Memory {
	m := NewMemory()
	m.bug = b
	return m
}

func (b Bug) claim(c idem.Claim, current *idem.Record) idem.Claim {
	if b == BugNeverLapses {
		c.TTL *= 1000
	}
	if current == nil {
		return c
	}
	switch b {
	case BugIgnoresPayload:
		c.Fingerprint = current.Fingerprint
	case BugIgnoresIdentity:
		c.Binding = current.Binding
	case BugIgnoresRecipe:
		c.Recipe = current.Recipe
	case BugForgetsOwner:
		c.Owner = idem.NewOwner()
	case BugUnknownRunsAgain:
		if current.State == idem.Unknown {
			current.State = idem.Absent
		}
	default:
	}
	return c
}

func (b Bug) lease(l idem.Lease, e idem.Event, current *idem.Record) idem.Lease {
	if current == nil {
		return l
	}
	if b == BugResolveUnretained && e == idem.EventResolveComplete {
		l.Retention = time.Hour
	}
	if b == BugCompleteByAnyone && e == idem.EventComplete ||
		b == BugReleaseByAnyone && e == idem.EventRelease || b == BugResolveOfAnyone && e.Resolves() {
		l.Owner = current.Owner
	}
	return l
}

func (b Bug) record(r *idem.Record, e idem.Event) *idem.Record {
	switch {
	case b == BugReleaseForgetsCount && e == idem.EventRelease:
		r.Attempt = 0
	case b == BugCompleteUnretained && e == idem.EventComplete:
		r.Expires = r.Updated
	case b == BugHeldEnds && r.Expires == 0:
		r.Expires = r.Updated + r.Retention
	case b == BugForgetsExpired && r.State == idem.Completed:
		r.Expires = r.ReplayUntil
	}
	return r
}

func (b Bug) closed(err error) error {
	if b == BugSilentAfterClose {
		return nil
	}
	return err
}
