package fakeredis

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"strings"
	"sync"
	"time"
)

// Server is one Redis. Make it with New.
type Server struct {
	commands map[string]*command

	mu       sync.Mutex // one command at a time, and all of the following
	clock    func() time.Time
	now      int64 // what the clock showed when the command began, in microseconds
	db       map[string]*entry
	pass     *time.Timer // the next one that looks for what has expired; nil: none
	passAt   int64       // when that is, in milliseconds of the clock
	lua      *interpreter
	tracked  map[string]map[*conn]struct{} // who has read a key
	conns    map[*conn]struct{}
	lastID   int64
	current  *conn // whose command runs; nil: nobody's
	runID    string
	replID   string
	readOnly bool
	full     bool
	instead  func(command []string) *Saying // nil: it says what it should
	closed   bool
	serving  sync.WaitGroup
}

var errClosed = errors.New("fakeredis: the server is closed")

// New makes an empty server.
func New() *Server {
	s := &Server{
		commands: commands(), clock: time.Now, db: map[string]*entry{},
		tracked: map[string]map[*conn]struct{}{}, conns: map[*conn]struct{}{}, runID: newID(), replID: newID(),
	}
	s.lua = newInterpreter(s)
	return s
}

// newID is one like those of Redis: 40 characters.
func newID() string { return strings.ToLower((rand.Text() + rand.Text())[:40]) }

// Dial makes a connection to the server, as package net's dialers do.
func (s *Server) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err //nolint:wrapcheck // as a dialer's
	}
	near, far := net.Pipe()
	c, err := s.enter(far)
	if err != nil {
		return nil, err
	}
	go c.serve()
	return near, nil
}

// Serve answers what comes over a connection until it ends.
func (s *Server) Serve(nc net.Conn) {
	c, err := s.enter(nc)
	if err != nil {
		_ = nc.Close()
		return
	}
	c.serve()
}

func (s *Server) enter(nc net.Conn) (*conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	s.lastID++
	c := &conn{Conn: nc, server: s, id: s.lastID, proto: 2, ended: make(chan struct{}), wake: make(chan struct{}, 1)}
	s.conns[c] = struct{}{}
	s.serving.Add(1)
	return c, nil
}

// leave forgets a connection that has ended.
func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	for name, readers := range s.tracked {
		if delete(readers, c); len(readers) == 0 {
			delete(s.tracked, name)
		}
	}
	s.serving.Done()
}

// Close ends all connections and awaits their goroutines. The server takes no more.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	if s.pass != nil {
		s.pass.Stop()
	}
	s.hangUp()
	s.mu.Unlock()
	s.serving.Wait()
}

// hangUp ends all connections; s.mu is held.
func (s *Server) hangUp() {
	for c := range s.conns {
		c.hangUp()
	}
}

// SetClock has the server's clock show what now says, which must not call the server.
func (s *Server) SetClock(now func() time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = now
	s.rearm()
}

// Shift sets the server's clock forward by d, or back.
func (s *Server) Shift(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.clock
	s.clock = func() time.Time { return before().Add(d) }
	s.rearm()
}

// ScriptFlush has the server forget all scripts.
func (s *Server) ScriptFlush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lua.forget()
}

// FlushAll deletes everything, as an operator would, and tells who listens.
func (s *Server) FlushAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
}

// Restart ends all connections. The process that comes up then has another identity, and no
// scripts; and no data, unless they were kept.
func (s *Server) Restart(keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangUp()
	clear(s.tracked)
	s.lua.forget()
	s.runID, s.replID = newID(), newID()
	if !keep {
		clear(s.db)
	}
}

// SetReadOnly has the server be a replica, which takes no writes, or a primary again.
func (s *Server) SetReadOnly(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readOnly && !is {
		s.replID = newID() // as after a promotion
	}
	s.readOnly = is
}

// SetOOM has the server be full: it refuses what takes more memory.
func (s *Server) SetOOM(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = is
}

// tick reads the clock, which stands still for the length of a command; s.mu is held.
func (s *Server) tick() { s.now = s.clock().UnixMicro() }

// ms is the clock in milliseconds; s.mu is held.
func (s *Server) ms() int64 { return s.now / 1000 }
