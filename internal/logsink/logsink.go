// Package logsink writes a log whose reader may stand still. A pipe of which nobody reads takes
// 64 KiB and then holds up who writes: with the log, it would hold up every request of a proxy.
package logsink

import (
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Sink is a writer of whole lines. While they are read, a line is written when Write returns.
// When one has not been written within a second, nobody waits any more: lines are kept, up to a
// bound, and what is more is dropped and counted, until they are read again. It is safe for
// concurrent use.
//
// A ready-made writer of this kind drops the oldest lines, and writes behind the caller's back
// also while all is well: the last lines of a process that dies are lost then.
type Sink struct {
	to      io.Writer
	dropped func(lines int)
	takes   func() bool // a short line can be written without waiting; nil: that cannot be asked
	wake    chan struct{}
	spare   sync.Pool // of *line

	mu      sync.Mutex
	queue   []*line // guarded by mu
	bytes   int     // guarded by mu: of the queue
	lost    int     // guarded by mu: lines since they were read last
	stalled bool    // guarded by mu: nobody waits
	idle    *sync.Cond
	writing bool // guarded by mu
}

type line struct {
	text    []byte
	written chan struct{} // has room for one
}

const (
	// patience is how long somebody waits for a line to be written.
	patience = time.Second
	// room is how many bytes of lines are kept.
	room = 1 << 20
	// largest is how much is written at once.
	largest = 64 << 10
	// short is a line that a pipe takes whole if it takes any (PIPE_BUF of Linux).
	short = 4 << 10
)

// New makes a sink. dropped is told, when lines are read again, how many were not kept meanwhile;
// it may log that. The sink's goroutine lasts as long as the process.
func New(to io.Writer, dropped func(lines int)) *Sink {
	s := &Sink{to: to, dropped: dropped, wake: make(chan struct{}, 1)}
	s.idle = sync.NewCond(&s.mu)
	s.spare.New = func() any { return &line{written: make(chan struct{}, 1)} }
	if f, ok := to.(interface{ Fd() uintptr }); ok {
		fd := int32(f.Fd()) //nolint:gosec // a small number
		s.takes = func() bool { return isWritable(fd) }
	}
	go s.run()
	return s
}

// isWritable says whether a write would not wait: of a pipe, whether it has room for PIPE_BUF
// bytes (poll(2), pipe(7)).
func isWritable(fd int32) bool {
	asked := [1]unix.PollFd{{Fd: fd, Events: unix.POLLOUT}}
	n, err := unix.Poll(asked[:], 0)
	return n == 1 && err == nil && asked[0].Revents == unix.POLLOUT
}

// Write implements io.Writer. It never fails: there is nobody to whom a log could say that it
// cannot be written.
func (s *Sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	if len(p) <= short && !s.writing && len(s.queue) == 0 && s.takes != nil && s.takes() {
		defer s.mu.Unlock()
		_, _ = s.to.Write(p)
		return len(p), nil
	}
	l := s.spare.Get().(*line) //nolint:forcetypeassert // see New
	l.text = append(l.text[:0], p...)
	if s.bytes+len(p) > room {
		s.lost++
		s.mu.Unlock()
		return len(p), nil
	}
	s.queue, s.bytes = append(s.queue, l), s.bytes+len(p)
	waits := !s.stalled
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
	if waits && s.isWritten(l) {
		s.spare.Put(l) // else the goroutine still has it
	}
	return len(p), nil
}

func (s *Sink) isWritten(l *line) bool {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-l.written:
		return true
	case <-late.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled = true
	return false
}

func (s *Sink) run() {
	var text []byte
	for range s.wake {
		for batch := s.take(); len(batch) > 0; batch = s.take() {
			text = text[:0]
			for _, l := range batch {
				text = append(text, l.text...)
			}
			_, _ = s.to.Write(text) // see Write
			for _, l := range batch {
				l.written <- struct{}{}
			}
		}
	}
}

// take is what is written next. If there is nothing, the lines are read again.
func (s *Sink) take() (batch []*line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for n < len(s.queue) && (n == 0 || size+len(s.queue[n].text) <= largest) {
		size += len(s.queue[n].text)
		n++
	}
	batch = append(batch, s.queue[:n]...)
	s.queue, s.bytes, s.writing = append(s.queue[:0], s.queue[n:]...), s.bytes-size, n > 0
	if n > 0 {
		return batch
	}
	s.stalled = false
	if s.lost > 0 {
		go s.dropped(s.lost) // which may write a line
		s.lost = 0
	}
	s.idle.Broadcast()
	return nil
}

// Flush waits until all is written, and no longer than the time.
func (s *Sink) Flush(within time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	over := false
	end := time.AfterFunc(within, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		over = true
		s.idle.Broadcast()
	})
	defer end.Stop()
	for (len(s.queue) > 0 || s.writing) && !over {
		s.idle.Wait()
	}
}
