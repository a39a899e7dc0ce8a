package pstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/pstore"
)

// A server without space gives out no key, and says of a response that it is not
// stored; what it had acknowledged it has when there is space again.
func TestP5OutOfDisk(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgresOnDisk(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Schema: "s"})
	before, under := completed(t, s, "before"), acquired(t, s, "under way")
	mend := server.Fill()
	large := &idem.Response{Status: 200, Body: make([]byte, 900<<10)}
	var stored []idem.Claim
	full := errors.New("it stores 200 large responses")
	for i := range 200 {
		c := claim(fmt.Sprint("large ", i))
		if _, err := s.Acquire(context.Background(), c); err != nil {
			full = err
			break
		}
		if err := s.Complete(context.Background(), c.Lease(), large); err != nil {
			full = err
			break
		}
		stored = append(stored, c)
	}
	if !errors.Is(full, idem.ErrUnavailable) {
		t.Errorf("on a full disk: %v, want %v", full, idem.ErrUnavailable)
	}
	if err := s.Complete(context.Background(), under.Lease(), large); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("complete on a full disk: %v, want %v", err, idem.ErrUnavailable)
	}
	t.Logf("%d were stored, then: %v", len(stored), full)
	mend()
	awaitReady(t, s)
	if err := s.Complete(context.Background(), under.Lease(), large); err != nil {
		t.Errorf("complete, once there is space: %v", err)
	}
	for _, c := range append(stored, before, under) {
		acquire(t, s, c, idem.VerdictCompleted)
	}
	acquire(t, s, claim("new"), idem.VerdictAcquired)
}
