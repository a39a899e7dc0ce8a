package fakeredis

import "fmt"

// remember writes down that a connection has read keys, and is to be told when they change.
func (s *Server) remember(c *conn, keys []string) {
	if c == nil || !c.tracking {
		return
	}
	for _, key := range keys {
		if s.tracked[key] == nil {
			s.tracked[key] = map[*conn]struct{}{}
		}
		s.tracked[key][c] = struct{}{}
	}
}

// changed tells who has read a key. They are told once: whoever wants to hear of the next
// change has to read it again. That holds for the one who made the change, too, whom
// NOLOOP has not be told.
func (s *Server) changed(key string) {
	readers := s.tracked[key]
	delete(s.tracked, key)
	for c := range readers {
		if c != s.current || !c.noLoop {
			c.push(fmt.Sprintf("*1\r\n$%d\r\n%s\r\n", len(key), key))
		}
	}
}

// tellAll pushes to all that every key has changed.
func (s *Server) tellAll() {
	clear(s.tracked)
	for c := range s.conns {
		c.push("_\r\n")
	}
}

// push tells which keys are to be forgotten: now, or after the reply to this one's command.
func (c *conn) push(keys string) {
	if !c.tracking || c.proto != 3 {
		return
	}
	b := []byte(">2\r\n$10\r\ninvalidate\r\n" + keys)
	if c == c.server.current {
		c.deferred = append(c.deferred, b...)
	} else {
		c.send(b)
	}
}
