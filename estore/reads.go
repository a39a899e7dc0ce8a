package estore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// reads bounds how long somebody waits for a read of the disk: the engine knows no
// timeout, so readers read in the place of those who wait. While a read is late,
// what needs the disk is refused at once (see writes.refusal): a disk that hangs
// keeps no more readers than had begun when the first was late.
//
// Rejected: to read where the call is, and to have somebody look after it. That
// notices a hanging disk, but leaves who met it first waiting for ever. A goroutine
// for each read: ten allocations, and twice the time.
type reads struct {
	idle  chan *reader
	under sync.WaitGroup // the readers
}

// maxIdleReaders is how many readers wait for the next read; further ones are made
// when they are needed, and end after it.
const maxIdleReaders = 64

func newReads() reads { return reads{idle: make(chan *reader, maxIdleReaders)} }

// reader makes one read at a time. Who has taken it from idle alone talks to it.
type reader struct {
	asked    chan id
	answered chan readAnswer // holds one
	timer    *time.Timer
	stage    atomic.Int32 // of the read
}

type readAnswer struct {
	record *idem.Record
	err    error
}

// What a reader and who waits for it tell each other.
const (
	readBegun int32 = iota
	readEnded
	readLeft // nobody waits for it any more
	readLate // nor does anybody, and it is counted as late
)

// read is readSettled, for no longer than the store's timeout and ctx allow.
// Nothing was done if it fails.
func (s *Store) read(ctx context.Context, k id) (*idem.Record, error) {
	r := s.reader()
	r.timer.Reset(s.writes.patience())
	r.asked <- k
	left, why := readLate, errSlow
	select {
	case a := <-r.answered:
		return s.taken(r, a)
	case <-r.timer.C:
		s.writes.late.Add(1)
	case <-ctx.Done():
		left, why = readLeft, ctx.Err()
	}
	if r.stage.CompareAndSwap(readBegun, left) {
		return nil, fmt.Errorf("waiting for the disk: %w", refused(why))
	}
	if left == readLate { // it ended just so
		s.writes.late.Add(-1)
	}
	return s.taken(r, <-r.answered)
}

// taken has the reader ready for the next.
func (s *Store) taken(r *reader, a readAnswer) (*idem.Record, error) {
	r.timer.Stop()
	select {
	case s.reads.idle <- r:
	default:
		close(r.asked)
	}
	return a.record, a.err
}

// reader is one that is idle, or a new one.
func (s *Store) reader() *reader {
	select {
	case r := <-s.reads.idle:
		r.stage.Store(readBegun)
		return r
	default:
	}
	r := &reader{asked: make(chan id, 1), answered: make(chan readAnswer, 1), timer: time.NewTimer(time.Hour)}
	s.reads.under.Go(func() { s.readFor(r) })
	return r
}

// readFor makes reads until the last has been answered, or left.
func (s *Store) readFor(r *reader) {
	for k := range r.asked {
		record, err := s.readSettled(k)
		if !r.stage.CompareAndSwap(readBegun, readEnded) {
			if r.stage.Load() == readLate {
				s.writes.late.Add(-1)
			}
			return
		}
		r.answered <- readAnswer{record, err}
	}
}

// close waits for all reads, without a bound. There are no further ones.
func (r *reads) close() {
	r.endIdle()
	r.under.Wait()
}

func (r *reads) endIdle() {
	for {
		select {
		case idle := <-r.idle:
			close(idle.asked)
		default:
			return
		}
	}
}
