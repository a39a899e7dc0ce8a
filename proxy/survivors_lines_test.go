package proxy_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/upstream"
)

// Each test of this file is for a line that could be broken, and no test noticed.

// refusing is a connection that takes not a byte, which it says once the request's body
// has begun to come.
type refusing struct {
	net.Conn
	wait <-chan struct{}
}

func (c *refusing) Write([]byte) (int, error) {
	<-c.wait
	return 0, errors.New("broken")
}

// Once part of a streamed body may be gone from where it came from, no other backend can
// get the whole of it.
func TestNoOtherBackendForHalfABody(t *testing.T) {
	t.Parallel()
	first, second := newRecorder(t, okay), newRecorder(t, okay)
	begun := make(chan struct{})
	var dials atomic.Int32
	r := newRig(t, backendtest.OK, func(c *proxy.Config) {
		c.Upstream = upstream.Config{Backends: []string{first.origin, second.origin}, Balance: upstream.RoundRobin}
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if dials.Add(1) == 1 && err == nil {
				return &refusing{conn, begun}, nil
			}
			return conn, err
		}
	})
	c, br := dial(t, r.addr)
	_ = c.SetDeadline(time.Now().Add(patience))
	send(t, c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	close(begun)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 502 {
		t.Errorf("%d, want 502", resp.StatusCode)
	}
	for _, w := range []*recorder{first, second} {
		if all := w.requests(); len(all) > 0 {
			t.Errorf("a backend got %q", all)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d backends were connected to, want 1", n)
	}
}

// A connection over which an answer came early has the rest of a request on it, and is
// not used again: neither for a request in memory, nor for one on its way.
func TestConnectionOfAnEarlyAnswer(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"Idempotency-Key: k\r\n", ""} {
		var conns atomic.Int32
		asked := make(chan int32, 10)
		r := newRig(t, backendtest.OK, to(rawBackend(t, func(c net.Conn, br *bufio.Reader) {
			n := conns.Add(1)
			for {
				q, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				asked <- n
				if q.URL.Path == "/early" { // whose body is left where it is
					_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
					<-t.Context().Done()
					return
				}
				_, _ = io.WriteString(c, okay(nil, ""))
			}
		})), func(c *proxy.Config) { c.Upstream.WriteTimeout, c.MaxRequestBody = 100*time.Millisecond, 64<<20 })
		text := r.exchange("POST /early HTTP/1.1\r\nHost: x\r\n" + key + "Connection: close\r\nContent-Length: 33554432\r\n\r\n" + strings.Repeat("x", 32<<20))
		if status(text) != "413" || !strings.HasSuffix(text, "\r\n\r\nno") {
			t.Errorf("key %q: %.200q", key, text)
		}
		if got := status(r.exchange(ofKeyAndClose("other"))); got != "200" {
			t.Errorf("key %q: the next request got %s", key, got)
		}
		if n := len(asked); n != 2 {
			t.Fatalf("key %q: %d requests", key, n)
		}
		if early, next := <-asked, <-asked; early == next {
			t.Errorf("key %q: the connection was used again", key)
		}
	}
}

// tlsBackend is a backend with a certificate of an authority.
func tlsBackend(t *testing.T, respond func(backendtest.Conn, *backendtest.Request)) (*backendtest.Backend, func(*proxy.Config)) {
	t.Helper()
	ca := newAuthority(t)
	certificate, _, _ := ca.issue("ledger.internal", false)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true, // what is written at once is one record
	})
	if err != nil {
		t.Fatal(err)
	}
	b := backendtest.Serve(t, ln, respond)
	return b, func(c *proxy.Config) {
		c.Upstream.Backends, c.Upstream.CA, c.Upstream.ServerName = []string{"https://" + b.Addr}, ca.pem(), "ledger.internal"
	}
}

// splitResponse is a response of so many bytes in all, in two parts.
func splitResponse(first, all int) (part, rest string) {
	part = "HTTP/1.1 200 OK\r\nX-Pad: "
	part += strings.Repeat("p", first-len(part))
	for n := all - first; ; n-- {
		if rest = fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("x", n)); first+len(rest) == all {
			return part, rest
		}
	}
}

// What a TLS record has behind a response is nobody's response. The proxy reads 16 KiB
// at a time, as much as a record has: what begins in the middle of that has its end in
// the TLS layer, where no socket shows it.
func TestSurplusInATLSRecord(t *testing.T) {
	t.Parallel()
	const surplus = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nleaked"
	const size = 16 << 10
	b, over := tlsBackend(t, func(c backendtest.Conn, q *backendtest.Request) {
		var all int
		if _, err := fmt.Sscanf(q.URL.Path, "/%d", &all); err != nil {
			c.Answer(200, "mine")
			return
		}
		part, rest := splitResponse(1000, all)
		c.Raw(part) // a record
		c.Raw(rest + surplus)
	})
	r := newRig(t, backendtest.OK, over)
	sizes := []int{2000, size - 1, size, size + 1, size + 500}
	for i, all := range sizes {
		for _, key := range []string{"X: y", fmt.Sprint("Idempotency-Key: ", i)} {
			text := r.exchange(strings.Replace(withFields(key, "Connection: close"), " / ", fmt.Sprintf(" /%d ", all), 1))
			if status(text) != "200" || !strings.HasSuffix(text, "x") {
				t.Errorf("%d bytes, %s: %.100q", all, key, text)
			}
			if text := r.exchange(strings.Replace(withFields("X: y", "Connection: close"), " / ", " /next ", 1)); !strings.HasSuffix(text, "\r\n\r\nmine") {
				t.Errorf("behind %d bytes, %s: %.200q", all, key, text)
			}
		}
	}
	if want := 2 * len(sizes); b.Conns() < want {
		t.Errorf("%d connections for %d surpluses", b.Conns(), want)
	}
}

// Clients that send slowly, or break off, take no backend away, and hear that it is they
// who were late.
func TestEightBrokenUploads(t *testing.T) {
	t.Parallel()
	first, second := newRecorder(t, okay), newRecorder(t, okay)
	r := newRig(t, backendtest.OK, func(c *proxy.Config) {
		c.Upstream = upstream.Config{Backends: []string{first.origin, second.origin}, Balance: upstream.RoundRobin, EjectAfter: 2}
		c.BodyTimeout = 200 * time.Millisecond
		c.Trace.BackendDown = func(_, backend string, why error) { t.Errorf("%s is left out: %v", backend, why) }
	})
	const begun = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
	for i := range 8 {
		c, br := dial(t, r.addr)
		_ = c.SetDeadline(time.Now().Add(patience))
		send(t, c, begun)
		if i%2 == 0 { // gone
			_ = c.(*net.TCPConn).SetLinger(0) //nolint:forcetypeassert // we dialled TCP
			_ = c.Close()
			continue
		}
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 408 {
			t.Errorf("a slow client: %v, %v, want 408", resp, err)
		}
	}
	r.until("all have ended", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.outcomes[proxy.Refused] == 8
	})
	for range 4 {
		if got := status(r.exchange(ofKeyAndClose("k"))); got != "200" {
			t.Errorf("a good one: %s", got)
		}
	}
	for _, s := range r.server.Status() {
		if !s.Up || s.Active != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// person makes client certificates of one subject that differ in other names.
func (a *authority) person(change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "one name"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A certificate's e-mail names, and all others, are part of whom it names; its key and
// number are not.
func TestNamesOfCertificates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, _, _ := ca.issue("proxy", false)
	b := newRecorder(t, okay)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t}
	r.start(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}),
		&http.Transport{}, proxy.Config{Upstream: upstream.Config{Backends: []string{b.origin}}}, nil)
	as := func(key string, who tls.Certificate) int {
		client := &rig{t: t, addr: r.addr, scheme: "https", client: tlsClient(t, who)}
		return client.post(key, "x").StatusCode
	}
	names := map[string]func(name string) func(*x509.Certificate){
		"e-mail": func(name string) func(*x509.Certificate) {
			return func(c *x509.Certificate) { c.EmailAddresses = []string{name + "@example.com"} }
		},
		"DNS": func(name string) func(*x509.Certificate) {
			return func(c *x509.Certificate) { c.DNSNames = []string{name + ".example.com"} }
		},
		"IP": func(name string) func(*x509.Certificate) {
			return func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, name[0])} }
		},
		"URI": func(name string) func(*x509.Certificate) {
			return func(c *x509.Certificate) {
				c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: "/" + name}}
			}
		},
	}
	for key, named := range names {
		for i, c := range []struct {
			name string
			want int
		}{{"alice", 200}, {"alice", 200}, {"bob", 422}} {
			if got := as(key, ca.person(named(c.name))); got != c.want {
				t.Errorf("%s, certificate %d, of %s: %d, want %d", key, i, c.name, got, c.want)
			}
		}
		if got := as(key, ca.person(func(*x509.Certificate) {})); got != 422 {
			t.Errorf("%s, and none: %d, want 422", key, got)
		}
	}
	if n := len(b.requests()); n != len(names) {
		t.Errorf("%d executions, want %d", n, len(names))
	}
}

// Who is refused for the key's bound has not entered for the caller's, nor the address's.
func TestRefusedForTheKey(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan struct{}), make(chan struct{})
	b := newRecorder(t, func(q *http.Request, _ string) string {
		if q.URL.Path == "/slow" {
			entered <- struct{}{}
			<-proceed
		}
		return okay(nil, "")
	})
	r := newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) { c.MaxPerCaller, c.MaxPerAddress, c.MaxPerKey = 3, 3, 1 })
	mine := func(key string) string {
		return withFields("Authorization: me", "Idempotency-Key: "+key, "Connection: close")
	}
	r.dial(strings.Replace(mine("busy"), " / ", " /slow ", 1))
	<-entered
	for range 10 {
		if got := status(r.exchange(mine("busy"))); got != "429" {
			t.Errorf("the key's bound: %s, want 429", got)
		}
	}
	for i := range 5 {
		if got := status(r.exchange(mine(fmt.Sprint("free", i)))); got != "200" {
			t.Errorf("another key of the same caller: %s, want 200", got)
		}
	}
	proceed <- struct{}{}
	r.until("the key is free", func() bool { return status(r.exchange(mine("later"))) == "200" })
}

// Who was trusted is not any more once a reload says so, and the other way about.
func TestReloadTakesTrustBack(t *testing.T) {
	t.Parallel()
	b := newRecorder(t, okay)
	var c proxy.Config
	r := newRig(t, backendtest.OK, to(b.origin), func(cfg *proxy.Config) {
		cfg.TrustedProxies = loopback()
		c = *cfg
	})
	for i, trusted := range []bool{true, false, true, false} {
		if i > 0 {
			c.TrustedProxies = nil
			if trusted {
				c.TrustedProxies = loopback()
			}
			if err := r.server.Reload(c); err != nil {
				t.Fatal(err)
			}
		}
		r.exchange(withFields("X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: other", "X-Real-IP: 203.0.113.9", "Connection: close"))
		want := map[string]string{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "x", "X-Real-IP": ""}
		if trusted {
			want = map[string]string{"X-Forwarded-For": "203.0.113.9, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "other", "X-Real-IP": "203.0.113.9"}
		}
		for name, value := range want {
			if got := strings.Join(valuesOf(b.last(), name), "|"); got != value {
				t.Errorf("trusted %v: %s is %q, want %q", trusted, name, got, value)
			}
		}
	}
}

// The connection of a tunnel is nobody else's, during it and behind it.
func TestTunnelHasItsConnection(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	origin := rawBackend(t, func(c net.Conn, br *bufio.Reader) {
		q, err := http.ReadRequest(br)
		if err != nil || q.URL.Path != "/tunnel" {
			okayFrom(c, br, q, err)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello")
		_ = c.SetReadDeadline(time.Now().Add(patience))
		all, _ := io.ReadAll(br)
		got <- string(all)
	})
	r := newRig(t, backendtest.OK, to(origin))
	c, br := dial(t, r.addr)
	_ = c.SetDeadline(time.Now().Add(patience))
	send(t, c, "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v, %v", resp, err)
	}
	readExactly(t, br, "hello")
	for i := range 5 {
		send(t, c, fmt.Sprint("word ", i, "\n"))
		for _, key := range []string{"X: y", fmt.Sprint("Idempotency-Key: ", i)} {
			if text := r.exchange(withFields(key, "Connection: close")); status(text) != "200" {
				t.Errorf("beside it: %q", text)
			}
		}
	}
	_ = c.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // we dialled TCP
	if all := <-got; all != "word 0\nword 1\nword 2\nword 3\nword 4\n" {
		t.Errorf("the backend got %q", all)
	}
	if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v at the end", rest, err)
	}
	r.until("it has ended", func() bool { return r.server.Status()[0].Active == 0 })
	if got := status(r.exchange(ofKeyAndClose("behind"))); got != "200" {
		t.Errorf("behind it: %s", got)
	}
}

// An interim response has no length, whatever a backend says: a client would wait for
// its body.
func TestEarlyHintWithALength(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		framing string
		hints   bool
	}{{"Content-Length: 5", true}, {"content-length: 5", false}, {"Transfer-Encoding: chunked", true}, {"Transfer-Encoding: chunked", false}} {
		hints := c.hints
		b := newRecorder(t, always("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n"+c.framing+"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
		r := newRig(t, backendtest.OK, to(b.origin), func(c *proxy.Config) { c.EarlyHints = hints })
		for _, key := range []string{"X: y", "Idempotency-Key: k"} {
			text := r.exchange(withFields(key, "Connection: close"))
			hint, final := "", text
			if hints && key == "X: y" {
				hint, final, _ = strings.Cut(text, "\r\n\r\n")
				if status(hint) != "103" || !slices.Equal(valuesOf(hint, "Link"), []string{"</a>"}) {
					t.Errorf("the hint: %q", hint)
				}
			}
			for _, name := range []string{"Content-Length", "Transfer-Encoding"} {
				if values := valuesOf(hint, name); len(values) > 0 {
					t.Errorf("the hint has %s: %v", name, values)
				}
			}
			if status(final) != "200" || !strings.HasSuffix(final, "\r\n\r\nok") || !slices.Equal(valuesOf(final, "Content-Length"), []string{"2"}) {
				t.Errorf("hints %v, %s: %q", hints, key, text)
			}
		}
	}
}
