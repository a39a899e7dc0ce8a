package pstore_test

import (
	"context"
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
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Schema: "s"})
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
	until(t, "the record is not replayed any more", func() bool {
		other := c
		other.Owner = idem.NewOwner()
		out, err := s.Acquire(ctx, other)
		return err == nil && out.Kind == idem.VerdictAcquired
	})
}
