package caller

import (
	"bytes"
	"net"
	"net/netip"
	"strings"

	"github.com/idemproxy/idemproxy/message"
)

// Prefixes are addresses that are trusted to say where a request came from.
type Prefixes []netip.Prefix

func (p Prefixes) has(ip netip.Addr) bool {
	for _, one := range p {
		if one.Contains(ip) {
			return true
		}
	}
	return false
}

// Trusts says whether a peer may say where a request came from. Who connects over a socket of this machine was let in by its
// permissions.
func (p Prefixes) Trusts(peer net.Addr) bool {
	if len(p) == 0 {
		return false
	}
	if _, local := peer.(*net.UnixAddr); local {
		return true
	}
	ip, ok := message.IPOf(peer)
	return ok && p.has(ip)
}

// Believed says whether the peer may say where the request came from.
func (c *Caller) Believed() bool { return c.believed }

// Scheme is what the client used, http or https, as far as those who are trusted
// say.
func (c *Caller) Scheme() []byte {
	if c.believed {
		first, _, _ := bytes.Cut(c.head.ForwardedProto(), []byte{','})
		switch first = bytes.TrimSpace(first); {
		case message.EqualFold(first, "https"):
			return message.Scheme(true)
		case message.EqualFold(first, "http"):
			return message.Scheme(false)
		}
	}
	return message.Scheme(c.ctx.IsTLS())
}

// Client is the address that the request came from, as far as those who are
// trusted say: the last one in X-Forwarded-For that is not theirs. It is invalid
// if the peer itself is the client.
func (c *Caller) Client() (client netip.Addr) {
	if !c.believed {
		return client
	}
	for list := c.head.ForwardedFor(); len(list) > 0; {
		last := list
		if i := bytes.LastIndexByte(list, ','); i >= 0 {
			list, last = list[:i], list[i+1:]
		} else {
			list = nil
		}
		ip, ok := addressOf(string(bytes.TrimSpace(last)))
		if !ok {
			return client
		}
		client = ip.Unmap()
		if !c.trusted.has(client) {
			return client
		}
	}
	return client
}

// addressOf reads an address as proxies write it: bare, in brackets, or with the port
// that the client had (192.0.2.1:443, [2001:db8::1]:443).
func addressOf(text string) (netip.Addr, bool) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return ip, true
	}
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr(), true
	}
	inner, open := strings.CutPrefix(text, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	ip, err := netip.ParseAddr(inner)
	return ip, open && closed && err == nil && ip.Is6()
}

// Network is where the request came from: an IPv4 address, or the /64 that an
// IPv6 address is in, which is what one customer has, and can choose from. It is
// invalid for who connects over a socket of this machine.
func (c *Caller) Network() netip.Addr {
	ip := c.Client()
	if !ip.IsValid() {
		ip, _ = message.IPOf(c.ctx.RemoteAddr())
	}
	return message.NetworkOf(ip)
}
