package receipt_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/receipt"
)

func of(key, attempt string) receipt.Request { return receipt.Request{Key: key, Attempt: attempt} }

// outcomes are of attempts one after another.
func outcomes() map[string]func(*bench) {
	return map[string]func(*bench){
		"Executed":     executed,
		"VoidedBefore": voidedBefore,
		"FailedWork":   failedWork,
		"Bodies":       bodies,
		"Keys":         keys,
		"TooLong":      tooLong,
		"Scopes":       scopes,
		"NoKey":        noKey,
		"NoAttempt":    noAttempt,
		"BadStatus":    badStatus,
		"NoResponse":   noResponse,
		"Snapshots":    snapshots,
		"Cleaned":      cleaned,
	}
}

// Whoever comes after the execution gets its response.
func executed(b *bench) {
	b.failed(receipt.ErrNone)(b.Find(b.context(), b.db, of("k", "a")))
	b.answered("a")(b.do(of("k", "a")))
	b.answered("a")(b.do(of("k", "a")))
	b.answered("a")(b.do(of("k", "b")))
	b.answered("a")(b.void(of("k", "a")))
	b.answered("a")(b.void(of("k", "c")))
	b.answered("a")(b.do(of("k", "c")))
	b.answered("a")(b.Find(b.context(), b.db, of("k", "")))
	b.effects(1)
}

// A voided attempt has no effect when it comes; another one has, and is then what the
// voided one gets.
func voidedBefore(b *bench) {
	b.failed(receipt.ErrVoided)(b.void(of("k", "a")))
	b.failed(receipt.ErrVoided)(b.void(of("k", "a")))
	b.failed(receipt.ErrNone)(b.Find(b.context(), b.db, of("k", "a")))
	b.failed(receipt.ErrVoided)(b.do(of("k", "a")))
	b.failed(receipt.ErrVoided)(b.void(of("k", "b")))
	b.effects(0)
	b.answered("c")(b.do(of("k", "c")))
	b.answered("c")(b.void(of("k", "a")))
	b.answered("c")(b.do(of("k", "b")))
	b.effects(1)
}

var errWork = errors.New("no money")

func failedWork(b *bench) {
	tx := b.begin(nil)
	b.failed(errWork)(b.Do(b.context(), tx, of("k", "a"), func() (receipt.Response, error) {
		if _, err := tx.ExecContext(b.context(), "INSERT INTO effects (attempt) VALUES ('a')"); err != nil {
			b.t.Error(err)
		}
		return receipt.Response{}, errWork
	}))
	if err := tx.Rollback(); err != nil {
		b.t.Error(err)
	}
	b.effects(0)
	b.rows(0)
	b.answered("b")(b.do(of("k", "b")))
	b.effects(1)
}

// Every body, and no field at all, comes back as it was.
func bodies(b *bench) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for i, body := range [][]byte{nil, {}, every, bytes.Repeat([]byte("x"), 1<<20)} {
		q := of(fmt.Sprint(i), fmt.Sprint(i))
		tx := b.begin(nil)
		_, err := b.Do(b.context(), tx, q, func() (receipt.Response, error) {
			return receipt.Response{Status: http.StatusNoContent, Body: body}, nil
		})
		if err != nil {
			b.t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			b.t.Fatal(err)
		}
		r, err := b.do(q)
		if err != nil || r.Status != http.StatusNoContent || len(r.Header) != 0 || !bytes.Equal(r.Body, body) {
			b.t.Errorf("body %d: got %d %v and %d bytes, error %v", i, r.Status, r.Header, len(r.Body), err)
		}
	}
	b.effects(0)
}

// Keys that a database could take for one another are several.
func keys(b *bench) {
	long := strings.Repeat("k", 254)
	several := []string{"k", "K", "k ", " k", "k\t", "e", "\u00e9", "e\u0301", "ss", "\u00df", "%", "_", "'", "\\", long + "a", long + "A"}
	for i, key := range several {
		b.answered(fmt.Sprint(i))(b.do(of(key, fmt.Sprint(i))))
		b.answered(fmt.Sprint(i))(b.do(receipt.Request{Key: key, Attempt: fmt.Sprint(i, "again")}))
	}
	b.effects(len(several))
	for i, attempt := range []string{"x", "X", "x ", strings.Repeat("x", 64)} {
		b.failed(receipt.ErrVoided)(b.void(of(fmt.Sprint("attempts", i), attempt)))
	}
	b.rows(len(several) + 4)
}

// What a database would cut is refused, before anything is done.
func tooLong(b *bench) {
	b.answered("a")(b.do(receipt.Request{Key: strings.Repeat("k", 255), Scope: strings.Repeat("s", 1024), Attempt: "a"}))
	for name, q := range map[string]receipt.Request{
		"key":     of(strings.Repeat("k", 256), "b"),
		"scope":   {Key: "k", Scope: strings.Repeat("s", 1025), Attempt: "b"},
		"attempt": of("k", strings.Repeat("a", 65)),
	} {
		if _, err := b.do(q); err == nil {
			b.t.Errorf("%s: it was done", name)
		}
		if _, err := b.void(q); err == nil || errors.Is(err, receipt.ErrVoided) {
			b.t.Errorf("%s: the void says %v", name, err)
		}
	}
	b.effects(1)
	b.rows(1)
}

// Scopes keep operations apart, but an attempt is one whatever its scope is called: a
// setting may have changed between the attempt and the void.
func scopes(b *bench) {
	at := func(scope, attempt string) receipt.Request {
		return receipt.Request{Key: "k", Scope: scope, Attempt: attempt}
	}
	b.answered("a")(b.do(at("one", "a")))
	b.answered("b")(b.do(at("two", "b")))
	b.answered("c")(b.do(at("", "c")))
	b.effects(3)
	b.answered("a")(b.void(at("three", "a")))
	b.answered("a")(b.do(at("three", "a")))
	b.failed(receipt.ErrVoided)(b.void(at("one again", "d")))
	b.failed(receipt.ErrVoided)(b.do(at("another", "d")))
	b.effects(3)
}

func noKey(b *bench) {
	for range 2 {
		b.answered("a")(b.do(receipt.Request{Attempt: "a"}))
	}
	b.effects(2)
	b.rows(0)
}

// Requests without a token are executed once per operation.
func noAttempt(b *bench) {
	for range 2 {
		b.answered("")(b.do(of("k", "")))
		b.answered("")(b.do(of("other", "")))
	}
	b.effects(2)
}

// A response that nobody could repeat is a failure of the work.
func badStatus(b *bench) {
	for _, status := range []int{0, 100, 199, 600, -1} {
		tx := b.begin(nil)
		_, err := b.Do(b.context(), tx, of("k", "a"), func() (receipt.Response, error) { return receipt.Response{Status: status}, nil })
		if err == nil {
			b.t.Errorf("%d is the status of a receipt", status)
		}
		_ = tx.Rollback()
	}
	b.rows(0)
	for _, status := range []int{200, 599} { // the bounds themselves are
		tx := b.begin(nil)
		got, err := b.Do(b.context(), tx, of(fmt.Sprint(status), fmt.Sprint(status)), func() (receipt.Response, error) { return receipt.Response{Status: status}, nil })
		if err != nil || got.Status != status {
			b.t.Errorf("%d: %+v, %v", status, got, err)
		}
		if err := tx.Commit(); err != nil {
			b.t.Error(err)
		}
	}
	b.rows(2)
}

// A transaction that was committed although Do had failed may have had an effect: that
// is neither executed nor voided.
func noResponse(b *bench) {
	tx := b.begin(nil)
	_, _ = b.Do(b.context(), tx, of("k", "a"), func() (receipt.Response, error) { return receipt.Response{}, errWork })
	if err := tx.Commit(); err != nil {
		b.t.Fatal(err)
	}
	for _, ask := range []func(receipt.Request) (receipt.Response, error){b.do, b.void} {
		if _, err := ask(of("k", "a")); err == nil || errors.Is(err, receipt.ErrVoided) || errors.Is(err, receipt.ErrNone) ||
			!strings.Contains(err.Error(), "the receipt has no response") {
			b.t.Errorf("got error %v", err)
		}
	}
	b.effects(0)
}

// A transaction whose snapshot is older than the execution, or the void, gets the
// receipt, the refusal or an error.
func snapshots(b *bench) {
	for _, level := range []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
		switch {
		case b.dialect == receipt.SQLite && level != sql.LevelDefault: // it has one level
			continue
		case b.dialect == receipt.MySQL && level == sql.LevelSerializable: // nobody writes what it has read
			continue
		}
		for _, isVoided := range []bool{false, true} {
			name := fmt.Sprintf("%s %v", level, isVoided)
			tx := b.begin(&sql.TxOptions{Isolation: level})
			var n int
			if err := tx.QueryRowContext(b.context(), "SELECT COUNT(*) FROM idempotency_receipts").Scan(&n); err != nil {
				b.t.Fatal(err)
			}
			q := of(name, "late "+name)
			if isVoided {
				b.failed(receipt.ErrVoided)(b.void(q))
			} else {
				b.answered("in time " + name)(b.do(of(name, "in time "+name)))
			}
			r, err := b.in(tx, q)
			b.t.Logf("%s: %d %v", name, r.Status, err)
			switch {
			case b.dialect == receipt.MySQL && err != nil && !errors.Is(err, receipt.ErrVoided): // it reads what is committed
				b.t.Errorf("%s: %v", name, err)
			case err == nil && isVoided:
				b.t.Errorf("%s: what was voided is executed", name)
			case err == nil:
				b.answered("in time "+name)(r, err)
				_ = tx.Commit()
			}
			_ = tx.Rollback()
		}
	}
	if n := b.count("SELECT COUNT(*) FROM effects WHERE attempt LIKE 'late%'"); n != 0 {
		b.t.Errorf("%d effects of late attempts", n)
	}
}

func cleaned(b *bench) {
	b.answered("a")(b.do(of("k", "a")))
	b.failed(receipt.ErrVoided)(b.void(of("other", "b")))
	clean := func(age time.Duration, want int64) {
		b.t.Helper()
		if n, err := b.Clean(b.context(), b.db, age); n != want || err != nil {
			b.t.Errorf("cleaned %d rows, error %v, want %d", n, err, want)
		}
	}
	clean(time.Hour, 0)
	b.answered("a")(b.do(of("k", "b")))
	b.exec(fmt.Sprintf("UPDATE idempotency_receipts SET made = %d WHERE attempt = 'a'", time.Now().Add(-2*time.Hour).UnixMilli()))
	clean(time.Hour, 1)
	clean(-time.Hour, 1)
	b.rows(0)
}

// A row that is gone by the time it is read is no answer: nothing holds the attempt off.
func TestVoidIsGone(t *testing.T) {
	t.Parallel()
	b := newBench(t, receipt.SQLite, "sqlite", sqliteFile(t))
	b.exec("CREATE TRIGGER gone AFTER INSERT ON idempotency_receipts BEGIN DELETE FROM idempotency_receipts WHERE attempt = NEW.attempt; END")
	b.failed(receipt.ErrNone)(b.void(of("k", "a")))
	endpoint := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "/receipts", http.NoBody)
	r.Header = named("k", "a")
	b.Endpoint(b.db, "").ServeHTTP(endpoint, r)
	if endpoint.Code != http.StatusNotFound || endpoint.Header().Get(receipt.HeaderOutcome) != "" {
		t.Errorf("%d %v", endpoint.Code, endpoint.Header())
	}
}

// A database that is away leads to errors, and to no answer.
func TestNoDatabase(t *testing.T) {
	t.Parallel()
	b := newBench(t, receipt.SQLite, "sqlite", sqliteFile(t))
	_ = b.db.Close()
	for name, ask := range map[string]func(context.Context, *sql.DB, receipt.Request) (receipt.Response, error){"Void": b.Void, "Find": b.Find} {
		if _, err := ask(b.context(), b.db, of("k", "a")); err == nil || errors.Is(err, receipt.ErrVoided) || errors.Is(err, receipt.ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Clean(b.context(), b.db, 0); err == nil {
		t.Error("Clean: no error")
	}
	if _, err := receipt.New("oracle"); err == nil || receipt.Dialect("oracle").Migration() != "" {
		t.Error("there is a dialect oracle")
	}
}
