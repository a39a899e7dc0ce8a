package test_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// stated runs statements on the PostgreSQL server, and others to undo them.
func stated(undo []string, do ...string) func(*faultRig, *rand.Rand) func() {
	return func(r *faultRig, _ *rand.Rand) func() {
		r.postgres.Do(do...)
		return func() {
			if undo != nil {
				r.postgres.Do(undo...)
			}
		}
	}
}

const (
	reload  = "SELECT pg_reload_conf()"
	clients = " FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)

func postgresFaults() []fault {
	on := []string{"postgres"}
	return []fault{
		{
			name: "postgres: kill -9 and restart", on: on, when: always, ambiguous: true,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.postgres.Kill()
				return r.postgres.Restart
			},
		},
		{
			name: "postgres: stopped and started", on: on, when: always, ambiguous: true,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.postgres.Stop()
				return r.postgres.Restart
			},
		},
		{
			name: "postgres: SIGSTOP", on: on, when: always, ambiguous: true, lasts: 600 * time.Millisecond,
			inject: func(r *faultRig, _ *rand.Rand) func() { return r.postgres.Stall() },
		},
		{name: "postgres: pg_terminate_backend", on: on, when: always, ambiguous: true, inject: stated(nil, "SELECT pg_terminate_backend(pid)"+clients)},
		{name: "postgres: pg_cancel_backend", on: on, when: always, inject: stated(nil, "SELECT pg_cancel_backend(pid)"+clients)},
		{
			name: "postgres: read-only", on: on, when: always, ambiguous: true, lasts: 200 * time.Millisecond,
			inject: stated([]string{"SET default_transaction_read_only = off", "ALTER SYSTEM RESET default_transaction_read_only", reload},
				"ALTER SYSTEM SET default_transaction_read_only = on", reload),
		},
		{
			name: "postgres: statement time-out", on: on, when: always, ambiguous: true, lasts: 600 * time.Millisecond,
			inject: func(r *faultRig, rng *rand.Rand) func() {
				mend := stated([]string{"ALTER SYSTEM RESET statement_timeout", reload}, "ALTER SYSTEM SET statement_timeout = '50ms'", reload)(r, rng)
				unlock := lockTable(r, rng)
				return func() { unlock(); mend() }
			},
		},
		{name: "postgres: table locked by somebody", on: on, when: always, ambiguous: true, lasts: 600 * time.Millisecond, inject: lockTable},
		{name: "postgres: rows locked by somebody", on: on, when: inFlight, ambiguous: true, lasts: 600 * time.Millisecond, inject: lockRows},
		{name: "postgres: TRUNCATE", on: on, when: always, ambiguous: true, loses: true, inject: stated(nil, "TRUNCATE idemproxy.record")},
		{
			name: "postgres: disk full", on: []string{"postgres-disk"}, when: always, ambiguous: true, inject: fillDisk,
		},
		{
			name: "postgres: out of connections", on: []string{"postgres-few"}, when: always, ambiguous: true, lasts: 300 * time.Millisecond,
			inject: takeConnections,
		},
		{
			// It cannot write its log any more, and ends: it does not come back before there is space.
			name: "postgres: disk of its log (WAL) full", on: []string{"postgres-wal"}, when: always, ambiguous: true, inject: fillLogDisk,
		},
		{
			name: "postgres pair: planned switchover", on: []string{"postgres-pair"}, when: always, ambiguous: true,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.pair.switchOver()
				return r.pair.follow
			},
		},
		{
			name: "postgres pair: the primary dies", on: []string{"postgres-pair"}, when: always, ambiguous: true,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.pair.crash()
				return r.pair.follow
			},
		},
		{
			name: "postgres pair: the standby dies", on: []string{"postgres-pair"}, when: always, ambiguous: true, lasts: 600 * time.Millisecond,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.pair.standby.Kill()
				return func() {
					r.pair.standby.Restart()
					r.pair.awaitWhole()
				}
			},
		},
		{
			name: "clock of PostgreSQL: an hour forward", on: []string{"postgres-clock"}, when: always, ambiguous: true,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.setClock(time.Hour)
				return func() { r.setClock(0) }
			},
		},
		{
			name: "clock of PostgreSQL: an hour back", on: []string{"postgres-clock"}, when: always,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.setClock(-time.Hour)
				return func() { r.setClock(0) }
			},
		},
	}
}

func lockTable(r *faultRig, _ *rand.Rand) func() {
	return r.holdOpen("LOCK TABLE idemproxy.record IN ACCESS EXCLUSIVE MODE")
}

func lockRows(r *faultRig, _ *rand.Rand) func() {
	return r.holdOpen("SELECT id FROM idemproxy.record FOR UPDATE")
}

// fillDisk leaves the server no space, nor any in what it has in hand: in its pages and
// in its log (WAL).
func fillDisk(r *faultRig, rng *rand.Rand) func() {
	return r.fill(rng, func() bool { return true }) // it has no space to complain in
}

// fillLogDisk likewise; the server complains.
func fillLogDisk(r *faultRig, rng *rand.Rand) func() {
	complaints := func() int { return strings.Count(r.postgres.Log(), "No space left on device") }
	before := complaints()
	return r.fill(rng, func() bool { return complaints() > before })
}

func (r *faultRig) fill(rng *rand.Rand, full func() bool) (mend func()) {
	r.t.Helper()
	mend = r.postgres.Fill()
	for i := range mostLarge {
		key := fmt.Sprintf("large-%d-%d", rng.Uint64(), i)
		if h := r.proxies[0].askFor(context.Background(), "/large", key); h.status != http.StatusOK && full() {
			return mend
		}
	}
	r.t.Errorf("after %d large responses the disk is not full", mostLarge)
	return mend
}

// mostLarge is more than the server's log takes: it keeps the files that it has, and each
// disk that was full has been enlarged by one.
const mostLarge = 2000

// takeConnections leaves the proxies none: it ends theirs, and takes all that there are.
func takeConnections(r *faultRig, _ *rand.Rand) func() {
	r.t.Helper()
	ctx := context.Background()
	one, err := pgx.Connect(ctx, r.postgres.URL("postgres"))
	if err != nil {
		r.t.Fatal(err)
	}
	taken := []*pgx.Conn{one}
	giveBack := func() {
		for _, conn := range taken {
			_ = conn.Close(ctx)
		}
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		conn, err := pgx.Connect(ctx, r.postgres.URL("postgres"))
		if err == nil {
			taken = append(taken, conn)
			continue
		}
		var left int
		const theirs = "FROM pg_stat_activity WHERE application_name = 'idemproxy'"
		if err := one.QueryRow(ctx, "SELECT count(pg_terminate_backend(pid)) "+theirs).Scan(&left); err != nil {
			r.t.Fatal(err)
		}
		if left == 0 && strings.Contains(err.Error(), "53300") {
			return giveBack
		}
	}
	r.t.Error("the proxies have connections all the same")
	return giveBack
}

// holdOpen runs a statement in a transaction that stays open.
func (r *faultRig) holdOpen(statement string) func() {
	r.t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, r.postgres.URL("postgres"))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range []string{"SET statement_timeout = 0", "BEGIN", statement} {
		if _, err := conn.Exec(ctx, s); err != nil {
			r.t.Fatal(err)
		}
	}
	return func() { _ = conn.Close(ctx) }
}
