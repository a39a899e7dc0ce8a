package rstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// endpoint is a name that leads to one server and later to another, as a Service
// or a managed endpoint does: connections that there are stay where they are.
type endpoint struct {
	addr string
	to   atomic.Pointer[redistest.Server]
}

func newEndpoint(tb testing.TB, to *redistest.Server) *endpoint {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	e := &endpoint{addr: l.Addr().String()}
	e.to.Store(to)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go e.serve(conn)
		}
	}()
	return e
}

func (e *endpoint) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	server, err := net.Dial("tcp", e.to.Load().Addr)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(conn, server)
		_ = conn.Close()
	}()
	_, _ = io.Copy(server, conn)
	_ = server.Close()
}

// awaitReady waits until an acquire can succeed, for as long as tests may take.
func awaitReady(tb testing.TB, s *rstore.Store) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := s.Ping(context.Background())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("it does not become ready: %v", err)
		}
	}
}

// swapRoles makes replica the primary, without a connection being closed.
func swapRoles(primary, replica *redistest.Server) {
	host, port, _ := net.SplitHostPort(replica.Addr)
	replica.Do("REPLICAOF", "NO", "ONE")
	primary.Do("REPLICAOF", host, port)
}

// A primary that became a replica keeps its connections and refuses writes for
// ever: the store is not ready then, and finds the new one behind the same name.
func TestDemotedPrimaryIsLeft(t *testing.T) {
	t.Parallel()
	first := redistest.Start(t)
	second := redistest.Replica(t, first)
	e := newEndpoint(t, first)
	s := open(t, rstore.Config{URL: "redis://" + e.addr + "/0"})
	c := completed(t, s, "before")
	held := claim("in progress")
	if _, err := s.Acquire(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); second.Do("DBSIZE") != first.Do("DBSIZE"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the replica lacks a record")
		}
	}
	swapRoles(first, second)
	if err := s.Ping(t.Context()); !errors.Is(err, idem.ErrUnavailable) || !strings.Contains(err.Error(), e.addr) {
		t.Errorf("ping of what has become a replica: %v", err)
	}
	e.to.Store(second)
	awaitReady(t, s)
	acquire(t, s, c, idem.VerdictCompleted)
	acquire(t, s, held, idem.VerdictInProgress)
	if err := s.Complete(t.Context(), held.Lease(), &idem.Response{Status: 200}); err != nil {
		t.Errorf("completing on the new primary: %v", err)
	}
	completed(t, s, "after")
}

// Nobody asks for anything meanwhile: the store finds out by itself.
func TestIdleStoreFindsTheNewPrimary(t *testing.T) {
	t.Parallel()
	first := redistest.Start(t)
	second := redistest.Replica(t, first)
	e := newEndpoint(t, first)
	var out lines
	open(t, rstore.Config{URL: "redis://" + e.addr + "/0", Logger: zerolog.New(&out)})
	out.await(t, `"event":"store_connected"`)
	e.to.Store(second)
	swapRoles(first, second)
	out.await(t, `"event":"store_left"`)
	for deadline := time.Now().Add(time.Minute); out.count(`"event":"store_connected"`) < 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not connect to the new primary")
		}
	}
}

// Readiness is about acquires, not about an answer to PING.
func TestPingSaysWhatAnAcquireWould(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--user", "reader", "on", ">word", "~idem:*", "resetchannels", "-@all",
		"+hello", "+client", "+ping", "+select", "+script|load", "+evalsha", "+eval", "+get", "+getrange", "+pttl", "+time",
		"--user", "stranger", "on", ">word", "~other:*", "resetchannels", "+@all")
	s := open(t, rstore.Config{URL: server.URL()})
	awaitReady(t, s)
	unready := func(s *rstore.Store, want ...string) {
		t.Helper()
		err := s.Ping(t.Context())
		if !errors.Is(err, idem.ErrUnavailable) {
			t.Errorf("ping: %v, want %v", err, idem.ErrUnavailable)
			return
		}
		for _, word := range want {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("ping does not say %s: %v", word, err)
			}
		}
	}
	server.Do("CONFIG", "SET", "maxmemory", "1")
	unready(s, server.Addr, "OOM")
	server.Do("CONFIG", "SET", "maxmemory", "0")
	server.Do("CONFIG", "SET", "min-replicas-to-write", "1")
	unready(s, server.Addr, "NOREPLICAS")
	server.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	for user, says := range map[string]string{"reader": "can't run this command", "stranger": "key"} {
		limited := open(t, rstore.Config{URL: "redis://" + user + ":word@" + server.Addr + "/0"})
		unready(limited, server.Addr, says)
	}
	unready(open(t, rstore.Config{URL: server.URL(), WaitReplicas: 1}), server.Addr, "0 of 1 replicas")
	url, nodes := redistest.Cluster(t, 3)
	c := open(t, rstore.Config{URL: url, Timeout: 500 * time.Millisecond})
	awaitReady(t, c)
	for _, node := range nodes {
		if n := node.Calls()["set"]; n == 0 {
			t.Errorf("no probe went to %s", node.Addr)
		}
	}
	nodes[2].Kill()
	for range 10 { // whichever server is asked for the shards
		unready(c, nodes[2].Addr)
	}
}

// WAIT is about the writes of the connection that it comes over.
func TestWaitComesOverTheConnectionOfItsWrite(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	redistest.Replica(t, primary)
	s := open(t, rstore.Config{URL: primary.URL(), WaitReplicas: 1})
	completed(t, s, "warm-up")
	monitor, err := net.Dial("tcp", primary.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = monitor.Close() }()
	_ = monitor.SetDeadline(time.Now().Add(30 * time.Second))
	heard := bufio.NewScanner(monitor)
	_, _ = monitor.Write([]byte("MONITOR\r\n"))
	heard.Scan()
	var all sync.WaitGroup
	const n = 10
	for i := range n {
		all.Go(func() { completed(t, s, fmt.Sprint(i)) })
	}
	writes, waits := map[string]bool{}, 0
	for waits < 2*n && heard.Scan() {
		client := heard.Text()[strings.Index(heard.Text(), "["):]
		client = client[:strings.Index(client, "]")]
		switch {
		case strings.Contains(heard.Text(), `"EVALSHA"`):
			writes[client] = true
		case strings.Contains(heard.Text(), `"WAIT"`):
			if waits++; !writes[client] {
				t.Fatalf("WAIT comes over another connection than its write: %s", heard.Text())
			}
			delete(writes, client)
		}
	}
	all.Wait()
	if heard.Err() != nil || waits < 2*n {
		t.Errorf("%d waits: %v", waits, heard.Err())
	}
}

// Twenty writes that wait for a replica in vain are refused together, and hold up
// nothing that does not wait.
func TestWaitHoldsUpNobody(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	replica := redistest.Replica(t, primary)
	const timeout = time.Second
	s := open(t, rstore.Config{URL: primary.URL(), WaitReplicas: 1, Timeout: timeout})
	running := claim("running")
	if out, err := s.Acquire(t.Context(), running); err != nil || out.Kind != idem.VerdictAcquired {
		t.Fatal(out.Kind, err)
	}
	replica.Kill()
	const n = 20
	refused := make(chan error, n)
	start := time.Now()
	for i := range n {
		go func() {
			_, err := s.Acquire(context.Background(), claim(fmt.Sprint(i)))
			refused <- err
		}()
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // until they wait
		clients := primary.Do("INFO", "clients")
		text, _ := clients.ToString()
		if strings.Contains(text, fmt.Sprintf("blocked_clients:%d\r", n)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("they do not wait together: %s", text)
		}
	}
	if errs := s.Renew(t.Context(), []idem.Lease{running.Lease()}); errs[0] != nil {
		t.Errorf("a renewal: %v", errs[0])
	}
	if err := s.Release(t.Context(), running.Lease()); err != nil {
		t.Errorf("a release: %v", err)
	}
	if len(refused) != 0 {
		t.Errorf("%d waits ended before what does not wait", len(refused))
	}
	for range n {
		if err := <-refused; !errors.Is(err, idem.ErrUnavailable) {
			t.Errorf("without a replica: %v", err)
		}
	}
	if took := time.Since(start); took > n/2*timeout/2 { // one after the other it were n times half
		t.Errorf("they were refused one after the other, in %v", took)
	}
}

// All replicas are as many as there were.
func TestWaitForAllReplicas(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	redistest.Replica(t, primary)
	second := redistest.Replica(t, primary)
	s := open(t, rstore.Config{URL: primary.URL(), WaitReplicas: rstore.AllReplicas, Timeout: time.Second})
	completed(t, s, "with both")
	second.Kill()
	if _, err := s.Acquire(t.Context(), claim("with one")); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("with one of two: %v", err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, idem.ErrUnavailable) || !strings.Contains(err.Error(), "1 of 2 replicas") {
		t.Errorf("ping with one of two: %v", err)
	}
	second.Restart()
	awaitReady(t, s)
	alone := open(t, rstore.Config{URL: redistest.Start(t).URL(), WaitReplicas: rstore.AllReplicas, Timeout: 200 * time.Millisecond})
	if _, err := alone.Acquire(t.Context(), claim("k")); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("all of none: %v", err)
	}
}

// A Redis that hangs is given up after the store's time-out, not after twice that.
func TestTimeoutIsKept(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	const timeout = 2 * time.Second
	s := open(t, rstore.Config{URL: server.URL(), Timeout: timeout})
	c := completed(t, s, "warm-up")
	resume := server.Stall()
	defer resume()
	late := time.After(timeout + timeout/2)
	type end struct {
		name string
		err  error
	}
	ends := make(chan end, 7)
	calls := map[string]func() error{
		"acquire": func() error {
			_, err := s.Acquire(context.Background(), claim("k"))
			return err
		},
		"renew":    func() error { return s.Renew(context.Background(), []idem.Lease{c.Lease()})[0] },
		"complete": func() error { return s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200}) },
		"release":  func() error { return s.Release(context.Background(), c.Lease()) },
		"ping":     func() error { return s.Ping(context.Background()) },
		"get": func() error {
			_, err := s.Get(context.Background(), c.Key)
			return err
		},
		"purge": func() error { return s.Purge(context.Background(), c.Key) },
	}
	for name, call := range calls {
		go func() { ends <- end{name, call()} }()
	}
	for range calls {
		select {
		case e := <-ends:
			if !errors.Is(e.err, idem.ErrUnavailable) {
				t.Errorf("%s: %v", e.name, e.err)
			}
		case <-late:
			t.Fatal("a call goes on after the time-out")
		}
	}
}

func TestOldVersionsAreTold(t *testing.T) {
	t.Parallel()
	for version, old := range map[string]bool{
		"7.0.4": true, "6.2.14": true, "7.0.5": false, "7.0.15": false, "7.2.0": false, "8.0.0": false, "": false, "255.255.255": false,
	} {
		if rstore.OlderThan(version) != old {
			t.Errorf("%q is older than the least: %v, want %v", version, !old, old)
		}
	}
}
