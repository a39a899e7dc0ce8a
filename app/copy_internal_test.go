package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
)

// busy is a store in which somebody completes a key between two looks.
type busy struct {
	*storetest.Memory
	looks int
}

func (b *busy) gate(func() error) {}

func (b *busy) List(ctx context.Context, visit func(*idem.Record) bool) error {
	if b.looks++; b.looks == 2 {
		key, _ := idem.ParseKey("late")
		c := idem.Claim{Key: key, Owner: idem.NewOwner(), TTL: time.Minute, Retention: time.Hour}
		if _, err := b.Acquire(ctx, c); err != nil {
			return err
		}
		if err := b.Complete(ctx, c.Lease(), &idem.Response{Status: 200}); err != nil {
			return err
		}
	}
	return b.Memory.List(ctx, visit)
}

// A proxy that serves from the source while it is copied is noticed.
func TestCopyNoticesChanges(t *testing.T) {
	t.Parallel()
	from, to := &busy{Memory: storetest.NewMemory()}, &busy{Memory: storetest.NewMemory(), looks: 2}
	if err := from.Enter(t.Context(), "plan", "how records are named", time.Hour); err != nil { // as a proxy that serves does
		t.Fatal(err)
	}
	cp := &copier{from: from, to: to}
	if err := cp.run(t.Context(), "here", "there"); !errors.Is(err, ErrCopyChanged) {
		t.Errorf("%v, want ErrCopyChanged", err)
	}
}
