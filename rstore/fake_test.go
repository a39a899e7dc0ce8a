package rstore_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/fakeredis"
)

const fakeURL = "redis://redis.test:6379/0"

// onFake opens a store on a Redis of the bubble.
func onFake(tb testing.TB, server *fakeredis.Server) *rstore.Store {
	tb.Helper()
	return open(tb, rstore.Config{URL: fakeURL, Dial: server.Dial})
}

func fake(tb testing.TB) *fakeredis.Server {
	tb.Helper()
	server := fakeredis.New()
	tb.Cleanup(server.Close)
	return server
}

// TestFakeInABubble: what one process does, the others hear of, and leases lapse in the
// bubble's time.
func TestFakeInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := fake(t)
		s, other := onFake(t, server), onFake(t, server)
		c := completed(t, s, "k")
		acquire(t, s, c, idem.VerdictCompleted)
		if out := acquire(t, s, c, idem.VerdictCompleted); !out.Local {
			t.Error("the second replay is not local")
		}
		if err := other.Purge(context.Background(), c.Key); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		acquire(t, s, c, idem.VerdictAcquired)
		acquire(t, other, c, idem.VerdictInProgress)
		time.Sleep(c.TTL - time.Second)
		acquire(t, other, c, idem.VerdictInProgress)
		time.Sleep(2 * time.Second)
		acquire(t, other, c, idem.VerdictAcquired)
	})
}

// TestFakeTellsOfWhatExpires: whoever has read a record hears that it has ended, although
// nobody asks for it any more.
func TestFakeTellsOfWhatExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := fake(t)
		s, other := onFake(t, server), onFake(t, server)
		c := claim("k")
		acquire(t, other, c, idem.VerdictAcquired)
		acquire(t, s, c, idem.VerdictInProgress)
		var told atomic.Int64
		s.OnChange(func([16]byte) { told.Add(1) })
		for want, passed := range []time.Duration{c.TTL + c.Retention - time.Second, 2 * time.Second} {
			time.Sleep(passed)
			synctest.Wait()
			if n := told.Load(); n != int64(want) {
				t.Errorf("it is told of %d changes, want %d", n, want)
			}
		}
	})
}

// severable is a network between one store and a server of the bubble.
type severable struct {
	server *fakeredis.Server

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (n *severable) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut {
		return nil, errors.New("the network is cut")
	}
	conn, err := n.server.Dial(ctx, network, addr)
	n.conns = append(n.conns, conn)
	return conn, err
}

func (n *severable) sever() (mend func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = true
	for _, conn := range n.conns {
		_ = conn.Close()
	}
	n.conns = nil
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.cut = false
	}
}

// onSeverable remembers how a store was made, for the harness to make another.
type onSeverable struct {
	*rstore.Store
	network *severable
}

func (s onSeverable) again(tb testing.TB) onSeverable {
	return onSeverable{open(tb, rstore.Config{URL: fakeURL, Dial: s.network.dial}), s.network}
}

// TestContractOnTheFake runs each clause in a bubble of its own, on a server of its own.
func TestContractOnTheFake(t *testing.T) {
	t.Parallel()
	h := storetest.Harness{
		New: func(tb testing.TB) storetest.Store {
			return onSeverable{network: &severable{server: fake(tb)}}.again(tb)
		},
		Tick: 60 * time.Millisecond,
		Pass: time.Sleep,
		Second: func(tb testing.TB, first storetest.Store) storetest.Store {
			return first.(onSeverable).again(tb) //nolint:forcetypeassert // ours
		},
		Reopen: func(tb testing.TB, old storetest.Store) storetest.Store {
			o := old.(onSeverable) //nolint:forcetypeassert // ours
			_ = o.Close()
			return o.again(tb)
		},
		Sever:     func(s storetest.Store) func() { return s.(onSeverable).network.sever() }, //nolint:forcetypeassert // ours
		Histories: 20,
	}
	if missing := h.Missing(t); len(missing) != 0 {
		t.Fatalf("the harness lacks %v", missing)
	}
	for _, c := range storetest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if err := c.Check(t, h); err != nil {
					t.Errorf("%s: %s: %v", c.Promise, c.Explanation, err)
				}
			})
		})
	}
}
