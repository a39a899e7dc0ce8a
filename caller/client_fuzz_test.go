package caller

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

// FuzzClient: whatever X-Forwarded-For says, the client is an address that stands in it, behind
// which only those stand who are trusted; and nobody who is not trusted is asked.
func FuzzClient(f *testing.F) {
	for _, seed := range []string{
		"192.0.2.1", "192.0.2.1, 10.0.0.1", "[2001:db8::1]:443,10.0.0.2:80", "x, 10.0.0.1", "10.0.0.1,10.0.0.2", "::ffff:10.0.0.1", ",", "fe80::1%eth0",
	} {
		f.Add(seed)
	}
	trusted := Prefixes{netip.MustParsePrefix("10.0.0.0/8")}
	read := func(value string, peer string) netip.Addr {
		var ctx fasthttp.RequestCtx
		ctx.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.ParseIP(peer)}, nil)
		ctx.Request.Header.Set("X-Forwarded-For", value)
		var head message.Head
		head.Read(&ctx.Request.Header)
		var c Caller
		c.Read(&ctx, &head, trusted)
		return c.Client()
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\r\n\x00") {
			return
		}
		if got := read(value, "192.0.2.9"); got.IsValid() {
			t.Errorf("%q of somebody unknown: %v", value, got)
		}
		got := read(value, "10.9.9.9")
		if !got.IsValid() {
			return
		}
		entries := strings.Split(value, ",")
		for i := len(entries) - 1; i >= 0; i-- {
			ip, ok := addressOf(strings.TrimSpace(entries[i]))
			switch {
			case !ok:
				if last, isOne := addressOf(strings.TrimSpace(entries[min(i+1, len(entries)-1)])); !isOne || last.Unmap() != got {
					t.Errorf("%q: %v, which is not the last that can be read", value, got)
				}
				return
			case ip.Unmap() == got && (!trusted.has(got) || i == 0):
				return
			case !trusted.has(ip.Unmap()):
				t.Errorf("%q: %v, and %v behind it is not trusted", value, got, ip)
				return
			}
		}
		t.Errorf("%q: %v, which does not stand there", value, got)
	})
}
