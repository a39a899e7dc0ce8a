package receipt_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/idemproxy/idemproxy/receipt"
)

// How an answer to COMMIT is lost.
type losing int

const (
	loseNothing losing = iota
	loseAfter          // it has taken effect
	loseBefore         // it never will
	loseAhead          // it takes effect once released
)

// flaky opens connections that lose answers. The driver's own connection does the rest.
type flaky struct {
	driver   driver.Driver
	dsn      string
	mu       sync.Mutex
	lose     losing // guarded by mu
	released chan struct{}
	lost     func()         // is called when one is lost, if it is not nil
	done     sync.WaitGroup // what was released
}

func (f *flaky) Connect(context.Context) (driver.Conn, error) {
	conn, err := f.driver.Open(f.dsn)
	if err != nil {
		return nil, err
	}
	return &flakyConn{Conn: conn, flaky: f}, nil
}

func (f *flaky) Driver() driver.Driver { return f.driver }

// next is what is lost, once.
func (f *flaky) next() losing {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.lose
	f.lose = loseNothing
	return l
}

// flakyConn keeps a connection open until its commit has been made.
type flakyConn struct {
	driver.Conn

	flaky *flaky
	ahead bool
}

func (c *flakyConn) Close() error {
	if c.ahead {
		return nil
	}
	return c.Conn.Close()
}

func (c *flakyConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, options)
	return &flakyTx{Tx: tx, conn: c}, err
}

func (c *flakyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *flakyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *flakyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
}

func (c *flakyConn) CheckNamedValue(v *driver.NamedValue) error {
	if own, ok := c.Conn.(driver.NamedValueChecker); ok {
		return own.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

type flakyTx struct {
	driver.Tx

	conn *flakyConn
}

func (x *flakyTx) Commit() error {
	f := x.conn.flaky
	if f.lost != nil {
		defer f.lost()
	}
	switch f.next() {
	case loseAfter:
		return errors.Join(x.Tx.Commit(), driver.ErrBadConn)
	case loseBefore:
		return errors.Join(x.Rollback(), driver.ErrBadConn)
	case loseAhead:
		x.conn.ahead = true
		f.done.Go(func() {
			<-f.released
			_ = x.Tx.Commit()
			_ = x.conn.Conn.Close()
		})
		return driver.ErrBadConn
	case loseNothing:
	}
	return x.Tx.Commit()
}

// commits are of backends that lose the answer to COMMIT.
func commits() map[string]func(*bench) {
	return map[string]func(*bench){
		"CommitLosesAnswer":             func(b *bench) { commit(b, loseAfter, "a", http.StatusCreated, receipt.OutcomeExecuted) },
		"CommitIsLost":                  func(b *bench) { commit(b, loseBefore, "a", http.StatusConflict, receipt.OutcomeVoided) },
		"CommitComesLater":              func(b *bench) { commit(b, loseAhead, "a", http.StatusCreated, receipt.OutcomeExecuted) },
		"CommitLosesAnswerWithoutToken": func(b *bench) { commit(b, loseAfter, "", http.StatusCreated, receipt.OutcomeExecuted) },
		"CommitIsLostWithoutToken":      func(b *bench) { commit(b, loseBefore, "", http.StatusConflict, receipt.OutcomeVoided) },
		"CommitComesLaterWithoutToken":  func(b *bench) { commit(b, loseAhead, "", http.StatusCreated, receipt.OutcomeExecuted) },
		"CommitFailsWithoutKey":         commitWithoutKey,
		"CommitFailsAndClientLeaves":    commitClientLeaves,
	}
}

func (b *bench) flaky(lose losing) (*sql.DB, *flaky) {
	f := &flaky{driver: b.db.Driver(), dsn: b.dsn, lose: lose, released: make(chan struct{})}
	db := sql.OpenDB(f)
	b.t.Cleanup(func() { _ = db.Close() })
	return db, f
}

// commit wants the true answer of a request whose commit fails, and the same one of
// another attempt if it was executed.
func commit(b *bench, lose losing, attempt string, status int, outcome string) {
	db, f := b.flaky(lose)
	answered := make(chan *httptest.ResponseRecorder, 1)
	go func() { answered <- b.request(db, "k", attempt, b.payer(http.StatusCreated)) }()
	if lose == loseAhead {
		b.blocked()
	}
	if lose == loseAhead && b.dialect != receipt.SQLite { // SQLite does not tell who waits
		select {
		case got := <-answered:
			b.t.Errorf("%d %v, although nobody knows", got.Code, got.Header())
			answered <- got
		default:
		}
	}
	close(f.released)
	got := <-answered
	f.done.Wait()
	if got.Code != status || got.Header().Get(receipt.HeaderOutcome) != outcome {
		b.t.Errorf("%d %v, want %d", got.Code, got.Header(), status)
	}
	if status != http.StatusCreated {
		b.effects(0)
		status = http.StatusCreated
	}
	if again := b.request(db, "k", "again", b.payer(http.StatusCreated)); again.Code != status {
		b.t.Errorf("another attempt: %d %s", again.Code, again.Body)
	} else if outcome == "" && again.Body.String() != got.Body.String() {
		b.t.Errorf("another attempt got %q, want %q", again.Body, got.Body)
	}
	b.effects(1)
}

// A client that leaves while the commit fails leaves nobody in doubt: what became of the
// attempt is asked all the same.
func commitClientLeaves(b *bench) {
	db, f := b.flaky(loseAfter)
	ctx, leave := context.WithCancel(b.context())
	f.lost = leave
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/pay", http.NoBody)
	r.Header.Set(receipt.HeaderKey, "k")
	r.Header.Set(receipt.HeaderAttempt, "a")
	got := httptest.NewRecorder()
	b.Middleware(db, b.payer(http.StatusCreated)).ServeHTTP(got, r)
	if ctx.Err() == nil || got.Code != http.StatusCreated || got.Header().Get(receipt.HeaderOutcome) != receipt.OutcomeExecuted {
		b.t.Errorf("%d %v", got.Code, got.Header())
	}
	b.effects(1)
}

// Without a key, nobody can ask what became of it.
func commitWithoutKey(b *bench) {
	db, _ := b.flaky(loseAfter)
	got := b.request(db, "", "", b.payer(http.StatusCreated))
	if got.Code != http.StatusServiceUnavailable || got.Header().Get(receipt.HeaderOutcome) != receipt.OutcomeUnknown {
		b.t.Errorf("%d %v", got.Code, got.Header())
	}
	b.effects(1)
}

// A commit that fails, of a database that is away from then on, is in doubt.
func TestCommitFailsForGood(t *testing.T) {
	t.Parallel()
	b := newBench(t, receipt.SQLite, "sqlite", sqliteFile(t))
	db, f := b.flaky(loseAfter)
	got := b.request(db, "k", "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.driver = awayDriver{}
		b.payer(http.StatusCreated).ServeHTTP(w, r)
	}))
	if got.Code != http.StatusServiceUnavailable || got.Header().Get(receipt.HeaderOutcome) != receipt.OutcomeUnknown {
		t.Errorf("%d %v", got.Code, got.Header())
	}
	if got := b.request(db, "k", "b", b.payer(http.StatusCreated)); got.Code != http.StatusServiceUnavailable ||
		got.Header().Get(receipt.HeaderOutcome) != "" {
		t.Errorf("without a database: %d %v", got.Code, got.Header())
	}
	b.effects(1)
}

type awayDriver struct{}

func (awayDriver) Open(string) (driver.Conn, error) { return nil, errors.New("the database is away") }
