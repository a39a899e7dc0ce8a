package history

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/pstore"
)

// haltWithin is for how long after it was stopped a standby may still confirm a commit.
const haltWithin = 50 * time.Millisecond

// PostgreSQL with a synchronous standby that stops again and again, where somebody cancels what
// waits for it, for a role that has its own settings. Histories are allowed, and while the
// standby stands still nothing is acknowledged.
func TestPostgresStandby(t *testing.T) {
	t.Parallel()
	seed := firstSeed()
	r := rand.New(rand.NewPCG(seed, 0))
	primary := dbtest.StartPostgres(t, "synchronous_standby_names=s", "hot_standby=on", "synchronous_commit=local")
	standby := primary.Standby(t, "s")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if primary.Do("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'") == "1" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the standby does not get in step")
		}
	}
	says := []string{"notice", "warning", "error"}[r.IntN(3)]
	t.Logf("the seed is %d, and the role's client_min_messages are %s", seed, says)
	primary.Do("CREATE ROLE proxy LOGIN; GRANT CREATE ON DATABASE postgres TO proxy; " +
		"ALTER ROLE proxy SET synchronous_commit = on; ALTER ROLE proxy SET client_min_messages = " + says)
	s, err := pstore.New(pstore.Config{
		URL: "postgres://proxy@" + primary.Addr + "/postgres?sslmode=disable", Schema: "s", Migrate: true, Timeout: lossTimeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s)
	awaitReady(t, s)
	ctx, stop := context.WithCancel(context.Background())
	done, halts, n := make(chan struct{}), &spans{}, 0
	w := world{processes: []store{s}, patient: true, lasting: true, onHistory: func(t *testing.T, begun time.Time, history []porcupine.Operation) {
		t.Helper()
		unconfirmed(t, halts, begun, history)
	}}
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			pause(ctx, time.Duration(300+r.IntN(500))*time.Millisecond)
			resume := standby.Stall()
			halts.during(func() {
				for range 1 + r.IntN(8) {
					pause(ctx, time.Duration(20+r.IntN(100))*time.Millisecond)
					_, _ = primary.Try("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
				}
			})
			resume()
			n++
		}
	}()
	histories(t, count(8), w)
	stop()
	<-done
	t.Logf("figure: the standby stopped %d times", n)
}

// unconfirmed fails for what was acknowledged while nobody could have confirmed it.
func unconfirmed(t *testing.T, halts *spans, begun time.Time, history []porcupine.Operation) {
	t.Helper()
	for _, at := range halts.since(begun) {
		for _, op := range history {
			in, out := op.Input.(asked), op.Output.(told) //nolint:forcetypeassert // ours
			if !out.failed && changes(in, out) && at[0]+haltWithin < in.call && in.ret < at[1] {
				t.Errorf("at %v, and the standby stood still from %v to %v: %s", in.ret, at[0], at[1], describe(in, out))
			}
		}
	}
}
