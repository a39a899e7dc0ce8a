package sim_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// network carries bytes between the processes of a simulation. What one end writes is in
// flight until the simulation delivers it. Ends are named by process; the names of its
// connections are the same in each run.
//
// How long something flies is made of the seed, the connection and the time, and not drawn
// one after the other: so what one run does in another number of steps (a client library may
// write twice what it wrote once) does not move everything that comes later.
type network struct {
	seed      uint64
	mu        sync.Mutex
	listeners map[string]*listener // by process; guarded by mu
	flows     []*flow              // guarded by mu; those of closed connections are left out
	serial    map[string]int       // guarded by mu
	bad       map[string]weather   // of a link, if it is not fair; guarded by mu
	news      chan struct{}        // holds one: something is in flight
}

// weather is what is wrong with a link between two processes.
type weather uint8

const (
	fair   weather = iota
	down           // connections are refused, and those that were there are reset
	silent         // packets stay in flight
)

func newNetwork(seed uint64) *network {
	return &network{
		seed:      seed,
		listeners: map[string]*listener{}, serial: map[string]int{}, bad: map[string]weather{},
		news: make(chan struct{}, 1),
	}
}

// flow is one direction of a connection.
type flow struct {
	n        *network
	name     string
	link     string
	flying   []byte        // written, and not delivered; guarded by n.mu, as all below
	due      time.Time     // when flying is delivered
	closing  bool          // the writer has closed: that flies behind flying
	ready    []byte        // delivered, and not read
	end      error         // what the reader gets behind ready
	unread   bool          // the reader has closed
	wake     chan struct{} // is closed when something changes
	deadline time.Time     // of the reader
}

func (f *flow) changed() {
	close(f.wake)
	f.wake = make(chan struct{})
}

// deliverable says that a step can deliver something. n.mu is held.
func (f *flow) deliverable() bool {
	return (len(f.flying) > 0 || f.closing && f.end == nil) && f.n.bad[f.link] == fair
}

// chance is a number for something that happens now. n.mu is held.
func (n *network) chance(what string) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, n.seed, what, time.Now().UnixNano())
	return rand.New(rand.NewPCG(h.Sum64(), 0)).Uint64()
}

// takesOff sets when what f has in flight is delivered. n.mu is held.
func (n *network) takesOff(f *flow) {
	chance := n.chance(f.name)
	longest := 100 * time.Microsecond
	switch chance % 64 {
	case 0, 1, 2, 3, 4, 5:
		longest = 5 * time.Millisecond
	case 6:
		longest = 60 * time.Millisecond
	}
	f.due = time.Now().Add(time.Duration(chance>>8) % longest)
	n.tell()
}

// next is what is delivered next, and when; nil for nothing.
func (n *network) next() (first *flow, due time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flows = slices.DeleteFunc(n.flows, func(f *flow) bool { return f.end != nil && len(f.flying) == 0 })
	for _, f := range n.flows {
		if f.deliverable() && (first == nil || f.due.Before(first.due) || f.due.Equal(first.due) && f.name < first.name) {
			first = f
		}
	}
	if first == nil {
		return nil, time.Time{}
	}
	return first, first.due
}

// deliver hands over what flies, or only the first bytes of it. Into how many writes its writer
// cut it is of no account: that depends on the schedule of goroutines.
func (n *network) deliver(f *flow) {
	n.mu.Lock()
	defer n.mu.Unlock()
	chance, bytes := n.chance("part "+f.name), 0
	if chance%12 == 0 {
		bytes = 1 + int(chance>>8%200)
	}
	switch {
	case len(f.flying) == 0:
		f.end = io.EOF
	case bytes <= 0 || bytes >= len(f.flying):
		f.ready = append(f.ready, f.flying...)
		f.flying = nil
	default:
		f.ready = append(f.ready, f.flying[:bytes]...)
		f.flying = f.flying[bytes:]
		n.takesOff(f)
	}
	f.changed()
}

// set changes the weather between two processes.
func (n *network) set(a, b string, w weather) {
	n.mu.Lock()
	defer n.mu.Unlock()
	link := linkOf(a, b)
	if n.bad[link] = w; w == down {
		n.reset(func(f *flow) bool { return f.link == link })
	}
	n.tell()
}

// sever takes a process off the network for good.
func (n *network) sever(process string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.listeners, process)
	n.bad[process] = down
	n.reset(func(f *flow) bool { return slices.Contains(strings.Split(f.link, "-"), process) })
}

// reset breaks connections. n.mu is held.
func (n *network) reset(which func(*flow) bool) {
	for _, f := range n.flows {
		if which(f) {
			f.flying, f.end = nil, syscall.ECONNRESET
			f.changed()
		}
	}
}

func (n *network) tell() {
	select {
	case n.news <- struct{}{}:
	default:
	}
}

func linkOf(a, b string) string { return min(a, b) + "-" + max(a, b) }

// dial connects from a process to another one.
func (n *network) dial(_ context.Context, from, to string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, link := n.listeners[to], linkOf(from, to)
	if l == nil || n.bad[link] == down || n.bad[from] == down {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	n.serial[link]++
	flowOf := func(a, b string) *flow {
		f := &flow{n: n, link: link, name: fmt.Sprintf("%s#%03d %s>%s", link, n.serial[link], a, b), wake: make(chan struct{})}
		n.flows = append(n.flows, f)
		return f
	}
	there, back := flowOf(from, to), flowOf(to, from)
	l.queue = append(l.queue, &conn{in: there, out: back, local: to, remote: from})
	l.changed()
	return &conn{in: back, out: there, local: from, remote: to}, nil
}

// conn is one end of a connection.
type conn struct {
	in, out       *flow
	local, remote string
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	for {
		c.in.n.mu.Lock()
		f := c.in
		left := time.Until(f.deadline)
		switch {
		case f.unread:
			f.n.mu.Unlock()
			return 0, net.ErrClosed
		case len(f.ready) > 0:
			k := copy(b, f.ready)
			f.ready = f.ready[k:]
			f.n.mu.Unlock()
			return k, nil
		case f.end != nil:
			err := f.end
			f.n.mu.Unlock()
			return 0, err
		case !f.deadline.IsZero() && left <= 0:
			f.n.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		}
		wake, timed := f.wake, !f.deadline.IsZero()
		f.n.mu.Unlock()
		if !timed {
			<-wake
			continue
		}
		timer := time.NewTimer(left)
		select {
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// ofRequest is how the client of the simulation names its request. A connection that carries
// one is named by it: which of two that are made at one time is the first, is decided by the
// schedule of goroutines.
var ofRequest = regexp.MustCompile(`Sim-Request: \w+`)

// Write implements net.Conn. It never waits.
func (c *conn) Write(b []byte) (int, error) {
	n := c.out.n
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case c.out.closing:
		return 0, net.ErrClosed
	case c.in.end != nil && !errors.Is(c.in.end, io.EOF), c.out.end != nil:
		return 0, os.NewSyscallError("write", syscall.EPIPE)
	case c.out.unread, n.bad[c.local] == down, len(b) == 0:
		return len(b), nil // it goes nowhere
	}
	if of := ofRequest.Find(b); of != nil {
		c.in.name, c.out.name = fmt.Sprintf("%s %s <", c.out.link, of), fmt.Sprintf("%s %s >", c.out.link, of)
	}
	if len(c.out.flying) == 0 {
		n.takesOff(c.out)
	}
	c.out.flying = append(c.out.flying, b...)
	return len(b), nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	n := c.in.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.in.unread {
		return nil
	}
	c.out.closing, c.in.unread = true, true
	c.in.flying = nil
	c.in.changed()
	if len(c.out.flying) == 0 {
		n.takesOff(c.out)
	}
	return nil
}

func (c *conn) SetDeadline(t time.Time) error      { return c.SetReadDeadline(t) }
func (c *conn) SetWriteDeadline(_ time.Time) error { return nil } // a write never waits

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.n.mu.Lock()
	defer c.in.n.mu.Unlock()
	c.in.deadline = t
	c.in.changed()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return addrOf(c.local) }
func (c *conn) RemoteAddr() net.Addr { return addrOf(c.remote) }

// addrOf is an address of 10.0.0.0/8 for a process.
func addrOf(process string) *net.TCPAddr {
	sum := uint32(0)
	for _, b := range []byte(process) {
		sum = sum*31 + uint32(b)
	}
	return &net.TCPAddr{IP: net.IPv4(10, byte(sum>>16), byte(sum>>8), byte(sum)), Port: 1024}
}

type listener struct {
	n       *network
	process string
	queue   []*conn       // guarded by n.mu
	closed  bool          // guarded by n.mu
	wake    chan struct{} // guarded by n.mu
}

func (n *network) listen(process string) *listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{n: n, process: process, wake: make(chan struct{})}
	n.listeners[process] = l
	return l
}

func (l *listener) changed() {
	close(l.wake)
	l.wake = make(chan struct{})
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		l.n.mu.Lock()
		if l.closed {
			l.n.mu.Unlock()
			return nil, net.ErrClosed
		}
		if len(l.queue) > 0 {
			c := l.queue[0]
			l.queue = l.queue[1:]
			l.n.mu.Unlock()
			return c, nil
		}
		wake := l.wake
		l.n.mu.Unlock()
		<-wake
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.n.listeners[l.process] == l {
		delete(l.n.listeners, l.process)
	}
	for _, c := range l.queue {
		c.in.flying, c.in.end, c.out.end = nil, syscall.ECONNRESET, syscall.ECONNRESET
		c.in.changed()
		c.out.changed()
	}
	l.changed()
	return nil
}

func (l *listener) Addr() net.Addr { return addrOf(l.process) }
