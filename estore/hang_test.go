package estore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

func rivalOf(c idem.Claim) idem.Claim {
	c.Owner = idem.NewOwner()
	return c
}

func complete(t *testing.T, s *estore.Store, c idem.Claim, body string) {
	t.Helper()
	if err := s.Complete(t.Context(), c.Lease(), &idem.Response{Status: 200, Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}

// wantDoubt: it was asked, and did not happen within the timeout.
func wantDoubt(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused) {
		t.Errorf("%s: %v, want it to be in doubt", what, err)
	}
}

// wantRefused: it was certainly not done.
func wantRefused(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) {
		t.Errorf("%s: %v, want it to be refused", what, err)
	}
}

// eventuallyServes waits until the disk is back.
func eventuallyServes(t *testing.T, s *estore.Store) {
	t.Helper()
	for s.Ping(t.Context()) != nil {
		if t.Context().Err() != nil {
			t.Fatal("the store does not recover")
		}
		time.Sleep(time.Millisecond)
	}
}

func renew(t *testing.T, s *estore.Store, c idem.Claim) error {
	t.Helper()
	return s.Renew(t.Context(), []idem.Lease{c.Lease()})[0]
}

// A disk that hangs: what needs it is in doubt or refused, in bounded time; what
// does not goes on; and afterwards all of it can be done again.
func TestP5ADiskThatHangs(t *testing.T) {
	t.Parallel()
	s, disk := onHanging(t)
	ctx := t.Context()
	running, done := claim("running"), claim("done")
	acquire(t, s, running)
	acquire(t, s, done)
	complete(t, s, done, "kept")
	acquire(t, s, rivalOf(done)) // now it is in memory
	back := hang(t, s, disk)
	defer back()

	doubtful := claim("doubtful")
	_, err := s.Acquire(ctx, doubtful)
	wantDoubt(t, "an acquire", err)
	wantRefused(t, "a ping", s.Ping(ctx))
	_, err = s.Acquire(ctx, doubtful)
	wantDoubt(t, "its repetition, which is not to be told that the key is its own", err)
	_, err = s.Acquire(ctx, claim("another"))
	wantRefused(t, "another acquire", err)
	if err := renew(t, s, doubtful); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("a lease that is not on the disk is renewed: %v", err)
	}
	if err := renew(t, s, running); err != nil {
		t.Errorf("a lease that is: %v", err)
	}
	if out := acquire(t, s, rivalOf(done)); out.Kind != idem.VerdictCompleted || !out.Local {
		t.Errorf("a response in memory: %v", out.Kind)
	}
	if out := acquire(t, s, rivalOf(running)); out.Kind != idem.VerdictInProgress {
		t.Errorf("a rival of what runs: %v", out.Kind)
	}
	for range 100 { // nobody waits any more
		wantRefused(t, "a completion", s.Complete(ctx, running.Lease(), &idem.Response{Status: 200}))
	}
	if err := s.Release(ctx, doubtful.Lease()); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("the release of a doubtful lease: %v", err)
	}
	_, err = s.Entries(ctx)
	wantRefused(t, "the registry", err)

	back()
	if err := s.Release(ctx, doubtful.Lease()); err != nil {
		t.Errorf("the release of a doubtful lease, afterwards: %v", err)
	}
	if out := acquire(t, s, rivalOf(doubtful)); out.Kind != idem.VerdictAcquired || out.Attempt != 2 {
		t.Errorf("what was released: %v, attempt %d", out.Kind, out.Attempt)
	}
	complete(t, s, running, "in the end")
	if out := acquire(t, s, rivalOf(running)); out.Kind != idem.VerdictCompleted {
		t.Errorf("what was completed: %v", out.Kind)
	}
}

// A completion that is in doubt is not answered "done" before it is on the disk;
// meanwhile its key is safe from others, and its lease does not lapse.
func TestP6CompletionInDoubt(t *testing.T) {
	t.Parallel()
	s, disk := onHanging(t)
	c := claim("k")
	c.TTL = 5 * time.Millisecond
	acquire(t, s, c)
	back := hang(t, s, disk)
	defer back()
	response := &idem.Response{Status: 200, Body: []byte("x")}
	for range 3 {
		if err := s.Complete(t.Context(), c.Lease(), response); !errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused) {
			t.Errorf("a completion while the disk hangs: %v", err)
		}
		if out := acquire(t, s, rivalOf(c)); out.Kind != idem.VerdictInProgress {
			t.Errorf("a rival meanwhile: %v", out.Kind)
		}
		if err := renew(t, s, c); err != nil {
			t.Errorf("the lease meanwhile: %v", err)
		}
	}
	back()
	if err := s.Complete(t.Context(), c.Lease(), response); err != nil {
		t.Errorf("offered again: %v", err)
	}
	if out := acquire(t, s, rivalOf(c)); out.Kind != idem.VerdictCompleted {
		t.Errorf("%v", out.Kind)
	}
}

// However many ask while the disk hangs, nothing of the store waits in their place
// when they have their answers.
func TestHangingDiskLeavesNoGoroutines(t *testing.T) {
	t.Parallel()
	s, disk := onHanging(t)
	back := hang(t, s, disk)
	defer back()
	label := fmt.Sprint("hang-", idem.NewOwner())
	pprof.Do(t.Context(), pprof.Labels("asks", label), func(ctx context.Context) { // goroutines hand it down
		var asking sync.WaitGroup
		for i := range 300 {
			asking.Go(func() {
				c := claim(fmt.Sprint(i))
				if _, err := s.Acquire(ctx, c); !errors.Is(err, idem.ErrUnavailable) {
					t.Errorf("acquire: %v", err)
				}
				// What memory says is not there needs no disk.
				if err := s.Release(ctx, c.Lease()); !errors.Is(err, idem.ErrUnavailable) && !errors.Is(err, idem.ErrLeaseLost) {
					t.Errorf("release: %v", err)
				}
			})
		}
		asking.Wait()
	})
	deadline := time.Now().Add(10 * time.Second)
	for left := true; left; time.Sleep(time.Millisecond) { // who answered last may not have ended
		s.EndIdleReaders() // which wait for whoever comes next
		var all bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
			t.Fatal(err)
		}
		if left = bytes.Contains(all.Bytes(), []byte(label)); left && time.Now().After(deadline) {
			t.Fatalf("somebody waits: %s", &all)
		}
	}
}

// A purge that is in doubt has left this process's memory.
func TestP2PurgeInDoubtIsNotReplayed(t *testing.T) {
	t.Parallel()
	s, disk := onHanging(t)
	c, other := claim("k"), claim("other")
	for _, c := range []idem.Claim{c, other} {
		acquire(t, s, c)
		complete(t, s, c, "x")
		acquire(t, s, rivalOf(c))
	}
	back := hang(t, s, disk)
	defer back()
	wantDoubt(t, "the purge", s.Purge(t.Context(), c.Key))
	_, err := s.Acquire(t.Context(), rivalOf(c))
	wantDoubt(t, "the next of the key", err)
	wantRefused(t, "the second purge", s.Purge(t.Context(), other.Key))
	_, err = s.Acquire(t.Context(), rivalOf(other))
	wantRefused(t, "the next of its key", err)
	back()
	if out := acquire(t, s, rivalOf(c)); out.Kind != idem.VerdictAcquired {
		t.Errorf("after the purge: %v", out.Kind)
	}
}

func TestHangingDiskDoesNotHoldUpClose(t *testing.T) {
	t.Parallel()
	disk := &hangingDisk{FS: vfs.NewMem()}
	s, err := estore.New(estore.Config{Dir: "data", Timeout: 50 * time.Millisecond}.OnFS(disk))
	if err != nil {
		t.Fatal(err)
	}
	_, back := disk.syncs.shut()
	defer back()
	if err := s.Close(); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if _, err := s.Acquire(t.Context(), claim("k")); !errors.Is(err, idem.ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
}

// The caller's context bounds the wait, too.
func TestWaitingForTheDiskEndsWithTheContext(t *testing.T) {
	t.Parallel()
	s, disk := onHanging(t)
	hung, back := disk.syncs.shut()
	defer back()
	ctx, cancel := context.WithCancel(t.Context())
	c := claim("k")
	failed := make(chan error, 1)
	go func() {
		_, err := s.Acquire(ctx, c)
		failed <- err
	}()
	<-hung
	cancel()
	if err := <-failed; !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := s.Acquire(ctx, c); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("asked again: %v", err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("the disk is not late yet: %v", err)
	}
	back()
	if out := acquire(t, s, c); out.Kind != idem.VerdictYours {
		t.Errorf("when it is on the disk: %v", out.Kind)
	}
}

// neighbours are keys of one shard.
func neighbours(n int) []idem.Claim {
	var found []idem.Claim
	for i := 0; len(found) < n; i++ {
		if c := claim(fmt.Sprint("neighbour ", i)); c.Key.ID()[0] == 0 {
			found = append(found, c)
		}
	}
	return found
}

// A renewal waits for no write of another key: neither for its fsync nor for room
// in the engine, which is out of it when responses are large.
func TestP1RenewalsDoNotWaitForANeighboursWrite(t *testing.T) {
	t.Parallel()
	s, disk := onHanging(t)
	keys := neighbours(6)
	for _, c := range keys {
		acquire(t, s, c)
	}
	back := hang(t, s, disk)
	defer back()
	var writing sync.WaitGroup
	for _, c := range keys[1:] {
		writing.Go(func() {
			err := s.Complete(t.Context(), c.Lease(), &idem.Response{Status: 200, Body: make([]byte, 9<<20)})
			if !errors.Is(err, idem.ErrUnavailable) {
				t.Errorf("a completion: %v", err)
			}
		})
	}
	for range 1000 {
		if err := renew(t, s, keys[0]); err != nil {
			t.Fatal(err)
		}
	}
	writing.Wait()
	if err := renew(t, s, keys[0]); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "a ping", s.Ping(t.Context()))
	back()
	for _, c := range keys[1:] {
		complete(t, s, c, "again")
	}
}

// Nor for a read of another key.
func TestP1RenewalsDoNotWaitForANeighboursRead(t *testing.T) {
	t.Parallel()
	disk := &hangingDisk{FS: vfs.NewMem()}
	config := estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(disk)
	s := open(t, config)
	keys := neighbours(2)
	acquire(t, s, keys[0])
	acquire(t, s, keys[1])
	complete(t, s, keys[1], "on the disk")
	s.Flush(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, config)
	hung, back := disk.reads.shut()
	defer back()
	replayed := make(chan idem.Verdict, 1)
	go func() {
		out, err := s.Acquire(context.Background(), rivalOf(keys[1]))
		if err != nil {
			t.Error(err)
		}
		replayed <- out.Kind
	}()
	<-hung
	if err := renew(t, s, keys[0]); err != nil {
		t.Error(err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	back()
	if kind := <-replayed; kind != idem.VerdictCompleted {
		t.Errorf("%v", kind)
	}
}

// A disk that hangs on reads alone is told of like one that hangs on writes: who
// needs it is refused in bounded time, and what is in memory goes on.
func TestP5ADiskThatHangsOnReads(t *testing.T) {
	t.Parallel()
	disk := &hangingDisk{FS: vfs.NewMem()}
	config := estore.Config{Dir: "data", Timeout: time.Hour, SweepEvery: time.Hour}.OnFS(disk)
	s := open(t, config)
	running, done := claim("running"), claim("done")
	acquire(t, s, running)
	acquire(t, s, done)
	complete(t, s, done, "on the disk")
	s.Flush(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, config)
	_, back := disk.reads.shut()
	defer back()
	s.Patience(10 * time.Millisecond)
	_, err := s.Acquire(t.Context(), rivalOf(done))
	wantRefused(t, "a replay", err)
	wantRefused(t, "a ping", s.Ping(t.Context()))
	_, err = s.Get(t.Context(), done.Key)
	wantRefused(t, "an operator's look", err)
	wantRefused(t, "a purge", s.Purge(t.Context(), done.Key))
	wantRefused(t, "a completion of another owner", s.Complete(t.Context(), rivalOf(done).Lease(), &idem.Response{Status: 200}))
	if err := renew(t, s, running); err != nil {
		t.Error(err)
	}
	s.Patience(time.Hour)
	back()
	eventuallyServes(t, s)
	if out := acquire(t, s, rivalOf(done)); out.Kind != idem.VerdictCompleted {
		t.Errorf("afterwards: %v", out.Kind)
	}
}

// noticed is a context that tells when somebody begins to wait with it.
type noticed struct {
	context.Context
	waits func()
}

func notice(t *testing.T) (ctx context.Context, waiting <-chan struct{}) {
	t.Helper()
	c := make(chan struct{})
	return noticed{context.Background(), sync.OnceFunc(func() { close(c) })}, c
}

func (n noticed) Done() <-chan struct{} {
	n.waits()
	return n.Context.Done()
}

// A claim that waited for too long is not granted.
func TestP1ClaimIsNotGrantedLate(t *testing.T) {
	t.Parallel()
	s, disk := onHanging(t)
	c := claim("k")
	acquire(t, s, c)
	_, back := disk.syncs.shut()
	defer back()
	ctx, waiting := notice(t)
	released := make(chan error, 1)
	go func() { released <- s.Release(ctx, c.Lease()) }()
	<-waiting
	again := c // its owner, who has to wait for the release
	again.Within = time.Millisecond
	ctx, waiting = notice(t)
	granted := make(chan error, 1)
	go func() {
		_, err := s.Acquire(ctx, again)
		granted <- err
	}()
	<-waiting
	pass(2 * again.Within)
	back()
	if err := <-released; err != nil {
		t.Error(err)
	}
	if err := <-granted; !errors.Is(err, idem.ErrRefused) {
		t.Errorf("%v", err)
	}
}

// What was unknown when an operator resolved it is not in progress again while that is on its
// way to the disk: neither for its owner nor for others.
func TestP7UnknownStaysSoWhileItIsResolved(t *testing.T) {
	t.Parallel()
	s, disk := onHanging(t)
	c := claim("k")
	c.HoldOnLapse, c.TTL = true, 5*time.Millisecond
	acquire(t, s, c)
	for acquire(t, s, rivalOf(c)).Kind != idem.VerdictUnknown { // until it lapses
		time.Sleep(time.Millisecond)
	}
	back := hang(t, s, disk)
	defer back()
	wantDoubt(t, "the resolve", s.Resolve(t.Context(), c.Key, c.Owner, nil))
	if err := renew(t, s, c); !errors.Is(err, idem.ErrLeaseLost) {
		t.Errorf("its renewal: %v, want it lost", err)
	}
	if out := acquire(t, s, rivalOf(c)); out.Kind != idem.VerdictUnknown {
		t.Errorf("others are told %v, want unknown", out.Kind)
	}
	back()
	acquire(t, s, rivalOf(c))
}
