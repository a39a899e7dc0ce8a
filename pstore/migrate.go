package pstore

import (
	"context"
	_ "embed" // the schema
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/idemproxy/idemproxy/internal/redact"
)

//go:embed schema1.sql
var schema1SQL string

// SchemaVersion is that of the schema which this build makes.
const SchemaVersion = 1

// leastServer is the first release of PostgreSQL that reads pages of a table by
// their numbers, as sweep does.
const leastServer = 140000

var (
	// ErrNoSchema says that the schema is not there, and that this store may not make it.
	ErrNoSchema = errors.New(`the schema is not there: run "idemproxy migrate" as a role that may create it`)
	// errOldSchema likewise.
	errOldSchema = errors.New(`the schema is older than this build: run "idemproxy migrate" as its owner`)
	// errLaterSchema: a later build has changed it, in a way that this one does not know.
	errLaterSchema = errors.New("the schema was made by a later build, which says that this one cannot use it")
	errOldServer   = errors.New("PostgreSQL 14 or later is needed")
)

// Migrate makes the schema, or brings it up to date, and says which version was there
// (0: none). It may be repeated, and run by several at a time.
func Migrate(ctx context.Context, c Config) (before int, err error) {
	option, err := c.option()
	if err != nil {
		return 0, err
	}
	conn, err := pgx.ConnectConfig(ctx, option.ConnConfig)
	if err != nil {
		return 0, redact.Secrets(connecting(err), option.ConnConfig.Password)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	before, err = migrate(ctx, conn.PgConn(), c.Schema)
	return before, redact.Secrets(err, option.ConnConfig.Password)
}

func migrate(ctx context.Context, conn *pgconn.PgConn, schema string) (before int, err error) {
	// One at a time, each in one transaction: a schema is there whole or not at all. Who
	// waited for another one must see what that did, whatever the role's isolation; and the
	// role's time-outs are for requests, not for this.
	begin := "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; " +
		"SET LOCAL idle_in_transaction_session_timeout = 0; SELECT pg_advisory_xact_lock(hashtext('idemproxy " + schema + "'))"
	if _, err := exec(ctx, conn, begin); err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_, _ = exec(context.WithoutCancel(ctx), conn, "ROLLBACK")
		}
	}()
	there, before, _, err := versionOf(ctx, conn, schema)
	if err != nil || before >= SchemaVersion {
		if err == nil {
			_, err = exec(ctx, conn, "COMMIT")
		}
		return before, err
	}
	if !there {
		if _, err := exec(ctx, conn, "CREATE SCHEMA "+quoted(schema)); err != nil {
			return before, err
		}
	}
	if _, err := exec(ctx, conn, schemaSQL(schema)); err != nil {
		return before, err
	}
	_, err = exec(ctx, conn, "COMMIT")
	return before, err
}

// schemaSQL is schema1.sql for a schema, which also names the channel.
func schemaSQL(schema string) string {
	return strings.NewReplacer("@", quoted(schema), "'#'", "'"+schema+"'").Replace(schema1SQL)
}

// versionOf is that of the schema, and the oldest one whose builds may use it; 0 if
// there is no schema (there is false), or nothing of ours in it.
func versionOf(ctx context.Context, conn *pgconn.PgConn, schema string) (there bool, version, least int, err error) {
	rows, err := exec(ctx, conn, "SELECT current_setting('server_version_num'), to_regnamespace('"+quoted(schema)+"') IS NOT NULL, "+
		"to_regclass('"+quoted(schema)+".meta') IS NOT NULL")
	if err != nil {
		return false, 0, 0, err
	}
	if len(rows) != 1 || len(rows[0]) != 3 {
		return false, 0, 0, errReply
	}
	if n, err := strconv.Atoi(string(rows[0][0])); err != nil || n < leastServer {
		return false, 0, 0, fmt.Errorf("%w: this is %s", errOldServer, rows[0][0])
	}
	there = string(rows[0][1]) == "t"
	if string(rows[0][2]) != "t" {
		return there, 0, 0, nil
	}
	if rows, err = exec(ctx, conn, "SELECT version, least FROM "+quoted(schema)+".meta"); err != nil {
		return there, 0, 0, err
	}
	if len(rows) != 1 || len(rows[0]) != 2 {
		return there, 0, 0, errReply
	}
	version, err1 := strconv.Atoi(string(rows[0][0]))
	least, err2 := strconv.Atoi(string(rows[0][1]))
	return there, version, least, errors.Join(err1, err2)
}

// exec runs statements in the simple protocol, and returns the last one's rows.
func exec(ctx context.Context, conn *pgconn.PgConn, sql string) ([][][]byte, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says what for
	}
	if len(results) == 0 {
		return nil, nil
	}
	return results[len(results)-1].Rows, nil
}

// migrateFor bounds a migration at the start.
const migrateFor = 30 * time.Second

// prepare sees to it that the schema is there and can be used.
func (s *Store) prepare(ctx context.Context, conn *pgconn.PgConn) error {
	looking, cancel := s.bound(ctx)
	defer cancel()
	_, version, least, err := versionOf(looking, conn, s.config.Schema)
	if err == nil && version < SchemaVersion && s.config.Migrate {
		// It waits for who is at it already.
		ctx, cancel := context.WithTimeout(ctx, max(s.timeout, migrateFor))
		defer cancel()
		var before int
		if before, err = migrate(ctx, conn, s.config.Schema); err != nil {
			return fmt.Errorf("making the schema %s: %w", s.config.Schema, err)
		}
		s.log.Info().Str("event", "store_migrated").Str("schema", s.config.Schema).Int("before", before).Int("version", SchemaVersion).
			Msg("the schema was made, or brought up to date")
		_, version, least, err = versionOf(ctx, conn, s.config.Schema)
	}
	switch {
	case err != nil:
		return fmt.Errorf("looking at the schema %s: %w", s.config.Schema, err)
	case version == 0:
		return ErrNoSchema
	case version < SchemaVersion:
		return errOldSchema
	case least > SchemaVersion:
		return errLaterSchema
	}
	if err := checkRights(looking, conn, s.config.Schema); err != nil {
		return fmt.Errorf("looking at the schema %s: %w", s.config.Schema, err)
	}
	return nil
}
