package receipt_test

import (
	"context"
	"database/sql"
	"strconv"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/receipt"
)

// BenchmarkDo compares a transaction that inserts a business row alone with one that
// keeps a receipt of it as well. They alternate, so that both meet the same machine.
// "x" is the time of the second kind as a multiple of the first.
func BenchmarkDo(b *testing.B) {
	b.Run(string(receipt.SQLite), func(b *testing.B) {
		// As a backend runs it: synchronous is FULL by default, so each commit waits for
		// fsync. It is a disk's unless TMPDIR is in memory.
		costOfDo(b, receipt.SQLite, "sqlite", "file:"+b.TempDir()+"/db?_pragma=busy_timeout(60000)&_pragma=journal_mode(wal)", "?")
	})
	b.Run(string(receipt.PostgreSQL), func(b *testing.B) {
		s := dbtest.PostgreSQL(b)
		costOfDo(b, receipt.PostgreSQL, s.Driver, s.Database(b), "$1")
	})
}

func costOfDo(b *testing.B, dialect receipt.Dialect, driver, dsn, param string) {
	b.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	ctx, insert := context.Background(), "INSERT INTO charges (op_key) VALUES ("+param+")"
	for _, query := range []string{dialect.Migration(), "CREATE TABLE charges (op_key VARCHAR(64))"} {
		if _, err := db.ExecContext(ctx, query); err != nil {
			b.Fatal(err)
		}
	}
	receipts, err := receipt.New(dialect)
	if err != nil {
		b.Fatal(err)
	}
	within := func(work func(*sql.Tx) error) time.Duration {
		begun := time.Now()
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := work(tx); err != nil {
			b.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
		return time.Since(begun)
	}
	var alone, kept time.Duration
	for i := 0; b.Loop(); i++ {
		key := strconv.Itoa(i)
		business := func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, insert, key)
			return err
		}
		alone += within(business)
		kept += within(func(tx *sql.Tx) error {
			_, err := receipts.Do(ctx, tx, receipt.Request{Key: key, Attempt: key}, func() (receipt.Response, error) {
				return receipt.Response{Status: 201, Body: []byte("charged")}, business(tx)
			})
			return err
		})
	}
	b.ReportMetric(kept.Seconds()/alone.Seconds(), "x")
}
