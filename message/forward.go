package message

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"

	"github.com/valyala/fasthttp"
)

//nolint:gochecknoglobals // constants, of a kind that Go has no word for
var schemeHTTP, schemeHTTPS = []byte("http"), []byte("https")

// Onward is how a request goes on to a backend, besides what its client says.
type Onward struct {
	// Host is what it is for if it does not say: an HTTP/1.0 client need not, and
	// HTTP/1.1 must.
	Host string
	// Peer is who connected, TLS how. Believed: what it says of where the request
	// came from is true.
	Peer     net.Addr
	TLS      bool
	Believed bool
	// Guarded are further fields that this proxy goes by: what a backend may take for
	// one of them does not go on, and none can be nominated by Connection.
	Guarded []string
	// Upgrade repeats the wish to leave HTTP.
	Upgrade bool
	// RequestID is for one that has none.
	RequestID []byte
	// Traceparent takes the place of the client's, or is for one that has none;
	// empty: the client's stays.
	Traceparent []byte
	// Key is what Idempotency-Key says to the backend, by whatever field and in whatever
	// quotes the client said it; empty: the client's fields go on as they are.
	Key string
	// Async: this proxy has seen to the preference respond-async, which ends here: a
	// backend that honoured it, too, would have its 202 kept for the response.
	Async bool
	// Attempt at its key; 0 for none. Token names it; Scope is the key's, as a field has
	// it, and empty for none.
	Attempt uint32
	Token   [16]byte
	Scope   string
}

// Forward writes the header as it goes to the backend: the client's fields in
// their order and spelling, without those that end at this hop, and with those
// that say where it came from. It is made anew, since deleting a field from a
// fasthttp header reorders the others.
func (h *Head) Forward(out *fasthttp.RequestHeader, on *Onward) {
	out.DisableNormalizing()
	out.DisableSpecialHeader()
	out.SetMethodBytes(h.header.Method())
	out.SetRequestURIBytes(h.header.RequestURI())
	if host := h.header.Host(); len(host) > 0 {
		out.AddBytesV("Host", host)
	} else {
		out.Add("Host", on.Host)
	}
	for i := range h.fields {
		if f := &h.fields[i]; !h.drops(f, on) {
			out.AddBytesKV(f.Name, f.Value)
		}
	}
	if on.Async {
		if rest := withoutAsync(h.Prefer()); len(rest) > 0 {
			out.AddBytesV("Prefer", rest)
		}
	}
	h.addForwarded(out, on)
	if on.Upgrade {
		out.Add("Connection", "Upgrade")
		out.AddBytesV("Upgrade", h.joined[kindUpgrade])
	}
	if len(h.joined[kindRequestID]) == 0 {
		out.AddBytesV(HeaderRequestID, on.RequestID)
	}
	if len(on.Traceparent) > 0 {
		out.AddBytesV("Traceparent", on.Traceparent)
	}
	if on.Key != "" {
		out.Add(HeaderKey, on.Key)
	}
	if on.Attempt > 0 {
		var digits [10]byte
		out.AddBytesV(HeaderAttempt, strconv.AppendUint(digits[:0], uint64(on.Attempt), 10))
		var token [2 * len(on.Token)]byte
		hex.Encode(token[:], on.Token[:])
		out.AddBytesV(HeaderToken, token[:])
	}
	if on.Scope != "" {
		out.Add(HeaderScope, on.Scope)
	}
}

// drops says which of the client's fields do not go on as they are: those that
// end at this hop (RFC 9110 section 7.6.1), and those that Forward writes.
func (h *Head) drops(f *Field, on *Onward) bool {
	switch f.kind {
	case kindHop, kindConnection, kindUpgrade, kindContentLength, kindHost, kindVia, kindForwardedFor, kindForwardedHost,
		kindForwardedProto, kindForwarded, kindAttempt, kindTwin: // nobody but this proxy says it
		return true
	case kindPrefer:
		if on.Async {
			return true
		}
	case kindTraceparent: // as the next ones
		return len(on.Traceparent) > 0
	case kindContentType, kindRequestID: // describes the message, or names it: cannot be nominated away
		return false
	case kindOrigin:
		if !on.Believed {
			return true
		}
	case kindOther:
		if on.Key != "" && isTwin(f.Name, HeaderKey) {
			return true
		}
		if isOdd(f.Name) && isTwinOfAny(f.Name, on.Guarded) {
			return true
		}
	default:
	}
	return !f.key && h.tokens.has(f.Name) && !isAny(f.Name, on.Guarded)
}

func isTwinOfAny(name []byte, all []string) bool {
	for _, one := range all {
		if isTwin(name, one) && !EqualFold(name, one) {
			return true
		}
	}
	return false
}

func isAny(name []byte, all []string) bool {
	for _, one := range all {
		if EqualFold(name, one) {
			return true
		}
	}
	return false
}

// addForwarded says where the request came from. A peer that is believed is taken
// at its word, and X-Forwarded-For and Forwarded (RFC 7239) grow by its address;
// what anybody else says of that kind ends here, since the backend could not tell
// it from the truth. Via is RFC 9110 section 7.6.3.
func (h *Head) addForwarded(out *fasthttp.RequestHeader, on *Onward) {
	var buf [128]byte
	var before, proto, host, forwarded []byte
	if on.Believed {
		before, proto = h.joined[kindForwardedFor], h.joined[kindForwardedProto]
		host, forwarded = h.joined[kindForwardedHost], h.joined[kindForwarded]
	}
	if len(proto) == 0 {
		proto = Scheme(on.TLS)
	}
	if len(host) == 0 {
		host = h.header.Host()
	}
	out.AddBytesV("X-Forwarded-For", appendIP(appendList(buf[:0], before), on.Peer))
	out.AddBytesV("Via", append(appendList(buf[:0], h.joined[kindVia]), "1.1 idemproxy"...))
	out.AddBytesV("X-Forwarded-Proto", proto)
	if len(host) > 0 {
		out.AddBytesV("X-Forwarded-Host", host)
	}
	if len(forwarded) > 0 {
		out.AddBytesV("Forwarded", appendNode(append(appendList(buf[:0], forwarded), "for="...), on.Peer))
	}
}

// Scheme is https or http.
func Scheme(tls bool) []byte {
	if tls {
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

// IPOf is the address of a peer; false for one that has none.
func IPOf(addr net.Addr) (netip.Addr, bool) {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(tcp.IP)
	return ip.Unmap(), ok
}

// NetworkOf is what counts as one client: an IPv4 address, or the /64 that an IPv6
// address is in.
func NetworkOf(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

func appendIP(dst []byte, addr net.Addr) []byte {
	if ip, ok := IPOf(addr); ok {
		return ip.AppendTo(dst)
	}
	return append(dst, "unknown"...) // RFC 7239 6.3
}

// appendNode writes an address as RFC 7239 section 6 has it.
func appendNode(dst []byte, addr net.Addr) []byte {
	if ip, ok := IPOf(addr); ok && ip.Is6() {
		return append(ip.AppendTo(append(dst, `"[`...)), `]"`...)
	}
	return appendIP(dst, addr)
}
