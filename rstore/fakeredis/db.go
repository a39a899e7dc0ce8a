package fakeredis

import (
	"maps"
	"slices"
	"time"
)

// entry is what a key has: a string, or a hash.
type entry struct {
	text    string
	hash    map[string]string // nil: a string
	expires int64             // after this millisecond of the clock; 0: never
}

// look is a key's entry, unless it has expired.
func (s *Server) look(key string) *entry {
	e := s.db[key]
	if e != nil && s.over(e) {
		s.remove(key)
		return nil
	}
	return e
}

func (s *Server) over(e *entry) bool { return e.expires != 0 && s.ms() > e.expires }

// put has a key have an entry.
func (s *Server) put(key string, e *entry) {
	s.db[key] = e
	s.changed(key)
	s.expect(e.expires)
}

// remove deletes a key that is there.
func (s *Server) remove(key string) {
	delete(s.db, key)
	s.changed(key)
}

// flush deletes all keys.
func (s *Server) flush() {
	clear(s.db)
	s.tellAll()
}

// passEvery is how often keys are looked for that have expired, in milliseconds: Redis does
// that ten times a second.
const passEvery = 100

// expect has a pass come after something expires.
func (s *Server) expect(expires int64) {
	if expires == 0 || s.closed || s.pass != nil && s.passAt <= expires {
		return
	}
	if s.pass != nil {
		s.pass.Stop()
	}
	now := s.clock().UnixMilli()
	s.passAt = (max(expires, now)/passEvery + 1) * passEvery
	s.pass = time.AfterFunc(time.Duration(s.passAt-now)*time.Millisecond, s.expire)
}

// rearm is for a clock that was set.
func (s *Server) rearm() {
	if s.pass != nil {
		s.pass.Stop()
		s.pass = nil
	}
	for _, e := range s.db {
		s.expect(e.expires)
	}
}

// expire is a pass: it deletes what has expired, and has the next one come.
func (s *Server) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.tick()
	for _, key := range slices.Sorted(maps.Keys(s.db)) { // one order, so that a run can be repeated
		s.look(key)
	}
	s.rearm()
}
