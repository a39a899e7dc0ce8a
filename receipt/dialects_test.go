package receipt_test

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"
	"time"

	_ "modernc.org/sqlite" // a database of the tests'

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/receipt"
)

// bench is a database with receipts and effects.
type bench struct {
	*receipt.Receipts

	t       *testing.T
	dialect receipt.Dialect
	driver  string
	dsn     string
	db      *sql.DB
}

// TestDialects holds each database to the same cases, in databases of their own.
func TestDialects(t *testing.T) {
	t.Parallel()
	for dialect, start := range map[receipt.Dialect]func(t *testing.T) (driver string, database func(t *testing.T) string){
		receipt.SQLite: func(*testing.T) (string, func(t *testing.T) string) { return "sqlite", sqliteFile },
		receipt.PostgreSQL: func(t *testing.T) (string, func(t *testing.T) string) {
			s := dbtest.PostgreSQL(t)
			return s.Driver, func(t *testing.T) string { return s.Database(t) }
		},
		receipt.MySQL: func(t *testing.T) (string, func(t *testing.T) string) {
			s := dbtest.MariaDB(t)
			return s.Driver, func(t *testing.T) string { return s.Database(t) }
		},
	} {
		t.Run(string(dialect), func(t *testing.T) {
			t.Parallel()
			driver, database := start(t)
			for name, run := range cases() {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					run(newBench(t, dialect, driver, database(t)))
				})
			}
			if dialect != receipt.MySQL {
				return
			}
			// MySQL counts the rows that a statement changed, or those that it found, as the
			// program's connections say. Which of them is none of a receipt's business.
			for name, run := range outcomes() {
				t.Run(name+"/clientFoundRows", func(t *testing.T) {
					t.Parallel()
					run(newBench(t, dialect, driver, database(t)+"?clientFoundRows=true"))
				})
			}
		})
	}
}

func sqliteFile(t *testing.T) string {
	return "file:" + filepath.Join(t.TempDir(), "db") + "?_pragma=busy_timeout(60000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)"
}

func cases() map[string]func(*bench) {
	all := map[string]func(*bench){}
	for _, of := range []map[string]func(*bench){outcomes(), underWay(), races(), commits(), handlers()} {
		for name, run := range of {
			all[name] = run
		}
	}
	return all
}

// atMost ends a test that hangs.
const atMost = time.Minute

func newBench(t *testing.T, dialect receipt.Dialect, driver, dsn string) *bench {
	c, err := receipt.New(dialect)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Receipts: c, t: t, dialect: dialect, driver: driver, dsn: dsn}
	b.db = b.open("")
	for range 2 { // it does nothing where the table is
		b.exec(dialect.Migration())
	}
	b.exec("CREATE TABLE effects (attempt VARCHAR(64))")
	return b
}

// open is one more pool of connections.
func (b *bench) open(options string) *sql.DB {
	db, err := sql.Open(b.driver, b.dsn+options)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (b *bench) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	b.t.Cleanup(cancel)
	return ctx
}

func (b *bench) exec(query string) {
	b.t.Helper()
	if _, err := b.db.ExecContext(b.context(), query); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) count(query string) (n int) {
	b.t.Helper()
	if err := b.db.QueryRowContext(b.context(), query).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// effects is how often something was done.
func (b *bench) effects(want int) {
	b.t.Helper()
	if n := b.count("SELECT COUNT(*) FROM effects"); n != want {
		b.t.Errorf("%d effects, want %d", n, want)
	}
}

func (b *bench) rows(want int) {
	b.t.Helper()
	if n := b.count("SELECT COUNT(*) FROM idempotency_receipts"); n != want {
		b.t.Errorf("%d rows of receipts, want %d", n, want)
	}
}

func (b *bench) begin(options *sql.TxOptions) *sql.Tx {
	b.t.Helper()
	tx, err := b.db.BeginTx(b.context(), options)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

// response is of an attempt: it has what a database could spoil.
func response(attempt string) receipt.Response {
	return receipt.Response{
		Status: http.StatusCreated,
		Header: http.Header{"Content-Type": {"application/x-" + attempt}, "X-Two": {`"a"`, "b\\"}},
		Body:   []byte("\x00\xff'" + attempt),
	}
}

// in does the work of an attempt in a transaction.
func (b *bench) in(tx *sql.Tx, q receipt.Request) (receipt.Response, error) {
	return b.Do(b.context(), tx, q, func() (receipt.Response, error) {
		text := "INSERT INTO effects (attempt) VALUES ('" + q.Attempt + "')"
		if _, err := tx.ExecContext(b.context(), text); err != nil {
			return receipt.Response{}, err
		}
		return response(q.Attempt), nil
	})
}

// do is an attempt as backends make it.
func (b *bench) do(q receipt.Request) (receipt.Response, error) {
	tx, err := b.db.BeginTx(b.context(), nil)
	if err != nil {
		return receipt.Response{}, err
	}
	defer func() { _ = tx.Rollback() }()
	r, err := b.in(tx, q)
	if err != nil {
		return r, err
	}
	return r, tx.Commit()
}

func (b *bench) void(q receipt.Request) (receipt.Response, error) {
	return b.Void(b.context(), b.db, q)
}

// answered wants the response of an attempt.
func (b *bench) answered(of string) func(receipt.Response, error) {
	b.t.Helper()
	return func(r receipt.Response, err error) {
		b.t.Helper()
		switch {
		case err != nil:
			b.t.Errorf("%v, want the response of %s", err, of)
		case !reflect.DeepEqual(r, response(of)):
			b.t.Errorf("got %d %v %q, want the response of %s", r.Status, r.Header, r.Body, of)
		}
	}
}

func (b *bench) failed(want error) func(receipt.Response, error) {
	b.t.Helper()
	return func(r receipt.Response, err error) {
		b.t.Helper()
		if !errors.Is(err, want) {
			b.t.Errorf("got %d and error %v, want error %v", r.Status, err, want)
		}
	}
}

// blocked waits until a statement waits for a transaction. SQLite does not tell: there,
// who comes too early waits as well.
func (b *bench) blocked() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), atMost)
	defer cancel()
	for !b.isBlocked() {
		select {
		case <-ctx.Done():
			b.t.Fatal("nothing waits for the transaction")
		case <-time.After(10 * time.Millisecond): // the server's doing
		}
	}
}

func (b *bench) isBlocked() bool {
	switch b.dialect {
	case receipt.PostgreSQL:
		return b.count("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	case receipt.MySQL: // not information_schema.innodb_trx: who looks often sees what was
		var kind, name, text string
		if err := b.db.QueryRowContext(b.context(), "SHOW ENGINE INNODB STATUS").Scan(&kind, &name, &text); err != nil {
			b.t.Fatal(err)
		}
		for _, waiting := range regexp.MustCompile(`LOCK WAIT.*\nMariaDB thread id (\d+)`).FindAllStringSubmatch(text, -1) {
			if b.count("SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND id = "+waiting[1]) > 0 {
				return true
			}
		}
		return false
	case receipt.SQLite:
	}
	return true
}

// ended is what a call in the background returned.
type ended struct {
	receipt.Response

	err error
}

func (b *bench) background(call func() (receipt.Response, error)) <-chan ended {
	out := make(chan ended, 1)
	go func() {
		r, err := call()
		out <- ended{r, err}
	}()
	return out
}
