package history

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/pstore"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// count is how many histories a test of n makes; HISTORIES multiplies that.
func count(n int) int {
	if times, err := strconv.Atoi(os.Getenv("HISTORIES")); err == nil {
		return n * times
	}
	if testing.Short() {
		return n / 10
	}
	return n
}

// firstSeed is SEED, or another one each time.
func firstSeed() uint64 {
	if seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		return seed
	}
	return rand.Uint64N(1 << 40)
}

// histories checks n of them, several at a time.
func histories(t *testing.T, n int, w world) int64 {
	t.Helper()
	return historiesFrom(t, firstSeed(), n, w)
}

// historiesFrom checks those of so many seeds.
func historiesFrom(t *testing.T, first uint64, n int, w world) int64 {
	t.Helper()
	var next, operations, failed, decided, events, undecided atomic.Int64
	stop := watches(&w)
	var wg sync.WaitGroup
	atOnce := 8
	if w.patient {
		atOnce = 12
	}
	for range atOnce {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && !t.Failed(); i = next.Add(1) - 1 {
				seed := first + uint64(i)
				history, begun, traces := record(w, seed)
				operations.Add(int64(len(history)))
				failed.Add(failures(history))
				if w.onHistory != nil {
					w.onHistory(t, begun, history)
				}
				if check(t, seed, history, w.patience()) {
					decided.Add(1)
				}
				if w.wipes != nil || w.failovers != nil {
					continue // the table does not know of what a store loses
				}
				checked, not := path(t, seed, traces)
				events.Add(checked)
				undecided.Add(not)
			}
		})
	}
	wg.Wait()
	renewals, vain := stop()
	if decided.Load() == 0 && !t.Failed() {
		t.Errorf("none of %d histories was decided: they prove nothing", n)
	}
	if mean := operations.Load() / int64(n); mean < 200 && !t.Failed() {
		t.Errorf("histories of %d operations, want 200 or more", mean)
	}
	t.Logf("figure: %d histories, %d of them decided, %d operations, %d of them failed; %d renewals, %d in vain; first seed %d; their traces, of %d events, are paths of the table and of the model, but for %d that are undecided",
		n, decided.Load(), operations.Load(), failed.Load(), renewals, vain, first, events.Load(), undecided.Load())
	if w.sound && (vain > renewals/8 || failed.Load() > operations.Load()/4) && !t.Failed() {
		t.Error("nothing is wrong with the store, and yet it does not do what it is asked")
	}
	return failed.Load()
}

// path fails the test if a trace is no path of the transition table and of the model, and
// counts the events, and the traces that are undecided: those, the other checker has.
func path(t *testing.T, seed uint64, traces *tracetest.Recorder) (events, undecided int64) {
	t.Helper()
	for _, trace := range traces.Traces() {
		events += int64(len(trace))
		if err := tracetest.Check(trace); errors.Is(err, tracetest.ErrUndecided) {
			undecided++
		} else if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
	return events, undecided
}

func closeAtEnd(t *testing.T, s interface{ Close() error }) {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestReference(t *testing.T) {
	t.Parallel()
	m := storetest.NewMemory()
	histories(t, count(120), world{processes: []store{m}})
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	s, err := estore.New(estore.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s)
	histories(t, count(120), world{processes: []store{s}, sound: true})
}

// redisProcesses are stores as two proxies have them, each with a cache of its
// own, over links of their own.
func redisProcesses(t *testing.T, addr string) (all []store, links []*toxitest.Link) {
	t.Helper()
	for range 2 {
		link := toxitest.New(t, addr)
		s, err := rstore.New(rstore.Config{URL: "redis://" + link.Addr + "/0", Timeout: 500 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, s)
		all, links = append(all, s), append(links, link)
	}
	return all, links
}

// postgresProcesses likewise.
func postgresProcesses(t *testing.T, addr string) (all []store, links []*toxitest.Link) {
	t.Helper()
	return postgresProcessesIn(t, addr, "idemproxy")
}

// postgresProcessesIn have their records in a schema.
func postgresProcessesIn(t *testing.T, addr, schema string) (all []store, links []*toxitest.Link) {
	t.Helper()
	for range 2 {
		link := toxitest.New(t, addr)
		s, err := pstore.New(pstore.Config{
			URL: "postgres://postgres@" + link.Addr + "/postgres?sslmode=disable", Schema: schema, Migrate: true, Timeout: 2 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, s)
		for deadline := time.Now().Add(time.Minute); s.Ping(t.Context()) != nil; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the store does not become ready")
			}
		}
		all, links = append(all, s), append(links, link)
	}
	return all, links
}

// isolate has transactions be isolated by one of the levels.
func isolate(t *testing.T, server *dbtest.Postgres) {
	t.Helper()
	level := []string{"read committed", "repeatable read", "serializable"}[firstSeed()%3]
	t.Logf("the level of isolation is %s", level)
	server.Do("ALTER ROLE postgres SET default_transaction_isolation = '" + level + "'")
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	isolate(t, server)
	all, _ := postgresProcesses(t, server.Addr)
	histories(t, count(120), world{processes: all, lag: time.Second, crowded: true, sound: true})
}

// The links to PostgreSQL break again and again while the histories run.
func TestPostgresUnderFaults(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	isolate(t, server)
	all, links := postgresProcesses(t, server.Addr)
	// A process connects anew sixteen times. Where that fails on and on, too many operations
	// fail, each of which may take effect later: the checker would not come to an end.
	underFaults(t, all, links, 300*time.Millisecond)
}

func TestRedis(t *testing.T) {
	t.Parallel()
	all, _ := redisProcesses(t, redistest.Start(t, "--appendfsync", "no").Addr)
	histories(t, count(120), world{processes: all, lag: time.Second, sound: true})
}

// The links to Redis break again and again while the histories run.
func TestRedisUnderFaults(t *testing.T) {
	t.Parallel()
	all, links := redisProcesses(t, redistest.Start(t, "--appendfsync", "no").Addr)
	underFaults(t, all, links, 20*time.Millisecond)
}

// underFaults has the links break while histories run, and be whole in between for so long.
func underFaults(t *testing.T, all []store, links []*toxitest.Link, whole time.Duration) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			remove := links[i%2].Add("cut", "limit_data", []string{"upstream", "downstream"}[i/2%2], `{"bytes":`+strconv.Itoa(50+i*37%2000)+`}`)
			time.Sleep(20 * time.Millisecond)
			remove()
			time.Sleep(whole)
		}
	}()
	defer func() { stop(); <-done }()
	n := count(60)
	if failed := histories(t, n, world{processes: all, lag: time.Second}); failed < int64(n)/3 {
		t.Errorf("only %d operations failed: the faults did not come through", failed)
	}
}
