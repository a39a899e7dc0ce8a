package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// settler asks backends in the background what became of attempts that are in doubt:
// those of this process, and those that others left behind, which it looks for. So
// nobody has to send a retry, and no operator has to look.
type settler struct {
	server *Server
	every  time.Duration // between two looks at the store; 0: none

	ctx    context.Context //nolint:containedctx // of the work, from start to stop
	cancel context.CancelFunc
	work   sync.WaitGroup
	asking chan struct{} // as many as may ask at a time

	mu   sync.Mutex
	open map[doubtful]struct{} // guarded by mu
}

// doubtful is an attempt at a key.
type doubtful struct {
	key   idem.Key
	owner idem.Owner
}

const (
	// maxOpen bounds what a settler knows of. What is beyond, it finds again in the store.
	maxOpen = 10_000
	// asksAtOnce bounds the questions to backends.
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
	b := &settler{server: s, every: every, asking: make(chan struct{}, asksAtOnce), open: map[doubtful]struct{}{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// start has it look for what others left behind.
func (b *settler) start() {
	if b.every > 0 {
		b.work.Go(b.look)
	}
}

// stop has the work end. What is open stays held in the store.
func (b *settler) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cancel() // nothing is added from now on, so that work can be waited for
}

// unsettled is how many attempts it knows of.
func (b *settler) unsettled() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

// later settles an attempt under all its names.
func (b *settler) later(held *attempts) {
	for _, one := range append(held.earlier, held.first) {
		b.add(doubtful{one.Key(), one.Owner()})
	}
}

func (b *settler) add(d doubtful) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.open[d]; known || len(b.open) >= maxOpen || b.ctx.Err() != nil {
		return
	}
	b.open[d] = struct{}{}
	b.counted(1)
	b.work.Go(func() { b.settle(d) })
}

// counted tells the trace.
func (b *settler) counted(delta int) {
	if f := b.server.config.Trace.Unsettled; f != nil {
		f(delta)
	}
}

// settle tries until the backend has answered, or it is not d's record any more.
func (b *settler) settle(d doubtful) {
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.open, d)
		b.counted(-1)
	}()
	for rest := settleRestFirst; !b.try(d); rest = min(2*rest, settleRestMost) {
		timer := time.NewTimer(rest)
		select {
		case <-timer.C:
		case <-b.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// try says whether nothing is left to do.
func (b *settler) try(d doubtful) (done bool) {
	select {
	case b.asking <- struct{}{}:
		defer func() { <-b.asking }()
	case <-b.ctx.Done():
		return true
	}
	s, live := b.server, b.server.live.Load()
	record, err := s.engine.Get(b.ctx, d.key)
	switch {
	case errors.Is(err, idem.ErrNotFound), err == nil && (record.Owner != d.owner || record.State == idem.Completed):
		return true
	case err != nil, record.State != idem.Unknown: // the store is away, or has not taken the end of the attempt yet
		return false
	}
	rules := live.settling(record.Recipe)
	if rules == nil {
		return true // by another configuration: who has it finds it
	}
	return nil == s.resolve(b.ctx, &record, rules, func(ctx context.Context) (*idem.Response, error) {
		return rules.Receipts.Void(ctx, record.Key, record.Owner)
	})
}

// look finds what is in doubt in the store, from time to time.
func (b *settler) look() {
	for wait := b.server.longestLease() + lookAfter; ; wait = b.every {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-b.ctx.Done():
			timer.Stop()
			return
		}
		b.find()
	}
}

func (b *settler) find() {
	live := b.server.live.Load()
	if !live.settles {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, findWithin)
	defer cancel()
	// An error is no news: requests report what ails the store, and there is a next time.
	_ = b.server.engine.List(ctx, func(r *idem.Record) bool {
		if r.State == idem.Unknown && live.settling(r.Recipe) != nil {
			b.add(doubtful{r.Key.Clone(), r.Owner})
		}
		return true
	})
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
