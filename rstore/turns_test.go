package rstore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// acquireAll acquires n keys at once, and returns what became of each.
func acquireAll(tb testing.TB, s *rstore.Store, name string, n int) (claims []idem.Claim, errs []error) {
	tb.Helper()
	claims, errs = make([]idem.Claim, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		claims[i] = claim(fmt.Sprintf("%s-%d", name, i))
		wg.Go(func() { _, errs[i] = s.Acquire(tb.Context(), claims[i]) })
	}
	wg.Wait()
	return claims, errs
}

// certain is how many of the errors say that nothing was done.
func certain(errs []error) (n int) {
	for _, err := range errs {
		if errors.Is(err, idem.ErrRefused) {
			n++
		}
	}
	return n
}

// More calls wait for replicas than have a connection. Those that get none in their time
// have sent nothing, and say so; and there never are more connections.
func TestP5WhoGetsNoConnectionHasSentNothing(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	replica := redistest.Replica(t, primary)
	const timeout, calls, rounds = 600 * time.Millisecond, 4 * rstore.MaxWaiting, 3
	s := open(t, rstore.Config{URL: primary.URL(), WaitReplicas: 1, Timeout: timeout})
	completed(t, s, "warm-up")
	// Each write has its connection for half of the time-out. So in each round every connection
	// serves two writes, and a third one whose call began last.
	resume := replica.Stall()
	defer resume() // which may be repeated
	for round := range rounds {
		claims, errs := acquireAll(t, s, fmt.Sprint(round), calls)
		if n := certain(errs); n < calls-3*rstore.MaxWaiting {
			t.Errorf("round %d: %d of %d calls say that nothing was sent, want %d", round, n, calls, calls-3*rstore.MaxWaiting)
		}
		exist := []string{"EXISTS"}
		for i, err := range errs {
			if !errors.Is(err, idem.ErrUnavailable) {
				t.Errorf("without the replica: %v", err)
			}
			if errors.Is(err, idem.ErrRefused) {
				exist = append(exist, s.Name(claims[i].Key))
			}
		}
		if n := number(t, primary, append(exist, "none")...); n != 0 {
			t.Errorf("round %d: %d keys are there for which nothing was sent", round, n)
		}
	}
	// The store's other connection, and those of this test.
	if n := primary.Clients(); n > rstore.MaxWaiting+8 {
		t.Errorf("%d connections, want %d and a few", n, rstore.MaxWaiting)
	}
	resume()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // it may still be behind
		_, errs := acquireAll(t, s, fmt.Sprint("after", time.Now().UnixNano()), 2)
		if errors.Join(errs...) == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("with the replica again: %v", errs)
		}
	}
}

// A call that needs a new connection, which a server that stands still does not greet, has
// sent nothing either.
func TestP5WhoIsNotGreetedHasSentNothing(t *testing.T) {
	t.Parallel()
	cluster, nodes := redistest.Cluster(t, 3)
	single := redistest.Start(t)
	for name, c := range map[string]struct {
		url     string
		servers []*redistest.Server
	}{"one server": {single.URL(), []*redistest.Server{single}}, "a Cluster": {cluster, nodes}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const calls = 40
			s := open(t, rstore.Config{URL: c.url, WaitReplicas: 1, Timeout: 500 * time.Millisecond})
			if _, err := s.Acquire(t.Context(), claim("warm-up")); !errors.Is(err, idem.ErrUnavailable) {
				t.Fatalf("without a replica: %v", err)
			}
			for _, server := range c.servers {
				defer server.Stall()()
			}
			_, errs := acquireAll(t, s, "k", calls)
			// The warm-up's connection is idle, and the first call gets it.
			if n := certain(errs); n < calls-1 {
				t.Errorf("%d of %d calls say that nothing was sent, want %d: %v", n, calls, calls-1, errs)
			}
		})
	}
}

// A call that needed a new connection, and whose commands left over it, may have been executed:
// it is in doubt without an answer.
func TestP5WhoIsNotAnsweredMayHaveSent(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	redistest.Replica(t, primary)
	other := open(t, rstore.Config{URL: primary.URL()})
	completed(t, other, "warm-up") // loads the scripts
	const timeout = 2 * time.Second
	liar := redistest.NewLiar(t, primary.Addr, func(command []string) redistest.Lie {
		if strings.EqualFold(command[0], "EVALSHA") {
			return redistest.Lie{Late: timeout + timeout/2}
		}
		return redistest.Lie{}
	})
	s, c := open(t, rstore.Config{URL: "redis://" + liar.Addr + "/0", WaitReplicas: 1, Timeout: timeout}), claim("k")
	if _, err := s.Acquire(t.Context(), c); !errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused) {
		t.Errorf("without an answer: %v, want it to be in doubt", err)
	}
	acquire(t, other, c, idem.VerdictInProgress)
}

// BenchmarkWaitReplicas is the price of a key whose every write waits for a replica.
func BenchmarkWaitReplicas(b *testing.B) {
	primary := redistest.Start(b, "--appendonly", "no")
	redistest.Replica(b, primary, "--appendonly", "no")
	s := open(b, rstore.Config{URL: primary.URL(), WaitReplicas: 1})
	for _, callers := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			names := make(chan int, callers)
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for i := range names {
						c := claim(fmt.Sprintf("%s-%d-%d", b.Name(), b.N, i))
						_, err := s.Acquire(b.Context(), c)
						if err = errors.Join(err, s.Complete(b.Context(), c.Lease(), &idem.Response{Status: 200})); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for i := range b.N {
				names <- i
			}
			close(names)
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "keys/s")
		})
	}
}
