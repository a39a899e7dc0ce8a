package pstore_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/pstore"
)

// manyRig is a server with a table of many rows, of which one in ten has expired, and
// with an empty one. Nothing runs beside what the test does: no sweeper, no cache. The disk
// is not waited for, so that what differs between the tables is the tables' doing.
type manyRig struct {
	t           *testing.T
	server      *dbtest.Postgres
	empty, many *pstore.Store
	rows        int
}

// TestManyRows: however many rows there are, all that has expired is deleted and the rest
// is replayed. ROWS says how many, and what it measures are figures of docs/postgres.md:
//
//	ROWS=10000000 go test -count=1 -timeout 30m -v -run TestManyRows ./pstore
func TestManyRows(t *testing.T) {
	t.Parallel()
	r := &manyRig{t: t, rows: 20_000}
	if n, err := strconv.Atoi(os.Getenv("ROWS")); err == nil {
		r.rows = n
	}
	r.server = dbtest.StartPostgres(t, "shared_buffers=256MB", "max_wal_size=4GB", "autovacuum=on")
	for schema, s := range map[string]**pstore.Store{"empty": &r.empty, "many": &r.many} {
		*s = open(t, pstore.Config{URL: r.server.URL("postgres") + conns, Schema: schema, Timeout: time.Minute})
		(*s).Deafen()
	}
	begun := time.Now()
	r.load()
	r.figure("%d rows with responses of 380 bytes were written in %v", r.rows, time.Since(begun).Round(time.Second))
	r.weigh("before the sweep")
	r.compare("a new key's acquire", func(s *pstore.Store, i int) {
		acquire(t, s, claim(fmt.Sprint("new ", i)), idem.VerdictAcquired)
	})
	completed(t, r.empty, "0")
	r.compare("a replay that asks the server", func(s *pstore.Store, i int) {
		name := "0"
		if s == r.many {
			name = fmt.Sprint(r.lasting(i))
		}
		acquire(t, s, claim(name), idem.VerdictCompleted)
	})
	r.sweep()
	r.weigh("after the sweep")
	for i := range 100 {
		acquire(t, r.many, claim(fmt.Sprint(r.lasting(i))), idem.VerdictCompleted)
		acquire(t, r.many, claim(fmt.Sprint(10*i)), idem.VerdictAcquired)
	}
}

func (r *manyRig) figure(format string, args ...any) {
	r.t.Helper()
	r.t.Logf("figure: "+format, args...)
}

// lasting is the number of a row that has not expired, far from the others that are asked for.
func (r *manyRig) lasting(i int) int { return (i*7919*10 + 1) % r.rows }

// load writes the rows, as a response that was acknowledged is written.
func (r *manyRig) load() {
	r.t.Helper()
	c := claim("template")
	if out, err := r.many.Acquire(r.t.Context(), c); err != nil || out.Kind != idem.VerdictAcquired {
		r.t.Fatalf("acquire: %v, %v", out.Kind, err)
	}
	if err := r.many.Complete(r.t.Context(), c.Lease(), &idem.Response{Status: 200, Body: make([]byte, 380)}); err != nil {
		r.t.Fatal(err)
	}
	r.server.Do("CREATE TABLE many.template AS SELECT * FROM many.record")
	const writers = 2
	var loading sync.WaitGroup
	for part := range writers {
		loading.Go(func() {
			if err := r.copyRows(part, writers); err != nil {
				r.t.Error(err)
			}
		})
	}
	loading.Wait()
	r.server.Do("DROP TABLE many.template")
	if r.t.Failed() {
		r.t.FailNow()
	}
}

// copyRows copies one part of the rows; they come in no order of their digests, as keys do.
func (r *manyRig) copyRows(part, parts int) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, r.server.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT * FROM many.template")
	if err != nil {
		return err
	}
	var columns []string
	for _, f := range rows.FieldDescriptions() {
		columns = append(columns, f.Name)
	}
	row, err := pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
	if err != nil {
		return err
	}
	at := func(name string) *any { return &row[slices.Index(columns, name)] }
	id, key, until, expires := at("id"), at("key"), at("until"), at("expires")
	later, passed := *expires, time.Now().Add(-time.Minute).UnixMilli()
	next := part
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"many", "record"}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if next >= r.rows {
			return nil, nil
		}
		k := claim(strconv.Itoa(next)).Key
		*id, *key, *until, *expires = k.ID(), []byte(k.Value()), later, later
		if next%10 == 0 {
			*until, *expires = passed, passed
		}
		next += parts
		return row, nil
	}))
	return err
}

// weigh says what space the table takes.
func (r *manyRig) weigh(when string) {
	r.t.Helper()
	size := func(function string) float64 {
		n, err := strconv.ParseFloat(r.server.Do("SELECT "+function+"('many.record')"), 64)
		if err != nil {
			r.t.Fatal(err)
		}
		return n
	}
	table, index := size("pg_table_size"), size("pg_indexes_size")
	r.figure("%s the table has %.2f GB and its index %.2f GB: %.0f bytes for each row written", when, table/1e9, index/1e9,
		(table+index)/float64(r.rows))
}

// compare measures a call on both tables in turn.
func (r *manyRig) compare(what string, call func(s *pstore.Store, i int)) {
	r.t.Helper()
	took := map[*pstore.Store][]time.Duration{}
	for i := range 1000 {
		for _, s := range []*pstore.Store{r.empty, r.many} {
			begun := time.Now()
			call(s, i)
			took[s] = append(took[s], time.Since(begun))
		}
	}
	quantile := func(s *pstore.Store, q float64) time.Duration {
		slices.Sort(took[s])
		return took[s][int(q*float64(len(took[s])-1))]
	}
	r.figure("%s takes %.2f × what it takes with an empty table (median %v, 99 %% within %v; empty: %v and %v)", what,
		float64(quantile(r.many, 0.5))/float64(quantile(r.empty, 0.5)),
		quantile(r.many, 0.5).Round(time.Microsecond), quantile(r.many, 0.99).Round(time.Microsecond),
		quantile(r.empty, 0.5).Round(time.Microsecond), quantile(r.empty, 0.99).Round(time.Microsecond))
}

// sweep passes over the whole table, without the pauses that a proxy makes.
func (r *manyRig) sweep() {
	r.t.Helper()
	var gone int64
	var steps []time.Duration
	begun := time.Now()
	for whole := false; !whole; {
		before := time.Now()
		n, last, err := r.many.SweepOnce(r.t.Context(), 128, 0, 0)
		if err != nil || n < 0 {
			r.t.Fatalf("a step of the sweep: %d, %v", n, err)
		}
		gone, whole, steps = gone+n, last, append(steps, time.Since(before))
	}
	took := time.Since(begun)
	if want := int64((r.rows + 9) / 10); gone != want {
		r.t.Errorf("the sweep deleted %d rows, want %d", gone, want)
	}
	slices.Sort(steps)
	r.figure("the sweep deleted %d rows in %d steps of 1 MiB, in %v without its pauses (a step: median %v, at most %v)", gone, len(steps),
		took.Round(time.Millisecond), steps[len(steps)/2].Round(time.Microsecond), steps[len(steps)-1].Round(time.Microsecond))
}
