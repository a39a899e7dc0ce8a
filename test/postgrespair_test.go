package test_test

import (
	"fmt"
	"testing"

	"github.com/idemproxy/idemproxy/internal/dbtest"
)

// postgresPair is a PostgreSQL primary with a synchronous standby.
type postgresPair struct {
	t                *testing.T
	primary, standby *dbtest.Postgres
}

func newPostgresPair(t *testing.T) *postgresPair {
	t.Helper()
	p := &postgresPair{t: t, primary: dbtest.StartPostgres(t, "synchronous_standby_names=s", "hot_standby=on")}
	p.standby = p.primary.Standby(t, "s")
	p.awaitWhole()
	return p
}

// url names both servers.
func (p *postgresPair) url() string {
	return fmt.Sprintf("postgres://postgres@%s,%s/postgres?sslmode=disable&target_session_attrs=read-write", p.primary.Addr, p.standby.Addr)
}

// awaitWhole waits until the standby has what the primary has, and is waited for.
func (p *postgresPair) awaitWhole() {
	p.t.Helper()
	eventually(p.t, "the standby is synchronous", func() bool {
		return p.primary.Do("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'") == "1"
	})
}

// crash ends the primary at once, and has its standby take its place.
func (p *postgresPair) crash() {
	p.t.Helper()
	p.primary.Kill()
	p.promote()
}

// switchOver ends the primary as planned, so that its standby has everything, and has
// that take its place.
func (p *postgresPair) switchOver() {
	p.t.Helper()
	p.primary.Stop()
	p.promote()
}

func (p *postgresPair) promote() {
	p.t.Helper()
	p.standby.Promote()
	p.primary, p.standby = p.standby, p.primary
}

// follow has the server that was the primary come back as the standby.
func (p *postgresPair) follow() {
	p.t.Helper()
	p.standby.Follow(p.primary, "s")
	p.awaitWhole()
}
