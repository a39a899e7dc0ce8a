package idem

import (
	"context"
	"errors"
	"sync"
	"time"
)

// settler offers the endings that the store could not take again, until it
// takes them or proves the lease lost: a response that the backend gave is not
// forgotten because Redis was away for a moment. One goroutine, which sleeps
// while there is nothing to do.
type settler struct {
	engine *Engine
	limit  int64
	wake   chan struct{}
	stop   chan struct{}
	done   chan struct{}

	mu      sync.Mutex
	pending []*ending // guarded by mu; oldest first
	bytes   int64     // guarded by mu
	closed  bool      // guarded by mu; nobody looks at pending any more
}

// orphanShare is which part of the room the releases of leases that were perhaps
// never granted may take: an outage makes one of each refused request, and they
// must not push out responses. One that is left out lapses by itself.
const orphanShare = 8

const (
	settleFirst = 100 * time.Millisecond
	settleMax   = time.Second
)

func newSettler(e *Engine, limit int64) *settler {
	s := &settler{
		engine: e, limit: limit,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go s.run()
	return s
}

// offer takes an ending over, or drops it if there is no room.
func (s *settler) offer(e *ending) {
	s.mu.Lock()
	limit := s.limit
	if e.orphan {
		limit /= orphanShare
	}
	fits := !s.closed && s.bytes+e.size() <= limit
	if fits {
		s.pending = append(s.pending, e)
		s.bytes += e.size()
	}
	s.mu.Unlock()
	if !fits {
		s.engine.dropped(e, errPendingFull)
		return
	}
	if s.engine.trace.Deferred != nil && !e.orphan {
		s.engine.trace.Deferred(e.attempt.lease.Key, e.event)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *settler) run() {
	defer close(s.done)
	delay := settleFirst
	for {
		if s.empty() {
			select {
			case <-s.stop:
				return
			case <-s.wake:
				delay = settleFirst
			}
		}
		select {
		case <-s.stop:
			return
		case <-time.After(delay):
		}
		s.pass()
		delay = min(2*delay, settleMax)
	}
}

// pass offers what is pending in order and stops at the first that the store
// cannot take: the rest would only wait for the same time-out.
func (s *settler) pass() {
	for {
		s.mu.Lock()
		if len(s.pending) == 0 {
			s.mu.Unlock()
			return
		}
		e := s.pending[0]
		s.mu.Unlock()

		err := s.engine.settle(e)
		if errors.Is(err, ErrUnavailable) {
			return
		}
		if err != nil && e.event != EventRelease { // what is not ours needs no release
			s.engine.dropped(e, err)
		}
		s.mu.Lock()
		s.pending[0] = nil
		s.pending = s.pending[1:]
		s.bytes -= e.size()
		s.mu.Unlock()
	}
}

func (s *settler) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) == 0
}

func (s *settler) close(ctx context.Context) {
	close(s.stop)
	<-s.done
	for s.pass(); !s.empty() && ctx.Err() == nil; s.pass() {
		select {
		case <-ctx.Done():
		case <-time.After(settleFirst):
		}
	}
	s.dropAll(ctx.Err())
}

// dropAll reports what is left, and what is offered from now on is dropped.
func (s *settler) dropAll(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.pending {
		s.engine.dropped(e, err)
	}
	s.pending, s.bytes, s.closed = nil, 0, true
}
