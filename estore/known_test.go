package estore_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// A new key is known to be new without a read: it is acquired while reads hang. A
// key of an earlier process is not taken for a new one.
func TestP2NewKeysNeedNoRead(t *testing.T) {
	t.Parallel()
	disk := &hangingDisk{FS: vfs.NewMem()}
	config := estore.Config{Dir: "data", Timeout: time.Hour, SweepEvery: time.Hour, CacheBytes: 1}.OnFS(disk)
	s, err := estore.New(config)
	if err != nil {
		t.Fatal(err)
	}
	before := claim("before")
	acquire(t, s, before)
	complete(t, s, before, "x")
	s.Flush(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, config)
	for deadline := time.Now().Add(time.Minute); !s.Lacks(claim("never").Key); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) { // it learns by itself what it has, once it is open
			t.Fatal("it does not learn what is on the disk")
		}
	}
	_, back := disk.reads.shut()
	defer back()
	if out := acquire(t, s, claim("after")); out.Kind != idem.VerdictAcquired {
		t.Errorf("a new key: %v", out.Kind)
	}
	if s.Lacks(before.Key) || !s.Lacks(claim("never").Key) {
		t.Error("what is known is not what is on the disk")
	}
	back()
	if out := acquire(t, s, rivalOf(before)); out.Kind != idem.VerdictCompleted {
		t.Errorf("a key of the process before: %v", out.Kind)
	}
}

// Whatever is written while rounds come and go is known afterwards, and at every
// moment after it was acknowledged.
func TestP2RoundsForgetNothing(t *testing.T) {
	t.Parallel()
	s := open(t, estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(vfs.NewMem()))
	var writers sync.WaitGroup
	written := make([][]idem.Claim, 4)
	for w := range written {
		writers.Go(func() {
			for i := range 1500 {
				c := claim(fmt.Sprint(w, "-", i))
				acquire(t, s, c)
				complete(t, s, c, "x")
				if written[w] = append(written[w], c); s.Lacks(c.Key) {
					t.Errorf("%s is taken for a new key", c.Key.Value())
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		writers.Wait()
	}()
	for rounds := 0; ; rounds++ {
		s.LearnNow(t)
		select {
		case <-ended:
			t.Logf("%d rounds", rounds)
		default:
			continue
		}
		break
	}
	for _, claims := range written {
		for _, c := range claims {
			if s.Lacks(c.Key) {
				t.Fatalf("%s is taken for a new key", c.Key.Value())
			}
		}
	}
}

// A round that comes while the disk hangs does not lead to a key being taken for a new one
// whose record is still on its way.
func TestP2ARoundOnADiskThatHangsForgetsNothing(t *testing.T) {
	t.Parallel()
	s, disk := onHanging(t)
	first, second := claim("first"), claim("second")
	acquire(t, s, first)
	acquire(t, s, second)
	s.LearnNow(t)
	hung, back := disk.syncs.shut()
	defer back()
	completed := make(chan error, 1)
	go func() { completed <- s.Complete(t.Context(), first.Lease(), &idem.Response{Status: 200}) }()
	<-hung
	s.Patience(10 * time.Millisecond)
	// The engine is not handed this one before it has the one before on the disk.
	wantDoubt(t, "a completion", s.Complete(t.Context(), second.Lease(), &idem.Response{Status: 200}))
	if err := s.TryLearn(); err == nil {
		t.Error("a round came through")
	}
	s.Patience(time.Hour)
	back()
	if err := <-completed; err != nil {
		t.Error(err)
	}
	eventuallyServes(t, s)
	for _, c := range []idem.Claim{first, second} {
		if out := acquire(t, s, rivalOf(c)); out.Kind != idem.VerdictCompleted {
			t.Errorf("%s: %v", c.Key.Value(), out.Kind)
		}
	}
}

// The set of ids grows with what is added: it has everything, and little else.
func TestIDSet(t *testing.T) {
	t.Parallel()
	const n = 1_000_000
	rng := rand.New(rand.NewPCG(1, 2))
	random := func() (k [16]byte) {
		binary.BigEndian.PutUint64(k[:8], rng.Uint64())
		binary.BigEndian.PutUint64(k[8:], rng.Uint64())
		return k
	}
	set := estore.NewIDSet()
	var some [][16]byte
	for i := range n {
		k := random()
		set.Add(k)
		if i%100 == 0 {
			some = append(some, k)
		}
	}
	for _, k := range some {
		if !set.Has(k) {
			t.Fatalf("%x was added and is not there", k)
		}
	}
	wrong := 0
	for range n / 10 {
		if set.Has(random()) {
			wrong++
		}
	}
	if share := float64(wrong) / (n / 10); share > 0.06 {
		t.Errorf("%.1f %% of what was not added is taken for there", 100*share)
	}
}
