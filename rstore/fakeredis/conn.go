package fakeredis

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"time"
)

// conn is a client's connection. One goroutine reads and runs its commands, another writes
// what they answer, and what others' commands have to tell it: a client that does not read
// holds up nobody else.
type conn struct {
	net.Conn

	server   *Server
	id       int64
	proto    int // of the protocol; guarded by server.mu, like the following
	tracking bool
	noLoop   bool
	deferred []byte // what is to be told after the reply

	once  sync.Once
	ended chan struct{} // closed once no more can be read
	wake  chan struct{} // of size 1: there is something to write

	mu  sync.Mutex
	out []byte // to be written; guarded by mu
	// last: the connection ends when out is written. Guarded by mu.
	last bool
}

// serve answers until the connection ends.
func (c *conn) serve() {
	var writing sync.WaitGroup
	writing.Go(c.write)
	r := bufio.NewReader(c.Conn)
	for {
		args, err := readCommand(r)
		if err != nil {
			break
		}
		if len(args) == 0 {
			continue
		}
		if said := c.server.saysInstead(args); said != nil {
			if !c.say(said) {
				break
			}
			continue
		}
		if wait := c.server.handle(c, args); wait > 0 {
			c.answerLater(wait)
		}
	}
	c.hangUp()
	writing.Wait()
	c.server.leave(c)
}

// answerLater is for a WAIT for replicas, of which there is none.
func (c *conn) answerLater(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		c.send([]byte(":0\r\n"))
	case <-c.ended:
	}
}

func (c *conn) hangUp() {
	c.once.Do(func() {
		close(c.ended)
		_ = c.Close()
	})
}

// send has b be written. It does not wait for that.
func (c *conn) send(b []byte) {
	c.mu.Lock()
	c.out = append(c.out, b...)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *conn) write() {
	for {
		select {
		case <-c.wake:
		case <-c.ended:
			return
		}
		c.mu.Lock()
		b, last := c.out, c.last
		c.out = nil
		c.mu.Unlock()
		if _, err := c.Write(b); err != nil || last {
			c.hangUp()
			return
		}
	}
}

// handle runs a client's command, and has its reply sent: at once, or by the caller after
// the time that it returns.
func (s *Server) handle(c *conn, args []string) (wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	s.current = c
	name := strings.ToLower(args[0])
	reply := s.run(&call{server: s, client: c, name: name, said: args[0], args: args[1:]})
	s.current = nil
	if later, ok := reply.(time.Duration); ok {
		return later
	}
	c.send(append(appendReply(nil, reply, c.proto), c.deferred...))
	c.deferred = nil
	if name == "quit" {
		defer c.hangUp()
	}
	return 0
}
