package idem_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
)

// unhurried is a deaf store whose answers to acquires wait until each is let go.
type unhurried struct {
	deaf

	acquires atomic.Int64
	letGo    chan struct{}
}

func (u *unhurried) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	u.acquires.Add(1)
	<-u.letGo
	return u.deaf.Acquire(ctx, c)
}

// However often a record changes while the store is asked for it, it is asked once more.
func TestChangesDuringAQuestionAreOneMoreQuestion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &unhurried{deaf: deaf{Memory: storetest.NewMemory()}, letGo: make(chan struct{})}
		e := idem.NewEngine(idem.Config{Store: store})
		defer closeWithin(e, time.Second)
		k, err := idem.ParseKey("k")
		if err != nil {
			t.Fatal(err)
		}
		claim := idem.Claim{Key: k, Owner: idem.NewOwner(), TTL: time.Hour, Retention: time.Hour}
		if _, err := store.Memory.Acquire(t.Context(), claim); err != nil {
			t.Fatal(err)
		}
		policy := idem.DefaultPolicy()
		got := make(chan waited, 1)
		go func() { got <- wait(e, "k", &policy, 30*time.Minute) }()
		synctest.Wait()
		store.letGo <- struct{}{} // it begins, and is to wait
		synctest.Wait()           // and asks for what may have changed until it did
		for range 5 {
			store.changed(k.ID())
		}
		asked := store.acquires.Load()
		close(store.letGo)
		synctest.Wait()
		if n := store.acquires.Load() - asked; n != 1 {
			t.Errorf("five changes were %d more questions, want 1", n)
		}
		if err := store.Complete(t.Context(), claim.Lease(), ok()); err != nil {
			t.Fatal(err)
		}
		store.changed(k.ID())
		if w := <-got; w.err != nil || w.out.Kind != idem.VerdictCompleted {
			t.Errorf("it got %v, %v", w.out.Kind, w.err)
		}
	})
}
