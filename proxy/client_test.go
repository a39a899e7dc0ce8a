package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
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

// from is a connection that comes from an address.
type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

func pipeFrom(ip string) (from, net.Conn) {
	ours, theirs := net.Pipe()
	return from{ours, &net.TCPAddr{IP: net.ParseIP(ip)}}, theirs
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

// One customer has one IPv4 address, or a /64 of IPv6; who ends a connection may
// make another one.
func TestConnectionsOfANetwork(t *testing.T) {
	t.Parallel()
	var conns []any
	clients := map[string]net.Conn{}
	for _, ip := range []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1", "2001:db8::3"} {
		c, client := pipeFrom(ip)
		conns = append(conns, c)
		clients[ip] = client
	}
	refused := make(chan int, 2)
	for _, ip := range []string{"2001:db8::2", "::ffff:192.0.2.1"} {
		go func() {
			resp, err := http.ReadResponse(bufio.NewReader(clients[ip]), nil)
			if err != nil {
				refused <- 0
				return
			}
			refused <- resp.StatusCode
		}()
	}
	ln := proxy.Listen(&scripted{steps: conns}, proxy.Listening{MaxPerNetwork: 1})
	var first net.Conn
	for _, want := range []string{"2001:db8::1", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2", "2001:db8::3"} {
		if want == "2001:db8::3" { // of the first one's network
			_ = first.Close()
		}
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = c
		}
		if got := c.RemoteAddr().(*net.TCPAddr).IP.String(); got != want { //nolint:forcetypeassert // see pipeFrom
			t.Errorf("%s came in, want %s", got, want)
		}
	}
	for range 2 {
		if n := <-refused; n != 429 {
			t.Errorf("one too many of a network got %d", n)
		}
	}
}
