package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/pstore"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// spans are times at which something befell all keys.
type spans struct {
	mu  sync.Mutex
	all [][2]time.Time // from and to; guarded by mu
}

// during has something happen, and says when: also while it does, since a history may end meanwhile.
func (s *spans) during(happen func()) {
	s.mu.Lock()
	s.all = append(s.all, [2]time.Time{time.Now()})
	s.mu.Unlock()
	happen()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[len(s.all)-1][1] = time.Now()
}

// since are those that had not ended when a history began, on its clock. What has not ended yet
// ends now.
func (s *spans) since(begun time.Time) (all [][2]time.Duration) {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.all {
		if at[1].IsZero() {
			at[1] = time.Now()
		}
		if !at[1].Before(begun) {
			all = append(all, [2]time.Duration{at[0].Sub(begun), at[1].Sub(begun)})
		}
	}
	return all
}

// wiped adds to a history what has befallen all keys meanwhile.
func (r *recorder) wiped(w *spans) {
	for _, at := range w.since(r.begun) {
		for key := range keys {
			r.add(clients, asked{kind: wipe, key: key, process: -1, call: at[0], ret: at[1]}, told{})
		}
	}
}

// lossTimeout is for how long stores wait in histories of losses. A process that hears no
// notification answers from its memory for twice that and a second, at most.
const lossTimeout = 500 * time.Millisecond

// losses has what lies between two processes and their server be lost and come back while
// patient histories run: connections, packets that arrive when nobody waits for them any more,
// and all records at once.
func losses(t *testing.T, all []store, links []*toxitest.Link, wipings []func()) {
	t.Helper()
	seed := firstSeed()
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("the losses' seed is %d", seed)
	ctx, stop := context.WithCancel(context.Background())
	done, told := make(chan struct{}), map[string]int{}
	w := world{processes: all, lag: time.Second, wipeLag: 2*lossTimeout + 500*time.Millisecond, patient: true, wipes: &spans{}}
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			link := links[r.IntN(len(links))]
			switch r.IntN(5) {
			case 0, 1:
				mend := link.Cut()
				pause(ctx, time.Duration(20+r.IntN(130))*time.Millisecond)
				mend()
				told["cuts"]++
			case 2, 3:
				// Longer than anybody waits, and than a claim may be granted.
				for range 1 + r.IntN(2) {
					mend := link.Add("late", "latency", "upstream", fmt.Sprintf(`{"latency":%d}`, 550+r.IntN(200)))
					pause(ctx, 800*time.Millisecond)
					mend()
				}
				told["stalls"]++
			default:
				w.wipes.during(wipings[r.IntN(len(wipings))])
				told["wipes"]++
			}
			pause(ctx, time.Duration(100+r.IntN(500))*time.Millisecond)
		}
	}()
	histories(t, count(8), w)
	stop()
	<-done
	t.Logf("figure: losses: %v", told)
}

func TestRedisLosses(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendfsync", "no")
	var all []store
	var links []*toxitest.Link
	for range 2 {
		link := toxitest.New(t, server.Addr)
		s, err := rstore.New(rstore.Config{URL: "redis://" + link.Addr + "/0", Timeout: lossTimeout})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, s)
		all, links = append(all, s), append(links, link)
	}
	losses(t, all, links, []func(){func() { server.Do("FLUSHALL") }})
}

func TestPostgresLosses(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	var all []store
	var links []*toxitest.Link
	for range 2 {
		link := toxitest.New(t, server.Addr)
		s, err := pstore.New(pstore.Config{
			URL:    "postgres://postgres@" + link.Addr + "/postgres?sslmode=disable",
			Schema: "s", Migrate: true, Timeout: lossTimeout,
		})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, s)
		awaitReady(t, s)
		all, links = append(all, s), append(links, link)
	}
	losses(t, all, links, []func(){func() { server.Do("TRUNCATE s.record") }, server.Backup(t, "s")})
}

func awaitReady(t *testing.T, s idem.Store) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); s.Ping(t.Context()) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the store does not become ready")
		}
	}
}
