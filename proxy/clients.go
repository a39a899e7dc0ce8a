package proxy

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/message"
)

// Why a connection is turned away. These are the settings that say so.
const (
	TooManyClients     = "max_clients"
	TooManyOfAnAddress = "max_clients_per_ip"
)

// clients are the connections that are open: bounded as a whole, and from each network.
type clients struct {
	most, ofNetwork int // 0: any
	open            atomic.Int64
	lingering       atomic.Int64 // of those that were turned away

	mu       sync.Mutex
	networks map[netip.Addr]int // guarded by mu
}

// enter lets one more in; if it does, leave is due.
func (c *clients) enter() bool {
	if c.open.Add(1) > int64(c.most) {
		c.open.Add(-1)
		return false
	}
	return true
}

// enterFrom lets one more in from a network; if it does, leaveFrom is due.
func (c *clients) enterFrom(network netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.networks[network] >= c.ofNetwork {
		return false
	}
	if c.networks == nil {
		c.networks = map[netip.Addr]int{}
	}
	c.networks[network]++
	return true
}

func (c *clients) leaveFrom(network netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.networks[network]--; c.networks[network] == 0 {
		delete(c.networks, network)
	}
}

// seat is a connection among the clients.
type seat struct {
	clients *clients
	asked   bool  // whether its network has room; of who reads it
	refused error // what who reads it gets, if there is none

	mu      sync.Mutex
	left    bool       // guarded by mu
	network netip.Addr // guarded by mu; invalid: it counts for none
}

// takeOf counts the connection for where it comes from, and says whether there is room.
// Connections of those that are trusted to say where a request came from are many
// clients', and count for nobody.
func (s *seat) takeOf(peer net.Addr, trusted caller.Prefixes) bool {
	ip, ok := message.IPOf(peer)
	if !ok || trusted.Trusts(peer) {
		return true
	}
	network := message.NetworkOf(ip)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.left:
		return true
	case !s.clients.enterFrom(network):
		return false
	}
	s.network = network
	return true
}

// leave may be repeated.
func (s *seat) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		return
	}
	s.left = true
	s.clients.open.Add(-1)
	if s.network.IsValid() {
		s.clients.leaveFrom(s.network)
	}
}

// What a connection that is turned away costs at most: the answer is one write into an
// empty buffer, and so many of them are read for so long, that the client, which may
// be sending, sees the answer and no reset.
const (
	lastWrite    = time.Second
	maxLingering = 256
)

// turnAway answers on a connection that is one too many, before anything is read of
// it. It is to be closed then. Behind TLS there is no answer: the handshake costs more
// than there is to say.
func (s *Server) turnAway(conn net.Conn, why string, p *problem, peer net.Addr) {
	below := conn
	if c := clientOf(conn); c != nil {
		below = c
	}
	var id []byte
	if !isTLS(conn) {
		id = new(message.RequestID).New()
		_ = below.SetWriteDeadline(time.Now().Add(lastWrite))
		_, _ = below.Write(p.alone(id))
	}
	if s.config.Trace.TurnedAway != nil {
		s.config.Trace.TurnedAway(why, peer, id)
	}
	if len(id) > 0 {
		s.linger(below)
	}
}

// linger reads on a connection whose last answer is written, which is to be closed then: a
// connection that is closed with something unread is reset, and its client may not see the
// answer.
func (s *Server) linger(conn net.Conn) {
	half, ok := halfOf(conn)
	defer s.clients.lingering.Add(-1)
	if s.clients.lingering.Add(1) > maxLingering || !ok || half.CloseWrite() != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(lastWrite))
	_, _ = io.CopyN(io.Discard, conn, lingeringBytes)
}

// isTLS says whether a connection is of TLS.
func isTLS(conn net.Conn) bool {
	_, is := conn.(*tls.Conn)
	return is
}

// halfOf is the connection of which one direction can be ended, if there is one.
func halfOf(conn net.Conn) (interface{ CloseWrite() error }, bool) {
	if c, ok := conn.(*clientConn); ok {
		conn = c.Conn
	}
	half, ok := conn.(interface{ CloseWrite() error })
	return half, ok
}

// alone is the problem as a whole response, for who was not heard.
func (p *problem) alone(id []byte) []byte {
	var resp fasthttp.Response
	p.write(&resp, false, instance{})
	message.NameResponse(&resp.Header, id)
	resp.SetConnectionClose()
	var all bytes.Buffer
	_, _ = resp.WriteTo(&all) // a buffer takes all
	return all.Bytes()
}
