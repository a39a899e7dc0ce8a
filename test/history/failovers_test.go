package history

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// pair is two servers of which one follows the other, each over a link of its own, and an
// address that leads to the primary.
type pair struct {
	t       *testing.T
	rand    *rand.Rand
	servers [2]*redistest.Server
	links   [2]*toxitest.Link // to each, for the other one
	at      int               // the primary
	address *redistest.Liar
}

func newPair(t *testing.T, seed uint64) *pair {
	t.Helper()
	p := &pair{t: t, rand: rand.New(rand.NewPCG(seed, 0))}
	for i := range p.servers {
		p.servers[i] = redistest.Start(t, "--appendfsync", "no", "--repl-diskless-sync-delay", "0")
		p.links[i] = toxitest.New(t, p.servers[i].Addr)
	}
	p.address = redistest.NewLiar(t, p.servers[0].Addr, func([]string) redistest.Lie { return redistest.Lie{} })
	p.follow()
	return p
}

// follow has the other server follow the primary, and waits until it is in step.
func (p *pair) follow() {
	p.t.Helper()
	host, port, _ := net.SplitHostPort(p.links[p.at].Addr)
	p.servers[1-p.at].Do("REPLICAOF", host, port)
	p.inStep()
}

func (p *pair) inStep() {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !p.servers[p.at].HasReplica(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatal("the replica does not get in step")
		}
	}
}

// failover replaces the primary while it has what the replica lacks. In whatever order the
// proxy hears of it, nobody but one is the primary in the end.
func (p *pair) failover(ctx context.Context) {
	p.t.Helper()
	old, next := p.servers[p.at], p.servers[1-p.at]
	mend := p.links[p.at].Cut()
	pause(ctx, time.Duration(20+p.rand.IntN(200))*time.Millisecond)
	next.Do("REPLICAOF", "NO", "ONE")
	p.at = 1 - p.at
	host, port, _ := net.SplitHostPort(p.links[p.at].Addr)
	demote := func() { old.Do("REPLICAOF", host, port) }
	lead := func() { p.address.Lead(next.Addr) }
	acts := []func(){demote, lead}
	if p.rand.IntN(2) == 0 {
		acts = []func(){lead, demote}
	}
	acts[0]()
	pause(ctx, time.Duration(p.rand.IntN(300))*time.Millisecond)
	acts[1]()
	mend()
}

// failovers checks histories of one proxy whose primary is replaced again and again.
func failovers(t *testing.T, c rstore.Config, w world) {
	t.Helper()
	seed := firstSeed()
	t.Logf("the failovers' seed is %d", seed)
	p := newPair(t, seed)
	c.URL, c.Timeout = "redis://"+p.address.Addr+"/0", lossTimeout
	c.Logger = tellIfFailed(t)
	s, err := rstore.New(c)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s)
	awaitReady(t, s)
	w.processes, w.patient, w.lasting, w.failovers = []store{s}, true, true, &spans{}
	ctx, stop := context.WithCancel(context.Background())
	done, n := make(chan struct{}), 0
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			pause(ctx, time.Duration(500+p.rand.IntN(1000))*time.Millisecond)
			w.failovers.during(func() { p.failover(ctx) })
			n++
			awaitReady(t, s)
			p.inStep()
		}
	}()
	histories(t, count(12), w)
	stop()
	<-done
	t.Logf("figure: %d failovers", n)
}

// tellIfFailed keeps what a store logs, for a test that fails.
func tellIfFailed(t *testing.T) zerolog.Logger {
	t.Helper()
	var text bytes.Buffer
	t.Cleanup(func() { // after the store was closed
		if t.Failed() {
			t.Logf("the store's log:\n%s", text.Bytes())
		}
	})
	return zerolog.New(zerolog.SyncWriter(&text)).Level(zerolog.WarnLevel).With().Timestamp().Logger()
}

// Whatever one proxy was told, its journal brings to the next primary.
func TestRedisFailovers(t *testing.T) {
	t.Parallel()
	failovers(t, rstore.Config{Journal: time.Hour, JournalBytes: 64 << 20}, world{})
}

// What the replica has is not lost, without a journal.
func TestRedisReplicatedFailovers(t *testing.T) {
	t.Parallel()
	failovers(t, rstore.Config{WaitReplicas: 1, Journal: -1}, world{replicated: true})
}

// A history may end while its primary is being replaced.
func TestWhatHasNotEndedIsToldOf(t *testing.T) {
	t.Parallel()
	var s spans
	begun := time.Now()
	for n := range 2 {
		s.during(func() {
			if all := s.since(begun); len(all) != n+1 || all[n][1] < all[n][0] {
				t.Errorf("during the span after %d others, there are %v", n, all)
			}
		})
	}
	if all := s.since(time.Now().Add(time.Second)); len(all) != 0 {
		t.Errorf("later there are %v", all)
	}
}
