package history

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// One process on a Cluster, of which a part stands still for longer than a lease lasts, and a
// call waits for less than that. The leases of the other parts are kept. A machine that stands still
// itself loses some of them, so it counts how many.
func TestClusterThatStandsStillInPart(t *testing.T) {
	t.Parallel()
	seed := firstSeed()
	t.Logf("the seed is %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	url, nodes := redistest.Cluster(t, 3)
	for _, node := range nodes {
		node.Do("CONFIG", "SET", "cluster-node-timeout", "60000") // nobody takes its place, or is taken for down as well
	}
	policy := idem.Policy{
		TTL: 3 * time.Second, Heartbeat: time.Second, Retention: time.Hour, OnAmbiguous: idem.AmbiguousHold,
	}
	s, err := rstore.New(rstore.Config{URL: url, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s)
	awaitReady(t, s)
	engine := idem.NewEngine(idem.Config{Store: s, AcquireWithin: policy.TTL})
	running := begun(t, engine, &policy, r)
	still := nodes[r.IntN(len(nodes))]
	var elsewhere []*idem.Attempt
	for _, attempt := range running[:sample] {
		id := attempt.Key().ID()
		if still.Try("STRLEN", "idem:"+hex.EncodeToString(id[:])) != nil { // MOVED
			elsewhere = append(elsewhere, attempt)
		}
	}
	resume := sync.OnceFunc(still.Stall())
	defer resume()
	pause(t.Context(), 2*policy.TTL+time.Duration(r.IntN(1000))*time.Millisecond)
	lost := 0
	for _, attempt := range elsewhere {
		if record, err := s.Get(t.Context(), attempt.Key()); err != nil || record.State != idem.InProgress || record.Owner != attempt.Owner() {
			lost++
		}
	}
	resume()
	t.Logf("figure: a part of a Cluster stood still: of %d leases of %d, %d are elsewhere, of which %d lapsed", sample, len(running), len(elsewhere), lost)
	if len(elsewhere) < sample/4 || lost > len(elsewhere)/2 {
		t.Error("leases that the part had nothing to do with lapsed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var ending sync.WaitGroup
	for _, attempt := range running {
		ending.Go(func() { attempt.Finish(idem.Answered, &idem.Response{Status: 200}) })
	}
	ending.Wait()
	engine.Close(ctx)
}

// A process holds more leases than it renews in one call; of a sample it is known where they are.
const leases, sample = 4096, 60

// begun are attempts that run.
func begun(t *testing.T, engine *idem.Engine, policy *idem.Policy, r *rand.Rand) (running []*idem.Attempt) {
	t.Helper()
	prefix, next, got := r.Uint64(), make(chan int), make(chan *idem.Attempt, leases)
	var beginning sync.WaitGroup
	for range 32 {
		beginning.Go(func() {
			for i := range next {
				key, err := idem.ParseKey(fmt.Sprintf("shard-%d-%d", prefix, i))
				if err != nil {
					t.Error(err)
					continue
				}
				_, attempt, err := engine.Begin(t.Context(), idem.Request{Key: key, Policy: policy})
				if err != nil || attempt == nil {
					t.Errorf("a new key: %v, %v", attempt, err)
					continue
				}
				got <- attempt
			}
		})
	}
	for i := range leases {
		next <- i
	}
	close(next)
	beginning.Wait()
	close(got)
	for attempt := range got {
		running = append(running, attempt)
	}
	if len(running) < leases {
		t.FailNow()
	}
	r.Shuffle(leases, func(i, j int) { running[i], running[j] = running[j], running[i] })
	return running
}
