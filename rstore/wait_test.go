package rstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// Waiters in another process are woken by Redis: the leases here are of an
// hour, so that no timer can have done it, and fifty waiters cost a few scripts.
func TestWaitersElsewhereAreWoken(t *testing.T) {
	t.Parallel()
	cluster, _ := redistest.Cluster(t, 3)
	for name, url := range map[string]string{"one server": "redis://" + redistest.Start(t).Addr + "/0", "a Cluster": cluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, there := open(t, rstore.Config{URL: url}), open(t, rstore.Config{URL: url})
			waiting := make(chan int, 1000)
			one := idem.NewEngine(idem.Config{Store: here})
			other := idem.NewEngine(idem.Config{Store: there, Trace: idem.Trace{Waiting: func(d int) { waiting <- d }}})
			defer one.Close(context.Background())
			defer other.Close(context.Background())
			policy := idem.Policy{TTL: time.Hour, Heartbeat: time.Minute, Retention: time.Hour}
			key, err := idem.ParseKey("waited for")
			if err != nil {
				t.Fatal(err)
			}
			q := idem.Request{Key: key, Policy: &policy}

			_, first, err := one.Begin(t.Context(), q)
			if err != nil || first == nil {
				t.Fatal(err)
			}
			const n = 50
			type result struct {
				out     idem.Outcome
				attempt *idem.Attempt
				err     error
			}
			got := make(chan result, n)
			for range n {
				go func() {
					out, attempt, err := other.Begin(t.Context(), q)
					if err == nil && out.Kind == idem.VerdictInProgress {
						out, attempt, err = other.Wait(t.Context(), q, out)
					}
					got <- result{out, attempt, err}
				}()
			}
			for range n {
				<-waiting
			}
			// Whatever frees the key: the failure of one attempt, the end of the
			// next, which a waiter made.
			first.Finish(idem.NothingSent, nil)
			second := <-got
			if second.attempt == nil {
				t.Fatalf("a waiter got %v, %v", second.out.Kind, second.err)
			}
			second.attempt.Finish(idem.Answered, &idem.Response{Status: 200, Body: []byte("ok")})
			for range n - 1 {
				if r := <-got; r.err != nil || r.out.Kind != idem.VerdictCompleted {
					t.Fatalf("a waiter got %v, %v", r.out.Kind, r.err)
				}
			}
		})
	}
}

// An operator's purge wakes them, too, in the process that does it and in others.
func TestPurgeWakes(t *testing.T) {
	t.Parallel()
	url := "redis://" + redistest.Start(t).Addr + "/0"
	here, there := open(t, rstore.Config{URL: url}), open(t, rstore.Config{URL: url})
	told := make(chan [16]byte, 10)
	for _, s := range []*rstore.Store{here, there} {
		s.OnChange(func(id [16]byte) { told <- id })
		c := claim("purged")
		if _, err := s.Acquire(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	key := claim("purged").Key
	if err := here.Purge(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case id := <-told:
			if id != key.ID() {
				t.Errorf("told of %x", id)
			}
		case <-time.After(time.Minute):
			t.Fatal("nobody was told")
		}
	}
}
