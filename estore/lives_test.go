package estore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// lives is one directory through the lives of several processes, in a time that passes only
// when all of them wait, so that the reference can say what each call answers to the
// millisecond. known is what the store has, by the domain's own transitions; durable is what it
// has of that on the disk, where a lease starts anew with each process.
type lives struct {
	t              *testing.T
	rand           *rand.Rand
	fs             *vfs.MemFS
	store          *estore.Store
	known, durable map[string]*idem.Record
	story          []string

	skew     time.Duration // of the wall clock
	opened   time.Time
	base     int64         // what the store's clock showed then
	doubt    time.Duration // how much of that is doubted
	sureMost int64         // the latest reading by which something may have been removed
}

const (
	livesSweep = 30 * time.Second
	livesDoubt = 10 * time.Minute
	absence    = time.Hour // by which a start follows the wall clock, at most
)

// marker is a key that is held: it never ends, and shows the store's clock.
const marker = "marker"

// TestP2LivesOfAStore has a store live through random acts of requests and operators, of time,
// of clocks that are set, of orderly ends and of crashes. Whatever it says is what the
// reference says, and its clock goes on from what it has shown.
func TestP2LivesOfAStore(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64N(1 << 40)
	if s, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = s
	}
	n := 15
	if times, err := strconv.Atoi(os.Getenv("HISTORIES")); err == nil {
		n *= times
	} else if testing.Short() {
		n = 4
	}
	acts := 0
	for i := range uint64(n) {
		synctest.Test(t, func(t *testing.T) {
			l := &lives{
				t: t, rand: rand.New(rand.NewPCG(seed+i, 0)), fs: vfs.NewCrashableMem(),
				known: map[string]*idem.Record{}, durable: map[string]*idem.Record{},
			}
			err := l.run(150)
			if acts += len(l.story); err != nil {
				t.Errorf("SEED=%d: %v, after\n%s", seed+i, err, strings.Join(l.story[max(0, len(l.story)-40):], "\n"))
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("figure: SEED=%d, %d lives, %d acts", seed, n, acts)
}

func (l *lives) run(steps int) (err error) {
	if err = l.begin(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.store.Close()) }()
	for range steps {
		switch n := l.rand.IntN(40); {
		case n == 0:
			err = l.restart(false)
		case n == 1:
			err = l.restart(true)
		case n == 2:
			l.tell("flush")
			err = l.store.TryFlush()
		case n < 10:
			l.pass()
		default:
			err = l.ask(strconv.Itoa(l.rand.IntN(3)))
		}
		for name := range l.known {
			err = errors.Join(err, l.compare(name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lives) tell(format string, args ...any) {
	l.story = append(l.story, fmt.Sprintf("%v: ", time.Now().Format("02 15:04:05.000"))+fmt.Sprintf(format, args...))
}

// begin makes the directory, and lives until its clock is on the disk.
func (l *lives) begin() error {
	if err := l.open(0, 0); err != nil {
		return err
	}
	c := l.claim(marker)
	now := l.opened.UnixMilli()
	l.base = now
	record, _ := (*idem.Record)(nil).Acquire(c, now)
	if _, err := l.store.Acquire(context.Background(), c); err != nil {
		return err
	}
	record, err := record.Apply(idem.EventHold, c.Lease(), nil, now)
	if err = errors.Join(err, l.store.Hold(context.Background(), c.Lease())); err != nil {
		return err
	}
	l.known[marker], l.durable[marker] = record, record
	time.Sleep(livesSweep + time.Second)
	return nil
}

// pass lets time pass: mostly little of it.
func (l *lives) pass() {
	d := []time.Duration{time.Millisecond, 700 * time.Millisecond, 20 * time.Second, 3 * time.Minute, 40 * time.Minute}[l.rand.IntN(5)]
	d = d/2 + time.Duration(l.rand.Int64N(int64(d)))
	l.tell("%v pass", d)
	time.Sleep(d)
}

// now is what the store's clock shows.
func (l *lives) now() int64 { return l.base + time.Since(l.opened).Milliseconds() }

// sureAt is the reading by which it removes, and that it saves, so long after it was opened.
func (l *lives) sureAt(passed time.Duration) int64 {
	reading := l.base + passed.Milliseconds()
	if passed < livesDoubt {
		reading -= l.doubt.Milliseconds()
	}
	return reading
}

// restart ends the process, and begins another one with a wall clock that may have been set.
func (l *lives) restart(crash bool) error {
	lived := time.Since(l.opened)
	swept := lived.Truncate(livesSweep)
	if swept == lived { // a sweep is due just now, or was made
		swept -= livesSweep
	}
	least, most := l.sureAt(swept), l.sureAt(lived)
	if swept < livesSweep {
		least = 0 // what the process before has saved, or it
	}
	l.sureMost = max(l.sureMost, most)
	fs, rng := l.fs, rand.New(rand.NewPCG(l.rand.Uint64(), 0))
	if crash {
		fs = l.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: l.rand.IntN(101), RNG: rng})
	} else {
		least = most
	}
	if err := l.store.Close(); err != nil { // which a clone knows nothing of
		return err
	}
	l.fs = fs
	away := []time.Duration{0, time.Second, 10 * time.Minute}[l.rand.IntN(3)]
	set := []time.Duration{0, 0, -2 * time.Hour, 20 * time.Minute, 3 * time.Hour, 1000 * time.Hour}[l.rand.IntN(6)]
	l.tell("crash %v, away for %v, the wall clock is %v ahead; the clock had shown %d, and saved between %d and %d",
		crash, away, set, l.now(), least, most)
	time.Sleep(away)
	if err := l.open(set, least); err != nil {
		return err
	}
	return l.reborn()
}

// open opens the store on the disk, and looks at its clock: at least it goes on from what was
// saved, and it follows the wall clock for an hour.
func (l *lives) open(skew time.Duration, least int64) (err error) {
	l.skew, l.opened = skew, time.Now()
	wall := l.opened.Add(skew)
	config := estore.Config{Dir: "data", SweepEvery: livesSweep, CacheBytes: 1 << 20}
	if l.store, err = estore.New(config.OnFS(l.fs).OnWall(wall, livesDoubt)); err != nil || l.known[marker] == nil {
		return err
	}
	r, err := l.store.Get(context.Background(), l.claim(marker).Key)
	if err != nil {
		return fmt.Errorf("the store's clock: %w", err)
	}
	l.base, l.doubt = r.ReadAt, 0
	ahead := wall.UnixMilli() - l.base
	if ahead > 0 {
		l.doubt = absence
	}
	l.tell("the store's clock shows %d, the wall clock %d", l.base, wall.UnixMilli())
	switch saved := l.base - l.doubt.Milliseconds(); {
	case saved < least && (ahead != 0 || l.base < least):
		return fmt.Errorf("the store's clock goes on from %d, and had shown %d", saved, least)
	case l.base > max(l.sureMost+absence.Milliseconds(), l.sureMost+1):
		return fmt.Errorf("the store's clock shows %d, and had shown %d", l.base, l.sureMost)
	}
	return nil
}

// reborn is what another process finds: leases start anew. What may have been removed, and
// would be there if the clock had gone on, is purged: nobody can say how it stands.
func (l *lives) reborn() error {
	now, before := l.now(), l.known
	l.known = map[string]*idem.Record{}
	for name, r := range l.durable { // what is deleted meanwhile is this one
		again := *r
		if again.State == idem.InProgress {
			again.LeaseUntil = now + r.LeaseUntil - r.Updated
			if again.Expires != 0 {
				again.Expires = again.LeaseUntil + again.Retention
			}
		}
		l.known[name] = &again
		if !l.mayLack(r) && !l.mayLack(before[name]) || again.Ended(now) { // what ended by a doubted clock may come back
			continue
		}
		err := l.store.Purge(context.Background(), l.claim(name).Key)
		l.tell("%s may be gone, and is purged: %v", name, err)
		if err != nil && !errors.Is(err, idem.ErrNotFound) {
			return fmt.Errorf("%s is purged: %w", name, err)
		}
		delete(l.known, name)
		delete(l.durable, name)
	}
	return nil
}

// mayLack says whether a process may have removed the record, or its response.
func (l *lives) mayLack(r *idem.Record) bool {
	ends := r.Expires
	if r.ReplayUntil != 0 {
		ends = r.ReplayUntil
	}
	return ends != 0 && ends <= l.sureMost
}

// at is how a key stands; nil if nothing is known of it any more.
func (l *lives) at(name string) *idem.Record {
	if r := l.known[name]; r != nil && !r.Ended(l.now()) {
		return r
	}
	return nil
}

// claim is by one of three owners, for times from a millisecond to days.
func (l *lives) claim(name string) idem.Claim {
	key, err := idem.ParseKey(name)
	if err != nil {
		l.t.Fatal(err)
	}
	times := []time.Duration{time.Second, time.Minute, 20 * time.Minute, 50 * time.Hour}
	return idem.Claim{
		Key: key, Owner: idem.Owner{byte(1 + l.rand.IntN(3))}, Fingerprint: idem.Fingerprint{byte(l.rand.IntN(6) / 5)},
		TTL: times[l.rand.IntN(3)], Retention: times[l.rand.IntN(len(times))], Remember: []time.Duration{0, time.Hour}[l.rand.IntN(2)],
		HoldOnLapse: l.rand.IntN(3) == 0,
	}
}

// ask has the store do what a request or an operator asks of it.
func (l *lives) ask(name string) error {
	c, now, before := l.claim(name), l.now(), l.at(name)
	ctx := context.Background()
	switch n := l.rand.IntN(12); {
	case n < 5:
		next, want := before.Acquire(c, now)
		l.tell("acquire %s by %d for %v, %v and %v, holds %v: %v", name, c.Owner[0], c.TTL, c.Retention, c.Remember, c.HoldOnLapse, want.Kind)
		got, err := l.store.Acquire(ctx, c)
		l.becomes(name, next, want.Kind != idem.VerdictYours)
		if err != nil || got.Kind != want.Kind || got.Attempt != want.Attempt || got.Remaining != want.Remaining ||
			bodyOf(got.Response) != bodyOf(want.Response) {
			return fmt.Errorf("acquire %s: %+v, %w; want %+v", name, got, err, want)
		}
		return nil
	case n == 5:
		l.tell("purge %s", name)
		err := l.store.Purge(ctx, c.Key)
		if before != nil { // what ended by a doubted clock stays
			delete(l.known, name)
			delete(l.durable, name)
		}
		if free := before == nil || before.StateAt(now) == idem.Lapsed || before.State == idem.Absent; err != nil && !free {
			return fmt.Errorf("purge %s: %w", name, err)
		}
		return nil
	default:
		e := idem.Event(1 + n - 6)
		if n == 11 && l.rand.IntN(2) == 0 {
			e = idem.EventTake
		}
		if e.Resolves() && l.rand.IntN(2) == 0 {
			c.Owner = idem.Owner{}
		}
		return l.end(name, e, c.Lease(), before)
	}
}

func (l *lives) end(name string, e idem.Event, lease idem.Lease, before *idem.Record) error {
	var response *idem.Response
	if e.Resolves() || e == idem.EventTake { // an operator names no times
		lease.Retention, lease.Remember = 0, 0
	}
	if e == idem.EventComplete || e == idem.EventResolveComplete {
		response = &idem.Response{Status: 200, Body: fmt.Appendf(nil, "%s after %d acts", strings.Repeat(name, 1+l.rand.IntN(2)*400), len(l.story))}
	}
	next, want := before.Apply(e, lease, response, l.now())
	l.tell("%v %s by %d, for %v and %v: %v", e, name, lease.Owner[0], lease.Retention, lease.Remember, want)
	got := l.does(e, lease, response)
	l.becomes(name, next, e != idem.EventRenew)
	if !errors.Is(got, want) {
		return fmt.Errorf("%v %s: %w, want %w", e, name, got, want)
	}
	return nil
}

func (l *lives) does(e idem.Event, lease idem.Lease, response *idem.Response) error {
	ctx := context.Background()
	switch e {
	case idem.EventRenew:
		return l.store.Renew(ctx, []idem.Lease{lease})[0]
	case idem.EventComplete:
		return l.store.Complete(ctx, lease, response)
	case idem.EventRelease:
		return l.store.Release(ctx, lease)
	case idem.EventHold:
		return l.store.Hold(ctx, lease)
	case idem.EventTake:
		return l.store.Take(ctx, lease.Key, lease.Owner)
	default:
		return l.store.Resolve(ctx, lease.Key, lease.Owner, response)
	}
}

// becomes has a key stand so, on the disk as well or in memory only.
func (l *lives) becomes(name string, next *idem.Record, durable bool) {
	if next == nil {
		return
	}
	l.known[name] = next
	if durable {
		l.durable[name] = next
	}
}

// compare says how the store's record is another one than the reference's.
func (l *lives) compare(name string) error {
	want, missing := l.at(name).Inspect(l.now())
	got, err := l.store.Get(context.Background(), l.claim(name).Key)
	said := func(r *idem.Record, err error) string {
		if errors.Is(err, idem.ErrNotFound) {
			return "not known"
		}
		if r.State == idem.Expired {
			r.ReplayUntil = 0 // the sweep may have removed it
		}
		return fmt.Sprintf("%v of %d, attempt %d, lease %d, replays until %d, ends %d, response %q, at %d, error %v",
			r.State, r.Owner[0], r.Attempt, r.LeaseUntil, r.ReplayUntil, r.Expires, bodyOf(r.Response), r.ReadAt, err)
	}
	if got, want := said(&got, err), said(&want, missing); got != want {
		return fmt.Errorf("%s is %.300s; want %.300s", name, got, want)
	}
	return nil
}

func bodyOf(r *idem.Response) string {
	if r == nil {
		return ""
	}
	return string(r.Body)
}
