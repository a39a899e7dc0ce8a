package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// settler asks backends in the background what became of attempts that are in doubt:
// those of this process, and those that others left behind, which it looks for. So
// nobody has to send a retry, and no operator has to look.
type settler struct {
	server *Server
	every  time.Duration // between two looks at the store; 0: none

	ctx     context.Context //nolint:containedctx // of the work, from start to stop
	cancel  context.CancelFunc
	work    sync.WaitGroup
	reading chan struct{} // as many records are read at a time
	again   chan struct{} // has one look made before its time
	open    doubts
}

// doubtful is an attempt at a key.
type doubtful struct {
	key   idem.Key
	owner idem.Owner
}

const (
	// maxOpen bounds what a settler knows of. What is beyond, it finds again in the store.
	maxOpen = 10_000
	// asksAtOnce bounds the questions to one endpoint: one that is silent must not keep
	// what is for others.
	asksAtOnce = 16
	// Between two tries of settling one.
	settleRestFirst, settleRestMost = 200 * time.Millisecond, 30 * time.Second
	// lookAfter is how long after a start the first look is, beyond the lease of what a
	// process that died has left.
	lookAfter = time.Second
	// findWithin bounds one look.
	findWithin = 10 * time.Minute
)

func newSettler(s *Server, every time.Duration) *settler {
	b := &settler{
		server: s, every: every, reading: make(chan struct{}, asksAtOnce), again: make(chan struct{}, 1),
		open: doubts{most: maxOpen, all: map[doubtful]*Doubt{}},
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// start has it look for what others left behind.
func (b *settler) start() {
	if b.every > 0 {
		b.work.Go(b.look)
	}
}

// stop has the work end. What is open stays held in the store, and is told of once
// nothing is added any more: see left.
func (b *settler) stop() {
	b.open.stop() // no work is begun from now on, so that it can be waited for
	b.cancel()
}

// left tells of what is held in the store and nobody asks about any more.
func (b *settler) left() {
	if n := b.open.leave(); n > 0 {
		b.tellLeft(n, true)
	}
}

func (b *settler) tellLeft(n int, atEnd bool) {
	if f := b.server.config.Trace.Left; f != nil {
		f(n, atEnd)
	}
}

func (b *settler) tellFull(full bool) {
	if f := b.server.config.Trace.SettlerFull; f != nil {
		f(full)
	}
}

// later settles an attempt under all its names.
func (b *settler) later(held *attempts) {
	for _, one := range append(held.earlier, held.first) {
		b.add(doubtful{one.Key(), one.Owner()})
	}
}

func (b *settler) add(d doubtful) {
	begin := func() {
		b.counted(1)
		b.work.Go(func() { b.settle(d) })
	}
	switch b.open.add(d, begin) {
	case known, tooLate, entered:
	case firstTurned:
		b.tellFull(true)
		b.tellLeft(1, false)
	case turnedAway:
		b.tellLeft(1, false)
	case afterAll:
		b.tellLeft(1, true)
	}
}

// counted tells the trace.
func (b *settler) counted(delta int) {
	if f := b.server.config.Trace.Unsettled; f != nil {
		f(delta)
	}
}

// settle tries until the backend has answered, or it is not d's record any more. What is
// not settled when the server ends stays among the open ones.
func (b *settler) settle(d doubtful) {
	for rest := settleRestFirst; ; rest = min(2*rest, settleRestMost) {
		done, err := b.try(d)
		if done {
			break
		}
		b.open.asked(d, err)
		timer := time.NewTimer(rest)
		select {
		case <-timer.C:
		case <-b.ctx.Done():
			timer.Stop()
			return
		}
	}
	b.counted(-1)
	if !b.open.remove(d) {
		return
	}
	b.tellFull(false)
	select {
	case b.again <- struct{}{}: // what was turned away is in the store
	default:
	}
}

// take waits for one of the places; false: the server ends.
func (b *settler) take(places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-b.ctx.Done():
		return false
	}
}

// get reads the record of an attempt. ours is false if there is nothing left to do.
func (b *settler) get(d doubtful) (record idem.Record, ours bool, err error) {
	if !b.take(b.reading) {
		return record, true, b.ctx.Err() //nolint:wrapcheck // nobody reads it
	}
	defer func() { <-b.reading }()
	record, err = b.server.engine.Get(b.ctx, d.key)
	switch {
	case errors.Is(err, idem.ErrNotFound), err == nil && (record.Owner != d.owner || record.State == idem.Completed):
		return record, false, nil
	case err != nil:
		return record, true, fmt.Errorf("the store: %w", err)
	case record.State != idem.Unknown:
		return record, true, errNotEnded
	}
	return record, true, nil
}

// errNotEnded: the store has not taken the end of the attempt yet.
var errNotEnded = errors.New("the store has not taken yet that the attempt is over")

// try says whether nothing is left to do, and else why the attempt is not settled.
func (b *settler) try(d doubtful) (done bool, err error) {
	s := b.server
	record, ours, err := b.get(d)
	if !ours || err != nil {
		return !ours, err
	}
	rules := s.live.Load().settling(record.Recipe)
	if rules == nil {
		return true, nil // by another configuration: who has it finds it
	}
	failpoint.Reach("doubt-read")
	places := s.endpoints.of(rules.Receipts.URL()).asking
	if !b.take(places) {
		return false, b.ctx.Err() //nolint:wrapcheck // nobody reads it
	}
	defer func() { <-places }()
	err = s.resolve(b.ctx, &record, rules, func(ctx context.Context) (*idem.Response, error) {
		return s.void(ctx, rules, record.Key, record.Owner)
	})
	return err == nil, err
}

// look finds what is in doubt in the store, from time to time.
func (b *settler) look() {
	failed := false
	for wait := b.server.longestLease() + lookAfter; ; wait = spread(b.every) {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-b.again:
			timer.Stop()
		case <-b.ctx.Done():
			timer.Stop()
			return
		}
		if !b.server.live.Load().settles {
			continue
		}
		begun := time.Now()
		found, err := b.find()
		if b.ctx.Err() != nil {
			return
		}
		if f := b.server.config.Trace.Looked; f != nil {
			f(found, time.Since(begun), err, failed != (err != nil))
		}
		failed = err != nil
	}
}

// spread is d, a quarter more or less, so that proxies that were started together do not
// read the whole store together.
func spread(d time.Duration) time.Duration {
	return d - d/4 + rand.N(d/2+1) //nolint:gosec // nobody is to be surprised by it
}

// find counts what it finds.
func (b *settler) find() (found int, err error) {
	live := b.server.live.Load()
	ctx, cancel := context.WithTimeout(b.ctx, findWithin)
	defer cancel()
	err = b.server.engine.List(ctx, func(r *idem.Record) bool {
		if r.State == idem.Unknown && live.settling(r.Recipe) != nil {
			found++
			b.add(doubtful{r.Key.Clone(), r.Owner})
		}
		return true
	})
	return found, err
}

// settling are the rules that settle a record; nil if none do.
func (l *live) settling(name idem.Recipe) *Rules {
	c := l.recipes.Find(l.own, name)
	if c == nil || c.Receipts == "" {
		return nil
	}
	for _, rules := range l.routes.all() {
		if rules.receiptsName() == c.Receipts {
			return rules
		}
	}
	return nil
}

// longestLease is the longest of the routes'.
func (s *Server) longestLease() (longest time.Duration) {
	for _, rules := range s.live.Load().routes.all() {
		longest = max(longest, rules.Policy.TTL)
	}
	return longest
}
