package rstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
)

// TestFakeWithFaults: whatever the server does meanwhile, calls end in the bubble's time, and
// stores and connections end.
func TestFakeWithFaults(t *testing.T) {
	t.Parallel()
	for round := range 10 {
		synctest.Test(t, func(t *testing.T) {
			server := fake(t)
			stores := []*rstore.Store{onFake(t, server), onFake(t, server), onFake(t, server)}
			faults := []func(){
				server.ScriptFlush, server.FlushAll, func() { server.Restart(true) }, func() { server.Restart(false) },
				func() { server.SetReadOnly(true) }, func() { server.SetReadOnly(false) },
				func() { server.SetOOM(true) }, func() { server.SetOOM(false) },
				func() { server.Shift(time.Second) }, func() { server.Shift(-time.Second) },
			}
			var done sync.WaitGroup
			random := rand.New(rand.NewPCG(uint64(round), 1))
			for i := range 12 {
				done.Go(func() {
					for n := range 100 {
						c := claim(fmt.Sprintf("k%d", (i+n)%20))
						s := stores[i%len(stores)]
						out, err := s.Acquire(context.Background(), c)
						if err == nil && out.Kind == idem.VerdictAcquired {
							err = s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200, Body: make([]byte, 3000*(n%2))})
						}
						if err != nil && !errors.Is(err, idem.ErrUnavailable) && !errors.Is(err, idem.ErrLeaseLost) {
							t.Error(err)
						}
						if n%5 == 0 {
							_ = s.Purge(context.Background(), c.Key)
						}
						time.Sleep(time.Duration(n%7) * 10 * time.Microsecond)
					}
				})
			}
			for range 30 {
				time.Sleep(time.Duration(random.Int64N(int64(500 * time.Microsecond))))
				faults[random.IntN(len(faults))]()
			}
			server.SetOOM(false)
			server.SetReadOnly(false)
			done.Wait()
			time.Sleep(5 * time.Second)
			acquire(t, stores[0], claim("after"), idem.VerdictAcquired)
		})
	}
}
