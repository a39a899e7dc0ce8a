package receipt

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"database/sql"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// Fields of the conversation between proxy and backend.
const (
	HeaderKey     = "Idempotency-Key"
	HeaderScope   = "Idempotency-Scope"
	HeaderAttempt = "Idempotency-Attempt-Token"
	// HeaderOutcome says what became of an attempt: executed, voided or unknown.
	HeaderOutcome = "Idempotency-Outcome"
	// HeaderStatus is the status of the response that a receipt keeps.
	HeaderStatus = "Idempotency-Status"
)

// The values of HeaderOutcome.
const (
	OutcomeExecuted = "executed"
	OutcomeVoided   = "voided"
	OutcomeUnknown  = "unknown"
)

// FromHeader is the attempt that a request is, which has no Key if no proxy gave it
// one.
func FromHeader(h http.Header) Request {
	return Request{Key: h.Get(HeaderKey), Scope: h.Get(HeaderScope), Attempt: h.Get(HeaderAttempt)}
}

// WriteTo answers with a response.
func (r *Response) WriteTo(w http.ResponseWriter) {
	for name, values := range r.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write(r.Body) //nolint:gosec // the handler's own response; an error: the client has left
}

// Refuse answers an attempt that was voided.
func Refuse(w http.ResponseWriter) {
	w.Header().Set(HeaderOutcome, OutcomeVoided)
	http.Error(w, "this attempt was voided: nothing was done", http.StatusConflict)
}

// Unsure answers an attempt of which nobody can tell yet whether it was committed. The
// proxy then asks the endpoint.
func Unsure(w http.ResponseWriter) {
	w.Header().Set(HeaderOutcome, OutcomeUnknown)
	http.Error(w, "it is not known whether this was done", http.StatusServiceUnavailable)
}

// maxVoid bounds how long the endpoint waits for a transaction that is under way. The
// proxy asks again.
const maxVoid = 30 * time.Second

// Endpoint is what the proxy asks (its setting receipts): PUT voids the attempt that
// the fields name unless it was executed, GET only looks. Everybody who can reach it
// can read responses, so it wants the secret as a bearer token, unless that is empty:
// then nothing but the network must stand in the way.
func (c *Receipts) Endpoint(db *sql.DB, secret string) http.Handler {
	want := []byte("Bearer " + secret)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := FromHeader(r.Header)
		switch {
		case secret != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1:
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the secret of the receipts is missing or another one", http.StatusUnauthorized)
		case q.Key == "" || q.Attempt == "" && r.Method == http.MethodPut:
			http.Error(w, "want "+HeaderKey+" and "+HeaderAttempt, http.StatusBadRequest)
		case q.fits() != nil:
			http.Error(w, errTooLong.Error(), http.StatusBadRequest)
		case r.Method == http.MethodPut:
			c.answer(w, r, db, q, c.Void)
		case r.Method == http.MethodGet:
			c.answer(w, r, db, q, c.Find)
		default:
			w.Header().Set("Allow", "GET, PUT")
			http.Error(w, "want PUT or GET", http.StatusMethodNotAllowed)
		}
	})
}

func (c *Receipts) answer(w http.ResponseWriter, r *http.Request, db *sql.DB, q Request,
	ask func(context.Context, *sql.DB, Request) (Response, error),
) {
	ctx, cancel := context.WithTimeout(r.Context(), maxVoid)
	defer cancel()
	response, err := ask(ctx, db, q)
	switch {
	case err == nil:
		for name, values := range response.Header {
			if !isOfOneMessage(name) {
				w.Header()[name] = values
			}
		}
		w.Header().Set(HeaderOutcome, OutcomeExecuted) // after what the response has of that name
		w.Header().Set(HeaderStatus, strconv.Itoa(response.Status))
		_, _ = w.Write(response.Body) // an error: the proxy asks again
	case errors.Is(err, ErrVoided):
		w.Header().Set(HeaderOutcome, OutcomeVoided)
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, ErrNone):
		http.Error(w, "there is no receipt", http.StatusNotFound)
	default:
		w.Header().Set(HeaderOutcome, OutcomeUnknown)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// isOfOneMessage says of a field that it is about the message that it came with, and
// would spoil another one: a response to HEAD has a length and no body.
func isOfOneMessage(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Content-Length", "Transfer-Encoding", "Connection", "Trailer", "Upgrade", "Keep-Alive":
		return true
	}
	return false
}

type txKey struct{}

// Tx is the transaction that a request's effects belong in, under [Receipts.Middleware];
// nil elsewhere.
func Tx(ctx context.Context) *sql.Tx {
	tx, _ := ctx.Value(txKey{}).(*sql.Tx)
	return tx
}

// errTryAgain rolls a response back that is no end of the operation.
var errTryAgain = errors.New("answered with a status that is no end of the operation")

// triesAgain says of a status that the operation is to be tried again: the proxy frees the key, or
// the server failed.
func triesAgain(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusMisdirectedRequest,
		http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= http.StatusInternalServerError
}

// Middleware runs a handler in a transaction ([Tx]) and keeps its response as the
// receipt. The response is sent once that is committed, so it is held in memory. A
// status of 401, 407, 408, 421, 425, 429 or from 500 on rolls back and leaves no receipt:
// the operation may be tried again. Requests without a key are handled likewise, without a receipt.
func (c *Receipts) Middleware(db *sql.DB, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := FromHeader(r.Header)
		if q.fits() != nil {
			http.Error(w, errTooLong.Error(), http.StatusBadRequest)
			return
		}
		if q.Attempt == "" {
			q.Attempt = rand.Text() // here, since the void after a failed commit has to name it
		}
		tx, err := db.BeginTx(r.Context(), nil)
		if err != nil {
			http.Error(w, "the database cannot be reached: nothing was done", http.StatusServiceUnavailable)
			return
		}
		defer func() { _ = tx.Rollback() }() // after a commit, nothing; after a panic, all
		recorded := recorder{header: http.Header{}, status: http.StatusOK}
		response, err := c.Do(r.Context(), tx, q, func() (Response, error) {
			next.ServeHTTP(&recorded, r.WithContext(context.WithValue(r.Context(), txKey{}, tx)))
			answer := Response{Status: recorded.status, Header: recorded.header, Body: recorded.body.Bytes()}
			if triesAgain(answer.Status) {
				return answer, errTryAgain
			}
			return answer, nil
		})
		switch {
		case errors.Is(err, errTryAgain):
			_ = tx.Rollback()
			response = Response{Status: recorded.status, Header: recorded.header, Body: recorded.body.Bytes()}
			response.WriteTo(w)
		case errors.Is(err, ErrVoided):
			Refuse(w)
		case err != nil:
			http.Error(w, "the database failed: nothing was done", http.StatusServiceUnavailable)
		default:
			c.commit(w, r, db, tx, q, &response)
		}
	})
}

// writeExecuted answers with a receipt's response, and tells the proxy that it is one.
func writeExecuted(w http.ResponseWriter, q Request, response *Response) {
	if q.Key != "" {
		w.Header().Set(HeaderOutcome, OutcomeExecuted)
	}
	response.WriteTo(w)
}

// commit answers with the response if it is committed. A commit that fails may have
// been made, or be made yet: then the void says.
func (c *Receipts) commit(w http.ResponseWriter, r *http.Request, db *sql.DB, tx *sql.Tx, q Request, response *Response) {
	err := tx.Commit()
	if err == nil {
		writeExecuted(w, q, response)
		return
	}
	if q.Key == "" {
		Unsure(w)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), maxVoid)
	defer cancel()
	found, err := c.Void(ctx, db, q)
	switch {
	case err == nil:
		writeExecuted(w, q, &found)
	case errors.Is(err, ErrVoided):
		Refuse(w)
	default:
		Unsure(w)
	}
}

// recorder keeps a response until its transaction is committed.
type recorder struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if !r.wrote && status >= http.StatusOK {
		r.status, r.wrote = status, true
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p) //nolint:wrapcheck // it never fails
}
