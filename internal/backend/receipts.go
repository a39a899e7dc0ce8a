package backend

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/idemproxy/idemproxy/receipt"
)

// ledger is the demo backend's database, where each charge is a row, written together
// with its receipt: see docs/receipts.md.
type ledger struct {
	db       *sql.DB
	receipts *receipt.Receipts
	endpoint fasthttp.RequestHandler
}

// WithReceipts is a backend that writes its charges, and a receipt of each, into an
// SQLite database, and answers the proxy's questions at /receipts.
func WithReceipts(db *sql.DB) (*Backend, error) {
	receipts, err := receipt.New(receipt.SQLite)
	if err != nil {
		return nil, fmt.Errorf("the receipts: %w", err)
	}
	for _, schema := range []string{
		receipt.SQLite.Migration(), "CREATE TABLE IF NOT EXISTS charges (id INTEGER PRIMARY KEY, op_key TEXT NOT NULL)",
	} {
		if _, err := db.ExecContext(context.Background(), schema); err != nil {
			return nil, fmt.Errorf("making the tables of the demo backend: %w", err)
		}
	}
	b := New()
	b.ledger = &ledger{
		db: db, receipts: receipts, endpoint: fasthttpadaptor.NewFastHTTPHandler(receipts.Endpoint(db, "")),
	}
	return b, nil
}

// errTryAgain rolls back what is to be tried again.
var errTryAgain = errors.New("this response is no end of the operation")

// keep commits a charge and the response to it, together. Where the key has been charged
// already the response is that of the receipt, and nothing is charged.
func (l *ledger) keep(ctx *fasthttp.RequestCtx, key string) (charged bool) {
	header := &ctx.Request.Header
	q := receipt.Request{
		Key: key, Scope: string(header.Peek(receipt.HeaderScope)), Attempt: string(header.Peek(receipt.HeaderAttempt)),
	}
	response, err := l.charge(q, responseOf(&ctx.Response), &charged)
	if err == nil {
		defer ctx.Response.Header.Set(receipt.HeaderOutcome, receipt.OutcomeExecuted)
	}
	switch {
	case errors.Is(err, errTryAgain):
	case errors.Is(err, receipt.ErrVoided):
		ctx.Error("this attempt was voided: nothing was charged\n", fasthttp.StatusConflict)
		ctx.Response.Header.Set(receipt.HeaderOutcome, receipt.OutcomeVoided)
	case err != nil:
		ctx.Error("the demo backend's database: "+err.Error()+"\n", fasthttp.StatusServiceUnavailable)
		ctx.Response.Header.Set(receipt.HeaderOutcome, receipt.OutcomeUnknown)
	case !charged:
		ctx.Response.Reset()
		ctx.SetStatusCode(response.Status)
		for name, values := range response.Header {
			for _, value := range values {
				ctx.Response.Header.Add(name, value)
			}
		}
		ctx.SetBody(response.Body)
	}
	return charged
}

// charge is the transaction.
func (l *ledger) charge(q receipt.Request, answer receipt.Response, charged *bool) (receipt.Response, error) {
	ctx := context.Background()
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return receipt.Response{}, fmt.Errorf("beginning: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit, nothing
	response, err := l.receipts.Do(ctx, tx, q, func() (receipt.Response, error) {
		if answer.Status == fasthttp.StatusTooManyRequests || answer.Status >= fasthttp.StatusInternalServerError {
			return answer, errTryAgain
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO charges (op_key) VALUES (?)", q.Key); err != nil {
			return answer, fmt.Errorf("charging: %w", err)
		}
		*charged = true
		return answer, nil
	})
	if err == nil {
		err = tx.Commit()
	}
	*charged = *charged && err == nil
	return response, err //nolint:wrapcheck // it says enough
}

// responseOf is what a receipt keeps of a response.
func responseOf(r *fasthttp.Response) receipt.Response {
	kept := receipt.Response{Status: r.StatusCode(), Header: http.Header{}, Body: append([]byte(nil), r.Body()...)}
	for name, value := range r.Header.All() {
		if n := string(name); n != "Content-Length" && n != "Server" && n != "Date" {
			kept.Header.Add(n, string(value))
		}
	}
	return kept
}
