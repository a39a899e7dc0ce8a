package proxy_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
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

// A server that has ended leaves no connection to its backends open.
func TestShutdownLeavesNoConnection(t *testing.T) {
	t.Parallel()
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	var open atomic.Int64
	backend.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	backend.Start()
	t.Cleanup(backend.Close)
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.Upstream.Backends = []string{backend.URL} })
	if a := r.post("k", "x"); a.StatusCode != 200 || open.Load() != 1 {
		t.Fatalf("%d over %d connections", a.StatusCode, open.Load())
	}
	r.client.CloseIdleConnections()
	if err := r.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.until("its connection is closed", func() bool { return open.Load() == 0 })
}
