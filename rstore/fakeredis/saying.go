package fakeredis

import "time"

// Saying is what a server says to a command in place of what it should. The command is not
// executed.
type Saying struct {
	// Text is the reply, as it goes over the wire.
	Text string
	// Late is for how long it is held back.
	Late time.Duration
	// Then is what comes after it.
	Then After
}

// After is what a server does after a Saying.
type After uint8

const (
	// GoesOn answers the next command.
	GoesOn After = iota
	// IsSilent answers nothing more over the connection.
	IsSilent
	// HangsUp ends the connection.
	HangsUp
)

// SayInstead has the server ask say about each command; nil is for what it answers itself. The
// server is not locked meanwhile.
func (s *Server) SayInstead(say func(command []string) *Saying) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instead = say
}

// HangUp ends all connections. The process stays the same.
func (s *Server) HangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangUp()
}

// Conns is how many connections there are.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) saysInstead(command []string) *Saying {
	s.mu.Lock()
	say := s.instead
	s.mu.Unlock()
	if say == nil {
		return nil
	}
	return say(command)
}

// say says it, and whether the connection goes on.
func (c *conn) say(what *Saying) bool {
	if what.Late > 0 {
		timer := time.NewTimer(what.Late)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.ended:
			return false
		}
	}
	if what.Then == HangsUp {
		c.mu.Lock()
		c.last = true
		c.mu.Unlock()
	}
	c.send([]byte(what.Text))
	if what.Then == GoesOn {
		return true
	}
	var one [512]byte
	for { // it takes what comes, and says nothing
		if _, err := c.Read(one[:]); err != nil {
			return false
		}
	}
}
