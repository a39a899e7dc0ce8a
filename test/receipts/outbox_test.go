package receipts_test

import (
	"database/sql"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/receipt"
)

// TestOutboxOfThePage: the statement of docs/receipts.md for an outbox leaves one message
// of an operation, however often it is tried, and none of work that was rolled back.
func TestOutboxOfThePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/receipts.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "INSERT INTO outbox")
	statement, _, found := strings.Cut(rest, "\n")
	if !found {
		t.Fatal("docs/receipts.md has no outbox")
	}
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "db")+"?_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	schema := receipt.SQLite.Migration() + "CREATE TABLE outbox (message_key TEXT PRIMARY KEY, message TEXT)"
	if _, err := db.ExecContext(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	receipts, err := receipt.New(receipt.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	status := http.StatusInternalServerError
	backend := receipts.Middleware(db, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		key := q.Header.Get(receipt.HeaderKey)
		_, err := receipt.Tx(q.Context()).ExecContext(q.Context(), "INSERT INTO outbox"+statement, sql.Named("op_key", key), sql.Named("mail", "paid"))
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
	}))
	for i, want := range []int{0, 1, 1} {
		q := httptest.NewRequest(http.MethodPost, "/pay", nil)
		q.Header.Set(receipt.HeaderKey, "k")
		q.Header.Set(receipt.HeaderAttempt, string(rune('a'+i)))
		backend.ServeHTTP(httptest.NewRecorder(), q)
		status = http.StatusCreated
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM outbox WHERE message_key = 'k/receipt-mail'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n != want {
			t.Errorf("after attempt %d: %d messages, want %d", i+1, n, want)
		}
	}
}
