package proxy_test

import (
	"net"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/upstream"
)

// A server that was shut down before it serves, as by a signal during the start, does not
// begin to: Serve ends, and nobody can connect.
func TestShutdownBeforeServe(t *testing.T) {
	t.Parallel()
	engine := idem.NewEngine(idem.Config{Store: storetest.NewMemory()})
	t.Cleanup(func() { engine.Close(t.Context()) })
	s, err := proxy.New(proxy.Config{Engine: engine, Upstream: upstream.Config{Backends: []string{"http://127.0.0.1:1"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it serves after its end")
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("a client can connect")
	}
}
