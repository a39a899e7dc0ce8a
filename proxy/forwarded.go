package proxy

import (
	"bytes"
	"net"
	"net/netip"

	"github.com/valyala/fasthttp"
)

// prefixes are addresses that are trusted to say where a request came from.
type prefixes []netip.Prefix

func (p prefixes) has(ip netip.Addr) bool {
	for _, one := range p {
		if one.Contains(ip) {
			return true
		}
	}
	return false
}

// trusts: who connects over a socket of this machine was let in by its
// permissions.
func (p prefixes) trusts(peer net.Addr) bool {
	if len(p) == 0 {
		return false
	}
	if _, local := peer.(*net.UnixAddr); local {
		return true
	}
	ip, ok := ipOf(peer)
	return ok && p.has(ip)
}

func ipOf(addr net.Addr) (netip.Addr, bool) {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(tcp.IP)
	return ip.Unmap(), ok
}

// addForwarded says where the request came from. A peer that is trusted is
// believed what it says, and X-Forwarded-For and Forwarded (RFC 7239) grow by its
// address; what anybody else says of that kind ends here, since the backend could
// not tell it from the truth. Via is RFC 9110 section 7.6.3.
func (id *identity) addForwarded(ctx *fasthttp.RequestCtx, h *fasthttp.RequestHeader) {
	var buf [128]byte
	before, proto, host, forwarded := id.forwardedFor, id.forwardedProto, id.forwardedHost, id.forwarded
	if !id.trusted {
		before, proto, host, forwarded = nil, nil, nil, nil
	}
	if len(proto) == 0 {
		proto = schemeHTTP
		if ctx.IsTLS() {
			proto = schemeHTTPS
		}
	}
	if len(host) == 0 {
		host = ctx.Request.Header.Host()
	}
	h.AddBytesV("X-Forwarded-For", appendIP(appendList(buf[:0], before), ctx.RemoteAddr()))
	h.AddBytesV("Via", append(appendList(buf[:0], id.via), "1.1 idemproxy"...))
	h.AddBytesV("X-Forwarded-Proto", proto)
	if len(host) > 0 {
		h.AddBytesV("X-Forwarded-Host", host)
	}
	if len(forwarded) > 0 {
		h.AddBytesV("Forwarded", appendNode(append(appendList(buf[:0], forwarded), "for="...), ctx.RemoteAddr()))
	}
}

// scheme is what the client used, as far as those who are trusted say.
func (id *identity) scheme(ctx *fasthttp.RequestCtx) []byte {
	if id.trusted {
		first, _, _ := bytes.Cut(id.forwardedProto, []byte{','})
		switch first = bytes.TrimSpace(first); {
		case equalFold(first, "https"):
			return schemeHTTPS
		case equalFold(first, "http"):
			return schemeHTTP
		}
	}
	if ctx.IsTLS() {
		return schemeHTTPS
	}
	return schemeHTTP
}

// appendList starts a list with what was there.
func appendList(dst, before []byte) []byte {
	if len(before) == 0 {
		return dst
	}
	return append(append(dst, before...), ", "...)
}

func appendIP(dst []byte, addr net.Addr) []byte {
	if ip, ok := ipOf(addr); ok {
		return ip.AppendTo(dst)
	}
	return append(dst, "unknown"...) // RFC 7239 6.3
}

// appendNode writes an address as RFC 7239 section 6 has it.
func appendNode(dst []byte, addr net.Addr) []byte {
	if ip, ok := ipOf(addr); ok && ip.Is6() {
		return append(ip.AppendTo(append(dst, `"[`...)), `]"`...)
	}
	return appendIP(dst, addr)
}

// client is the address that the request came from, as far as those who are
// trusted say: the last one in X-Forwarded-For that is not theirs. It is invalid
// if the peer itself is the client.
func (id *identity) client(trusted prefixes) (client netip.Addr) {
	if !id.trusted {
		return client
	}
	for list := id.forwardedFor; len(list) > 0; {
		last := list
		if i := bytes.LastIndexByte(list, ','); i >= 0 {
			list, last = list[:i], list[i+1:]
		} else {
			list = nil
		}
		ip, err := netip.ParseAddr(string(bytes.TrimSpace(last)))
		if err != nil {
			return client
		}
		client = ip.Unmap()
		if !trusted.has(client) {
			return client
		}
	}
	return client
}
