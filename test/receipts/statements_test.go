package receipts_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/idemproxy/idemproxy/receipt"
)

// plain is a backend that has the statements of receipts.sql and nothing else of ours.
type plain struct {
	db  *sql.DB
	sql map[string]string
}

func serveStatements(t *testing.T, db *sql.DB, file string) (url string) {
	t.Helper()
	p := &plain{db: db, sql: statements(t, file)}
	if _, err := db.ExecContext(t.Context(), p.sql["clean"], 0); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return s.URL
}

type answer struct {
	status sql.NullInt64
	fields sql.NullString
	body   []byte
	voided bool
}

func (p *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	scope, key, attempt := r.Header.Get(receipt.HeaderScope), r.Header.Get(receipt.HeaderKey), r.Header.Get(receipt.HeaderAttempt)
	var a answer
	var err error
	switch {
	case r.Method != http.MethodPost && r.Header.Get("Authorization") != "Bearer "+secret:
		w.WriteHeader(http.StatusUnauthorized)
		return
	case r.Method == http.MethodPut && (key == "" || attempt == ""):
		w.WriteHeader(http.StatusBadRequest)
		return
	case r.Method == http.MethodPut:
		if _, err = p.db.ExecContext(r.Context(), p.sql["void"], scope, key, attempt); err == nil {
			a, err = p.find(r.Context(), p.db, scope, key, attempt)
		}
	case r.Method == http.MethodGet:
		if a, err = p.find(r.Context(), p.db, scope, key, attempt); errors.Is(err, sql.ErrNoRows) {
			a, err = answer{voided: true}, nil
		}
	default:
		if attempt == "" {
			attempt = rand.Text()
		}
		if key == "" {
			key = attempt
		}
		a, err = p.execute(r, scope, key, attempt)
	}
	own := map[string]string{}
	status := int(a.status.Int64)
	switch {
	case errors.Is(err, errNoOrder):
		status = http.StatusBadRequest
	case err != nil:
		own[receipt.HeaderOutcome], status = receipt.OutcomeUnknown, http.StatusServiceUnavailable
	case a.voided && r.Method == http.MethodPut:
		own[receipt.HeaderOutcome], status = receipt.OutcomeVoided, http.StatusNoContent
	case a.voided && r.Method == http.MethodGet:
		status = http.StatusNotFound
	case a.voided:
		own[receipt.HeaderOutcome], status = receipt.OutcomeVoided, http.StatusConflict
	case r.Method != http.MethodPost:
		own[receipt.HeaderOutcome], own[receipt.HeaderStatus], status = receipt.OutcomeExecuted, strconv.Itoa(status), http.StatusOK
	default:
		own[receipt.HeaderOutcome] = receipt.OutcomeExecuted
	}
	fields := map[string]string{}
	_ = json.Unmarshal([]byte(a.fields.String), &fields)
	for _, all := range []map[string]string{fields, own} {
		for name, value := range all {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(a.body)
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (p *plain) find(ctx context.Context, in querier, scope, key, attempt string) (a answer, err error) {
	var executed sql.NullInt64
	err = in.QueryRowContext(ctx, p.sql["find"], scope, key, attempt).Scan(&executed, &a.status, &a.fields, &a.body)
	a.voided = !executed.Valid
	return a, err
}

func (p *plain) execute(r *http.Request, scope, key, attempt string) (answer, error) {
	tx, err := p.db.BeginTx(r.Context(), nil)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = tx.Rollback() }()
	inserted, err := tx.ExecContext(r.Context(), p.sql["execute"], scope, key, attempt)
	if err != nil {
		return answer{}, err
	}
	if n, err := inserted.RowsAffected(); err != nil || n == 0 {
		if err != nil {
			return answer{}, err
		}
		return p.find(r.Context(), tx, scope, key, attempt)
	}
	a, err := pay(r, tx)
	if err != nil {
		return answer{}, err
	}
	if _, err := tx.ExecContext(r.Context(), p.sql["complete"], a.status, a.fields, a.body, attempt); err != nil {
		return answer{}, err
	}
	return a, tx.Commit()
}

var errNoOrder = errors.New("want JSON with an amount")

func pay(r *http.Request, tx *sql.Tx) (a answer, err error) {
	var order struct{ Amount *int }
	if err := json.NewDecoder(r.Body).Decode(&order); err != nil || order.Amount == nil {
		return a, errNoOrder
	}
	if *order.Amount <= 0 {
		return answer{status: sql.NullInt64{Int64: 422, Valid: true}, fields: sql.NullString{String: `{"Content-Type":"text/plain"}`, Valid: true}, body: []byte("want an amount\n")}, nil
	}
	var id int
	err = tx.QueryRowContext(r.Context(), "INSERT INTO payments (amount) VALUES ($1) RETURNING id", *order.Amount).Scan(&id)
	return answer{
		status: sql.NullInt64{Int64: 201, Valid: true}, fields: sql.NullString{String: `{"Content-Type":"application/json"}`, Valid: true},
		body: fmt.Appendf(nil, `{"payment": %d}`, id),
	}, err
}
