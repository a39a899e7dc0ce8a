package pstore_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/pstore"
)

// A backup that is restored in one transaction puts another table in the place of the one
// that there was, and no trigger tells of that. What the other one does not have is not
// replayed from memory for long.
func TestCacheNoticesAnotherTable(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, "log_statement=all")
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Schema: "s", Timeout: patient})
	c := completed(t, s, "k")
	cached(t, s, c)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	restore := "BEGIN; DROP SCHEMA s CASCADE; CREATE SCHEMA s; " + pstore.SchemaSQL("s") + "; COMMIT"
	if _, err := conn.Exec(ctx, restore, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	// The store has seen the other table when it asks which one there is for the next time.
	// Nothing else may end the replays: a store that is not patient forgets them on a machine
	// that is too busy.
	asked := func() int { return strings.Count(server.Log(), `pg_notify($1, $2), to_regclass`) }
	before := asked()
	until(t, "the store asks which table there is", func() bool { return asked() >= before+3 })
	acquire(t, s, c, idem.VerdictAcquired)
}
