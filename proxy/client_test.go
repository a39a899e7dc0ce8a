package proxy_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/upstream"
)

// scripted is a listener that fails as told before it gives a connection.
type scripted struct {
	net.Listener
	steps []any // errors and connections
}

func (l *scripted) Accept() (net.Conn, error) {
	if len(l.steps) == 0 {
		return nil, io.EOF
	}
	step := l.steps[0]
	l.steps = l.steps[1:]
	if err, ok := step.(error); ok {
		return nil, err
	}
	return step.(net.Conn), nil //nolint:forcetypeassert // or the test is wrong
}

// addressed is a connection that comes from an address.
type addressed struct {
	net.Conn
	addr net.Addr
}

func (f addressed) RemoteAddr() net.Addr { return f.addr }

func pipeFrom(ip string) (addressed, net.Conn) {
	ours, theirs := net.Pipe()
	return addressed{ours, &net.TCPAddr{IP: net.ParseIP(ip)}}, theirs
}

// A listener waits for what is short, and ends with what is not.
func TestAcceptWaitsForWhatIsShort(t *testing.T) {
	t.Parallel()
	conn, _ := pipeFrom("192.0.2.1")
	gone := errors.New("gone")
	shortage := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	ln := proxy.Listen(&scripted{steps: []any{shortage, shortage, &net.OpError{Op: "accept", Err: syscall.ECONNABORTED}, conn, gone}}, proxy.Listening{})
	if _, err := ln.Accept(); err != nil {
		t.Errorf("it gave up: %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, gone) {
		t.Errorf("it went on: %v", err)
	}
}

// turned is what was told of a connection that was turned away.
type turned struct{ why, peer, id string }

// crowdedRig is a proxy whose clients come from where l says, and which tells whom it
// turned away.
func crowdedRig(t *testing.T, change func(*proxy.Config)) (from func(ip string) net.Conn, told <-chan turned) {
	t.Helper()
	ln := &handed{conns: make(chan net.Conn), closed: make(chan struct{})}
	all := make(chan turned, 64)
	r := &rig{t: t, backend: backendtest.Start(t, backendtest.OK)}
	r.start(ln, &http.Transport{}, proxy.Config{Upstream: upstream.Config{Backends: []string{r.backend.URL()}}}, []func(*proxy.Config){
		change, func(c *proxy.Config) {
			c.Trace.TurnedAway = func(why string, peer net.Addr, id []byte) { all <- turned{why, peer.String(), string(id)} }
		},
	})
	return func(ip string) net.Conn {
		ours, theirs := net.Pipe()
		ln.conns <- addressed{ours, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}
		return theirs
	}, all
}

// handed is a listener that is handed its connections.
type handed struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *handed) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *handed) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (*handed) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// serves says whether a connection is served, and what it gets.
func serves(t *testing.T, c net.Conn) *http.Response {
	t.Helper()
	go func() { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp
}

// isTurnedAway checks the whole answer.
func isTurnedAway(t *testing.T, resp *http.Response, told turned, status int, name, why, peer string) {
	t.Helper()
	var p struct {
		Type      string
		Status    int
		Retryable bool
	}
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Errorf("no problem: %v", err)
	}
	if resp.StatusCode != status || p.Status != status || p.Type != proxy.ProblemBase+name || !p.Retryable || !resp.Close ||
		resp.Header.Get("Retry-After") == "" || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d %+v %v", resp.StatusCode, p, resp.Header)
	}
	if id := resp.Header.Get("X-Request-Id"); len(id) != 32 || told != (turned{why, peer, id}) {
		t.Errorf("it was told %+v, and answered with id %q", told, id)
	}
}

// One customer has one IPv4 address, or a /64 of IPv6; who ends a connection may
// make another one. Who is one too many gets a problem.
func TestConnectionsOfANetwork(t *testing.T) {
	t.Parallel()
	from, told := crowdedRig(t, func(c *proxy.Config) { c.MaxClientsPerIP = 1 })
	var first net.Conn
	for _, ip := range []string{"2001:db8::1", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"} {
		c := from(ip)
		if first == nil {
			first = c
		}
		if got := serves(t, c).StatusCode; got != 200 {
			t.Errorf("%s got %d", ip, got)
		}
	}
	for ip, peer := range map[string]string{"2001:db8::2": "[2001:db8::2]:1", "::ffff:192.0.2.1": "192.0.2.1:1"} {
		resp := serves(t, from(ip))
		isTurnedAway(t, resp, <-told, 429, "too-many-clients-of-address", proxy.TooManyOfAnAddress, peer)
	}
	_ = first.Close()
	for serves(t, from("2001:db8::3")).StatusCode != 200 { // until it was noticed
		<-told
	}
}

// A balancer's connections are many clients'.
func TestConnectionsOfTrustedProxies(t *testing.T) {
	t.Parallel()
	from, told := crowdedRig(t, func(c *proxy.Config) {
		c.MaxClientsPerIP, c.TrustedProxies = 1, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	for range 3 {
		if got := serves(t, from("192.0.2.1")).StatusCode; got != 200 {
			t.Errorf("a trusted proxy got %d", got)
		}
	}
	if got := serves(t, from("198.51.100.1")).StatusCode; got != 200 {
		t.Errorf("somebody else got %d", got)
	}
	isTurnedAway(t, serves(t, from("198.51.100.1")), <-told, 429, "too-many-clients-of-address", proxy.TooManyOfAnAddress, "198.51.100.1:1")
}

// There are as many connections as may be, whoever listens; who ends one makes room.
func TestConnectionsAtLarge(t *testing.T) {
	t.Parallel()
	from, told := crowdedRig(t, func(c *proxy.Config) { c.MaxClients = 2 })
	first := from("192.0.2.1")
	for _, c := range []net.Conn{first, from("192.0.2.2")} {
		if got := serves(t, c).StatusCode; got != 200 {
			t.Errorf("got %d", got)
		}
	}
	isTurnedAway(t, serves(t, from("192.0.2.3")), <-told, 503, "too-many-clients", proxy.TooManyClients, "192.0.2.3:1")
	_ = first.Close()
	for serves(t, from("192.0.2.3")).StatusCode != 200 { // until it was noticed
		<-told
	}
}

// Who is turned away while he sends reads why, and no reset.
func TestTurnedAwayWhileSending(t *testing.T) {
	t.Parallel()
	told := make(chan struct{}, 1)
	r := newRig(t, backendtest.OK, func(c *proxy.Config) {
		c.MaxClients = 1
		c.Trace.TurnedAway = func(string, net.Addr, []byte) { told <- struct{}{} }
	})
	conn, br := dial(t, r.addr)
	send(t, conn, again)
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
		t.Fatal(err)
	}
	late, lateReader := dial(t, r.addr)
	<-told // the answer was given before anything was sent
	for range 16 {
		send(t, late, strings.Repeat("x", 16<<10))
	}
	resp, err := http.ReadResponse(lateReader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 503 || !strings.Contains(string(b), "too-many-clients") {
		t.Errorf("%d %s %v", resp.StatusCode, b, err)
	}
}

// A client whose body comes in a piece of its own must be able to send it after the
// refusal, too: if that fails, many clients (net/http among them) never look at the answer.
func TestBodyAfterARefusal(t *testing.T) {
	t.Parallel()
	begun := strings.Repeat("x", 8<<10) // fasthttp hands a request over when it has that much
	for name, head := range map[string]string{
		"malformed":  "POST http://other/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n" + begun,
		"too large":  "POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: a\r\nContent-Length: 99999999\r\n\r\n" + begun,
		"chunks":     "POST http://other/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"bad length": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := newRig(t, backendtest.OK).dial(head)
			answer, err := io.ReadAll(conn) // to the end of what the proxy sends
			if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
				t.Fatalf("%q %v", answer, err)
			}
			for i := range 100 { // on this machine, the kernel says after one whether they are refused
				if _, err := conn.Write([]byte("x")); err != nil {
					t.Fatalf("byte %d of the body: %v", i, err)
				}
			}
		})
	}
}
