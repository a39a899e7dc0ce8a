package rstore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// told is an act on one key: it is sent, done by the server, and its answer is read, which
// other acts may come between.
type told struct {
	what   string
	sent   time.Time
	done   bool
	passed int    // how many acts the server has done since
	server func() // what it does there
	read   func() // what the journal hears of it
}

// lone is a server's state of one key that a single process asks for.
type lone struct {
	state           idem.State
	there, resolved bool
	owner           idem.Owner
	attempt         uint32
	updated         int64
	purged          int64 // when the latest record that was purged was last updated
}

// orders makes up acts.
type orders struct {
	rand   *rand.Rand
	j      *journal
	server lone
	owners []idem.Owner // whose grants were read
	seen   []idem.Owner // who stood in the record at some time
	ending map[idem.Owner]bool
	text   []string
}

func orderKey(t *testing.T) idem.Key {
	t.Helper()
	key, err := idem.ParseKey("0123456789abcdef0123456789abcdef0123")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// act draws one.
func (o *orders) act(t *testing.T) *told {
	t.Helper()
	lease := idem.Lease{Key: orderKey(t), TTL: time.Hour, Retention: time.Hour}
	a := &told{sent: time.Now()}
	events := []idem.Event{idem.EventRenew, idem.EventComplete, idem.EventRelease, idem.EventHold}
	switch n := o.rand.IntN(10); {
	case n < 3 || len(o.seen) == 0:
		return o.acquires(t, a)
	case n < 6:
		return o.purges(a)
	case n < 8 && len(o.owners) > 0:
		if lease.Owner = o.owners[len(o.owners)-1]; o.ending[lease.Owner] { // an attempt ends once
			events = events[:1]
		}
	default: // an operator who has looked, or not
		events = []idem.Event{idem.EventResolveComplete, idem.EventResolveRetry, idem.EventTake}
		lease.Owner = o.seen[len(o.seen)-1]
		if o.rand.IntN(3) == 0 {
			events, lease.Owner = events[:2], idem.Owner{}
		}
	}
	return o.settles(a, events[o.rand.IntN(len(events))], lease)
}

func (o *orders) acquires(t *testing.T, a *told) *told {
	t.Helper()
	c := idem.Claim{Key: orderKey(t), Owner: idem.NewOwner(), TTL: time.Hour, Retention: time.Hour, HoldOnLapse: o.rand.IntN(2) == 0}
	args, err := acquireArgs(&c, 0)
	if err != nil {
		t.Fatal(err)
	}
	granted, attempt := false, uint32(0)
	a.what = "acquire by " + short(c.Owner)
	a.server = func() {
		s := &o.server
		if granted = !s.there || s.state == idem.Absent; granted {
			*s = lone{
				state: idem.InProgress, there: true, owner: c.Owner, attempt: s.attempt + 1,
				updated: time.Now().UnixMilli(), purged: s.purged,
			}
			o.seen, attempt = append(o.seen, c.Owner), s.attempt
		}
	}
	a.read = func() {
		if granted {
			o.owners = append(o.owners, c.Owner)
			o.j.granted(id{}, &c, args[0], attempt, a.sent)
		}
	}
	return a
}

func (o *orders) purges(a *told) *told {
	var p purged
	a.what = "purge"
	a.server = func() {
		if s := &o.server; s.there {
			p = purged{keys: 1, updated: s.updated, owner: string(s.owner[:])}
			if s.resolved {
				p.owner = string(make([]byte, 16))
			}
			*s = lone{purged: s.updated}
		}
	}
	a.read = func() { o.j.purged(id{}, p, a.sent) }
	return a
}

func (o *orders) settles(a *told, event idem.Event, l idem.Lease) *told {
	verdict := idem.VerdictLost
	ends := event == idem.EventComplete || event == idem.EventRelease || event == idem.EventHold
	if ends {
		o.ending[l.Owner] = true
	}
	a.what = fmt.Sprintf("%v by %s", event, short(l.Owner))
	a.server = func() {
		s := &o.server
		who := idem.Stranger
		if s.there && !s.resolved && s.owner == l.Owner || event.Resolves() && l.Owner == (idem.Owner{}) {
			who = idem.Holder
		}
		to, said := idem.Next(s.state, event, who, idem.SamePayload)
		if verdict = said; verdict == idem.VerdictOK {
			changed := to != s.state || event == idem.EventRenew
			if s.state = to; changed {
				s.resolved, s.updated = event.Resolves(), time.Now().UnixMilli()
			}
		}
	}
	a.read = func() {
		switch verdict {
		case idem.VerdictOK:
			o.j.settled(id{}, event, &l, nil, a.sent)
		case idem.VerdictLost:
			if event != idem.EventTake {
				o.j.lost(id{}, event, l.Owner)
			}
		default:
		}
	}
	return a
}

func short(owner idem.Owner) string { return fmt.Sprintf("%x", owner[:2]) }

// differs is how what the journal would assert differs from what the server has.
func (o *orders) differs() string {
	all := o.j.assertions(time.Now())
	if len(all) == 0 {
		if o.server.there && o.server.state != idem.Absent || o.server.purged > 0 {
			return "nothing is known"
		}
		return ""
	}
	e := all[0].entry
	updated, _ := e.purge()
	for i := 0; i < len(e.unheard); i += 16 {
		if e.unheard[i:i+16] == string(o.server.owner[:]) && o.server.there {
			return "that whose record stands was purged"
		}
	}
	switch {
	case updated != o.server.purged:
		return fmt.Sprintf("a purge of %d, want of %d", updated, o.server.purged)
	case e.purged > 0 && o.server.there && o.server.state != idem.Absent:
		return "a purge"
	case e.state == idem.Absent && (!o.server.there || o.server.state == idem.Absent): // free, whoever's
	case e.purged == 0 && !o.server.there:
		return fmt.Sprintf("%v of %s", e.state, short(e.owner))
	case e.purged == 0 && (e.state != o.server.state || e.owner != o.server.owner || e.resolved != o.server.resolved):
		return fmt.Sprintf("%v of %s (resolved %v)", e.state, short(e.owner), e.resolved)
	}
	return ""
}

// overtaken is how many acts a server does at most until an answer is read.
const overtaken = 2

// play has some acts be under way at a time.
func (o *orders) play(t *testing.T) {
	t.Helper()
	var under []*told
	for left := 4 + o.rand.IntN(8); left > 0 || len(under) > 0; {
		time.Sleep(time.Millisecond)
		n := o.rand.IntN(3)
		if left > 0 && (len(under) == 0 || n == 0 && len(under) < 4) {
			a := o.act(t)
			under, left = append(under, a), left-1
			o.text = append(o.text, "sent: "+a.what)
			continue
		}
		i := o.rand.IntN(len(under))
		for k, one := range under {
			if one.passed == overtaken {
				i = k
			}
		}
		a := under[i]
		if !a.done {
			for _, first := range under { // a connection keeps the order in which it was sent to
				if !first.done {
					a = first
					break
				}
			}
			for _, other := range under {
				if other.done {
					other.passed++
				}
			}
			a.server()
			a.done = true
			o.text = append(o.text, "done: "+a.what)
			continue
		}
		a.read()
		under = append(under[:i], under[i+1:]...)
		o.text = append(o.text, "read: "+a.what)
	}
}

// What one server answers to one process is read in any order. Whatever that is, the journal
// knows in the end what the server has, and what was purged before.
func TestAnswersThatAreReadInAnyOrder(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64N(1 << 40)
	if given, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = given
	}
	for i := range uint64(5000) {
		synctest.Test(t, func(t *testing.T) {
			o := &orders{rand: rand.New(rand.NewPCG(seed+i, 0)), j: newJournal(time.Hour, 1<<20), ending: map[idem.Owner]bool{}}
			o.play(t)
			if wrong := o.differs(); wrong != "" {
				t.Errorf("SEED=%d: the journal has %s, and the server %v of %s (resolved %v)", seed+i, wrong,
					o.server.state, short(o.server.owner), o.server.resolved)
				for _, line := range o.text {
					t.Log(line)
				}
			}
		})
		if t.Failed() {
			return
		}
	}
}
