package proxy_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// Who announces bodies and sends nothing of them takes nothing from others.
func TestAnnouncedBodiesTakeNothing(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"Transfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n100000\r\n", "Content-Length: 1048576\r\n\r\n"} {
		b := newRecorder(t, okay)
		r := newRig(t, backendtest.OK, to(b.origin)) // with the bounds that it has by itself
		for i := range 260 {
			r.dial(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: silent%d\r\n", i) + framing)
		}
		for _, key := range []string{"X: y", "Idempotency-Key: k"} {
			if got := status(r.exchange(withFields(key, "Connection: close"))); got != "200" {
				t.Errorf("%q, %s: %s, want 200", framing, key, got)
			}
		}
		if n := len(b.requests()); n != 2 {
			t.Errorf("%q: %d executions, want 2", framing, n)
		}
	}
}

// packed is zeros under gzip.
func packed(n int) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(make([]byte, n))
	_ = w.Close()
	return b.String()
}

// What is decoded for a client has room only within what may be in memory, until that
// client has taken it.
func TestDecodedRepliesAreCounted(t *testing.T) {
	t.Parallel()
	const size = 12 << 20 // more than sockets have room for
	body := packed(size)
	limited := func(room int64) *rig {
		return newRig(t, func(c backendtest.Conn, _ *backendtest.Request) { c.Answer(200, body, "Content-Encoding: gzip") },
			func(c *proxy.Config) { c.MaxBuffered = room })
	}
	ask := func(accept string) string {
		return withFields("Idempotency-Key: k", "Accept-Encoding: "+accept, "Connection: close")
	}
	r := limited(size / 2)
	for accept, want := range map[string]string{"gzip": "200", "identity": "406"} {
		r.exchange(ask("gzip"))
		if got := status(r.exchange(ask(accept))); got != want {
			t.Errorf("%s, more than there is room for: %s, want %s", accept, got, want)
		}
	}
	r = limited(size*2 + size/2)
	r.exchange(ask("gzip"))
	var slow []net.Conn
	for range 2 { // which take nothing of it
		c, _ := dial(t, r.addr)
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10) //nolint:forcetypeassert // we dialled TCP
		send(t, c, ask("identity"))
		slow = append(slow, c)
	}
	r.until("both of them count", func() bool { return r.server.Buffered() >= 2*size })
	if got := status(r.exchange(ask("identity"))); got != "406" {
		t.Errorf("with two of them under way: %s, want 406", got)
	}
	if got := status(r.exchange(ask("gzip"))); got != "200" {
		t.Errorf("as it is, which needs no room: %s", got)
	}
	for _, c := range slow {
		_ = c.Close()
	}
	r.until("they count no more", func() bool { return r.server.Buffered() == 0 })
	if text := r.exchange(ask("identity")); status(text) != "200" || len(text) < size {
		t.Errorf("with room again: %s, %d bytes", status(text), len(text))
	}
}

// A replay that was decoded says nothing of the bytes that it was, and one that must not
// be transformed is not.
func TestDecodedRepliesClaimNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field string
		fixed bool
	}{
		{"Content-Digest: sha-256=:x:", false},
		{"content-digest: sha-512=:x:", false},
		{"Repr-Digest: sha-256=:x:", false},
		{"Digest: sha-256=x", false},
		{"Content-MD5: x", false},
		{"Cache-Control: no-transform", true},
		{"Cache-Control: private, No-Transform, max-age=1", true},
		{"cache-control:no-transform", true},
	} {
		b := newRecorder(t, always("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"+c.field+"\r\n"+
			fmt.Sprintf("Content-Length: %d\r\n\r\n", len(packed(1000)))+packed(1000)))
		r := newRig(t, backendtest.OK, to(b.origin))
		name, value, _ := strings.Cut(c.field, ":")
		for i, accept := range []string{"gzip", "identity", "gzip"} {
			text := r.exchange(withFields("Idempotency-Key: k", "Accept-Encoding: "+accept, "Connection: close"))
			_, body, _ := strings.Cut(text, "\r\n\r\n")
			claims := valuesOf(text, name)
			switch {
			case accept == "gzip" && (body != packed(1000) || len(claims) != 1 || claims[0] != strings.TrimSpace(value)):
				t.Errorf("%s, answer %d: %.300q", c.field, i, text)
			case accept == "identity" && c.fixed && status(text) != "406":
				t.Errorf("%s, answer %d: %.300q, want 406", c.field, i, text)
			case accept == "identity" && !c.fixed && (status(text) != "200" || body != string(make([]byte, 1000)) || len(claims) > 0):
				t.Errorf("%s, answer %d: %.300q", c.field, i, text)
			}
		}
		if n := len(b.requests()); n != 1 {
			t.Errorf("%d executions", n)
		}
	}
}

// All addresses that one customer of IPv6 has are one client, told by whoever may.
func TestOneNetworkOfIPv6IsOneClient(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan struct{}), make(chan struct{})
	b := newRecorder(t, func(q *http.Request, _ string) string {
		if q.URL.Path == "/slow" {
			entered <- struct{}{}
			<-proceed
		}
		return okay(nil, "")
	})
	r := newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) { c.MaxPerAddress, c.TrustedProxies = 1, loopback() })
	from := func(ip string) string {
		return withFields("X-Forwarded-For: "+ip, "Authorization: "+ip, "Connection: close")
	}
	r.dial(strings.Replace(from("2001:db8:1:2::1"), " / ", " /slow ", 1))
	<-entered
	for ip, want := range map[string]string{
		"2001:db8:1:2::1": "429", "2001:db8:1:2:ffff:ffff:ffff:ffff": "429", "2001:DB8:1:2:0:0:0:9": "429", "1.2.3.4, 2001:db8:1:2::7": "429",
		"2001:db8:1:3::1": "200", "2001:db8:2:2::1": "200", "192.0.2.1": "200", "::ffff:192.0.2.2": "200",
	} {
		if got := status(r.exchange(from(ip))); got != want {
			t.Errorf("%s: %s, want %s", ip, got, want)
		}
	}
	proceed <- struct{}{}
	r.until("there is room again", func() bool { return status(r.exchange(from("2001:db8:1:2::8"))) == "200" })
}

// BenchmarkConnectionTokens: eight times as many tokens and fields cost about eight
// times as much. The metric ratio says how much.
func BenchmarkConnectionTokens(b *testing.B) {
	backend := backendtest.Start(b, backendtest.OK)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	c := proxy.Config{MaxHeader: 1 << 20, Engine: idem.NewEngine(idem.Config{Store: storetest.NewMemory()})}
	c.Policy = idem.DefaultPolicy()
	c.Upstream.Backends = []string{backend.URL()}
	s, err := proxy.New(c)
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = s.Serve(ln) }()
	b.Cleanup(func() {
		_ = s.Shutdown(context.Background())
		c.Engine.Close(context.Background())
	})
	spent := map[int]time.Duration{}
	for b.Loop() {
		for _, n := range []int{1000, 8000} {
			var tokens, fields strings.Builder
			for i := range n {
				fmt.Fprintf(&tokens, "x-%d,", i)
				fmt.Fprintf(&fields, "X-%d: y\r\n", n+i)
			}
			text := "GET / HTTP/1.1\r\nHost: x\r\nConnection: " + tokens.String() + "close\r\n" + fields.String() + "\r\n"
			begun := time.Now()
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.WriteString(conn, text)
			if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
				b.Fatalf("%v, %.100q", err, answer)
			}
			_ = conn.Close()
			spent[n] += time.Since(begun)
		}
	}
	b.ReportMetric(float64(spent[8000])/float64(spent[1000]), "ratio")
}
