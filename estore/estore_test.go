package estore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
)

// open opens a store that has more patience with a busy disk than by default, unless the test says how much.
func open(tb testing.TB, c estore.Config) *estore.Store {
	tb.Helper()
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	s, err := estore.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func harness() storetest.Harness {
	return storetest.Harness{
		New: func(tb testing.TB) storetest.Store {
			return open(tb, estore.Config{Dir: tb.TempDir()})
		},
		Tick: 40 * time.Millisecond,
		Pass: time.Sleep,
		// One process: its other clients are its own goroutines.
		Second: func(_ testing.TB, first storetest.Store) storetest.Store { return first },
		Reopen: func(tb testing.TB, old storetest.Store) storetest.Store {
			dir := old.(*estore.Store).Dir()
			if err := old.Close(); err != nil {
				tb.Fatal(err)
			}
			return open(tb, estore.Config{Dir: dir})
		},
		Histories: 20,
	}
}

func TestContract(t *testing.T) {
	t.Parallel()
	h := harness()
	if missing := h.Missing(t); len(missing) != 1 || missing[0] != "Sever" {
		t.Fatalf("the harness lacks %v; only Sever has no meaning for a disk", missing)
	}
	storetest.Run(t, h)
}

func ExampleNew() {
	dir, _ := os.MkdirTemp("", "estore")
	defer func() { _ = os.RemoveAll(dir) }()
	store, err := estore.New(estore.Config{Dir: dir})
	if err != nil {
		panic(err)
	}
	defer func() { _ = store.Close() }()

	ctx := context.Background()
	key, _ := idem.ParseKey("order-42")
	claim := idem.Claim{Key: key, Owner: idem.NewOwner(), TTL: 30 * time.Second, Retention: 24 * time.Hour}
	first, _ := store.Acquire(ctx, claim)
	_ = store.Complete(ctx, claim.Lease(), &idem.Response{Status: 201})
	claim.Owner = idem.NewOwner()
	second, _ := store.Acquire(ctx, claim)
	fmt.Println(first.Kind, second.Kind, second.Response.Status)
	// Output: acquired completed 201
}

func claim(name string) idem.Claim {
	key, err := idem.ParseKey(name)
	if err != nil {
		panic(err)
	}
	return idem.Claim{Key: key, Owner: idem.NewOwner(), TTL: time.Minute, Retention: time.Hour}
}

func acquire(tb testing.TB, s *estore.Store, c idem.Claim) idem.Outcome {
	tb.Helper()
	out, err := s.Acquire(context.Background(), c)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open(t, estore.Config{Dir: dir})
	if _, err := estore.New(estore.Config{Dir: dir}); !errors.Is(err, estore.ErrInUse) {
		t.Errorf("got %v, want %v", err, estore.ErrInUse)
	}
}

func TestUnusableDirectoryIsAClearError(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := estore.New(estore.Config{Dir: file}); err == nil || errors.Is(err, estore.ErrInUse) {
		t.Errorf("a file in place of the directory: %v", err)
	}
}

// A lease that ran when the process died starts anew at the reopening, whatever
// time has passed: the backend may still be at work.
func TestP1LeaseStartsAnewAfterACrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := open(t, estore.Config{Dir: dir})
	c := claim("k")
	c.TTL = 300 * time.Millisecond
	acquire(t, first, c)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * c.TTL)
	second := open(t, estore.Config{Dir: dir})
	rival := c
	rival.Owner = idem.NewOwner()
	if out := acquire(t, second, rival); out.Kind != idem.VerdictInProgress {
		t.Errorf("right after reopening: %v, want in-progress", out.Kind)
	}
	time.Sleep(2 * c.TTL)
	if out := acquire(t, second, rival); out.Kind != idem.VerdictAcquired || out.Attempt != 2 {
		t.Errorf("after the lease: %v, attempt %d, want acquired, 2", out.Kind, out.Attempt)
	}
}

func TestDiskLowFailsClosed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, estore.Config{Dir: dir, MinFreeBytes: 1 << 62})
	_, err := s.Acquire(context.Background(), claim("k"))
	if !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) || !errors.Is(err, estore.ErrDiskLow) {
		t.Errorf("acquire: %v", err)
	}
	// The check of the store says which disk it is: it is what people read.
	if err := s.Ping(context.Background()); !errors.Is(err, estore.ErrDiskLow) || !strings.Contains(err.Error(), dir) {
		t.Errorf("ping: %v", err)
	}
}

func TestExpiredSpaceComesBack(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir(), SweepEvery: time.Hour})
	body := make([]byte, 8<<10)
	for i := range 4000 {
		c := claim(fmt.Sprint(i))
		c.Retention = time.Millisecond
		body[0] = byte(i)
		acquire(t, s, c)
		if err := s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	kept := claim("kept")
	acquire(t, s, kept)
	if err := s.Complete(context.Background(), kept.Lease(), &idem.Response{Status: 200}); err != nil {
		t.Fatal(err)
	}
	s.Flush(t)
	before := s.Size()
	time.Sleep(5 * time.Millisecond)
	if n := s.SweepNow(t); n != 4000 {
		t.Errorf("%d records swept, want 4000", n)
	}
	s.Flush(t)
	if after := s.Size(); after > before/4 {
		t.Errorf("%d bytes before, %d after", before, after)
	}
	kept.Owner = idem.NewOwner()
	if out := acquire(t, s, kept); out.Kind != idem.VerdictCompleted {
		t.Errorf("what had not expired: %v", out.Kind)
	}
}

// An abandoned lease is swept with its retention, and not before.
func TestAbandonedLeaseIsSwept(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir(), SweepEvery: time.Hour})
	c := claim("k")
	c.TTL, c.Retention = 10*time.Millisecond, 10*time.Millisecond
	acquire(t, s, c)
	acquire(t, s, claim("running"))
	time.Sleep(40 * time.Millisecond)
	if n := s.SweepNow(t); n != 1 {
		t.Errorf("%d records swept, want the one that was abandoned", n)
	}
}

// With an abandoned lease all that was known of the key ends: what was settled before does not
// come back when the lease is swept, and the next attempt is the first one.
func TestAbandonedLeaseTakesWhatWasBefore(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir(), SweepEvery: time.Hour})
	first := claim("k")
	acquire(t, s, first)
	if err := s.Release(t.Context(), first.Lease()); err != nil {
		t.Fatal(err)
	}
	second := rivalOf(first)
	second.TTL, second.Retention = 10*time.Millisecond, 10*time.Millisecond
	if out := acquire(t, s, second); out.Attempt != 2 {
		t.Fatalf("attempt %d", out.Attempt)
	}
	for s.SweepNow(t) == 0 { // until the lease and its retention have ended
		time.Sleep(5 * time.Millisecond)
	}
	if out := acquire(t, s, rivalOf(second)); out.Attempt != 1 {
		t.Errorf("after the end of all that was known: attempt %d", out.Attempt)
	}
}

// BenchmarkAcquireComplete is a new key from acquire to completion, by 32 callers a
// core, on a disk. Its floor is BenchmarkFloor.
func BenchmarkAcquireComplete(b *testing.B) {
	for _, size := range []int{300, 16 << 10, 256 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) { acquireAndComplete(b, size) })
	}
}

func acquireAndComplete(b *testing.B, size int) {
	b.Helper()
	s := open(b, estore.Config{Dir: b.TempDir()})
	body := make([]byte, size)
	run := fmt.Sprint(time.Now().UnixNano())
	b.SetParallelism(32)
	b.ReportAllocs()
	cpu := cpuTime(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		mine := fmt.Sprintf("%s-%x", run, idem.NewOwner())
		for i := 0; pb.Next(); i++ {
			c := claim(fmt.Sprint(mine, i))
			if out := acquire(b, s, c); out.Kind != idem.VerdictAcquired {
				b.Fatalf("key %d: %v", i, out.Kind)
			}
			if err := s.Complete(b.Context(), c.Lease(), &idem.Response{Status: 200, Body: body}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/1000, "cpu-us/op")
}

func BenchmarkReplay(b *testing.B) {
	s := open(b, estore.Config{Dir: b.TempDir()})
	c := claim("k")
	acquire(b, s, c)
	if err := s.Complete(b.Context(), c.Lease(), &idem.Response{Status: 200, Body: make([]byte, 300)}); err != nil {
		b.Fatal(err)
	}
	c.Owner = idem.NewOwner()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if out := acquire(b, s, c); out.Kind != idem.VerdictCompleted {
				b.Fatal(out.Kind)
			}
		}
	})
}

// A response that is larger than all that the cache may have is not kept in it, not even
// for a moment: each replay reads it.
func TestCacheKeepsNothingLargerThanItself(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: t.TempDir(), CacheBytes: 1})
	for i := range 20 {
		c := claim(fmt.Sprintf("key-%d", i))
		acquire(t, s, c)
		complete(t, s, c, "whole")
		for range 3 {
			c.Owner = idem.NewOwner()
			if out := acquire(t, s, c); out.Kind != idem.VerdictCompleted || string(out.Response.Body) != "whole" || out.Local {
				t.Fatalf("key %d: %+v", i, out)
			}
		}
	}
}
