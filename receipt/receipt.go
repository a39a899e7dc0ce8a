package receipt

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Request names one attempt at an operation, as the proxy does in header fields: see
// [FromHeader].
type Request struct {
	// Key and Scope name the operation. Without a Key there is nothing to keep: Do
	// does the work only.
	Key, Scope string
	// Attempt is the token of the attempt, which no other attempt at any operation ever
	// has. Empty for a request that no lease stands behind: it still runs once per
	// operation, but nobody can void it.
	Attempt string
}

// Room for a request's parts, in bytes.
const maxKey, maxScope, maxAttempt = 255, 1024, 64

const maxStatus = 599

// errTooLong: no proxy sends such a request.
var errTooLong = errors.New("key, scope or attempt is too long")

// errStatus: nobody could repeat such a response.
var errStatus = errors.New("a receipt's status is from 200 to 599")

// fits keeps every database from cutting a value, which would make two operations one.
func (q *Request) fits() error {
	if len(q.Key) > maxKey || len(q.Scope) > maxScope || len(q.Attempt) > maxAttempt {
		return errTooLong
	}
	return nil
}

// Response is what a receipt keeps.
type Response struct {
	// Status is the HTTP status code, from 200 to 599.
	Status int
	// Header holds the fields that are to be repeated, such as Content-Type.
	Header http.Header
	Body   []byte
}

// Errors that callers branch on.
var (
	// ErrVoided says of an attempt that it was voided: it has no effect and can never
	// have one. Another attempt at the operation may.
	ErrVoided = errors.New("this attempt was voided")
	// ErrNone: there is no receipt of that operation.
	ErrNone = errors.New("no receipt")
)

// Receipts writes and reads receipts in a database of one dialect.
type Receipts struct{ sql statements }

// New is for databases of a dialect.
func New(d Dialect) (*Receipts, error) {
	s, err := d.statements()
	if err != nil {
		return nil, err
	}
	return &Receipts{sql: s}, nil
}

// Do runs work once per operation, within the caller's transaction, and keeps its
// response as the receipt. If the operation has been executed, by whichever attempt,
// it returns that receipt's response, and work does not run. While another attempt is
// under way it waits for the end of that one's transaction, until ctx ends.
//
// The caller commits if the error is nil, and must roll back otherwise:
//
//   - ErrVoided: answer as [Refuse] does;
//   - an error of work, as it is;
//   - an error of the database, wrapped.
//
// Only what was committed has happened. When the commit itself fails, nobody can tell:
// ask with Void, or answer as [Unsure] does and the proxy asks.
//
// work must write by tx alone. What it does elsewhere is not undone by a rollback: see
// docs/receipts.md. A response that is to be tried again is an error of work.
func (c *Receipts) Do(ctx context.Context, tx *sql.Tx, q Request, work func() (Response, error)) (Response, error) {
	if q.Key == "" {
		return work()
	}
	if err := q.fits(); err != nil {
		return Response{}, err
	}
	if q.Attempt == "" {
		q.Attempt = rand.Text()
	}
	// The row comes first: it is the lock that keeps other attempts from starting, and
	// the fence that a void of this attempt meets.
	inserted, err := tx.ExecContext(ctx, c.sql.execute, q.Scope, q.Key, q.Attempt, now())
	if err != nil {
		return Response{}, fmt.Errorf("inserting the receipt: %w", err)
	}
	n, err := inserted.RowsAffected()
	switch {
	case err != nil:
		return Response{}, fmt.Errorf("inserting the receipt: %w", err)
	case n == 0:
		return c.find(ctx, tx, q)
	}
	response, err := work()
	if err != nil {
		return Response{}, err
	}
	if response.Status < http.StatusOK || response.Status > maxStatus {
		return Response{}, fmt.Errorf("%w: it is %d", errStatus, response.Status)
	}
	fields, err := json.Marshal(response.Header)
	if err != nil {
		return Response{}, fmt.Errorf("writing the receipt's fields: %w", err)
	}
	_, err = tx.ExecContext(ctx, c.sql.complete, response.Status, string(fields), response.Body, q.Attempt)
	if err != nil {
		return Response{}, fmt.Errorf("completing the receipt: %w", err)
	}
	return response, nil
}

// Void makes sure that the attempt never has an effect, unless the operation has been
// executed. It returns the executed operation's response, or ErrVoided; after any
// other error, nothing is known, and it is to be asked again. It waits for the end of
// an attempt that is under way, until ctx ends.
func (c *Receipts) Void(ctx context.Context, db *sql.DB, q Request) (Response, error) {
	if err := q.fits(); err != nil {
		return Response{}, err
	}
	// An insert, and then a look. A look first would prove nothing: the attempt could
	// commit between it and the insert.
	if _, err := db.ExecContext(ctx, c.sql.void, q.Scope, q.Key, q.Attempt, now()); err != nil {
		return Response{}, fmt.Errorf("voiding the attempt: %w", err)
	}
	return c.find(ctx, db, q)
}

// Find returns the response of an executed operation, or ErrNone. It changes nothing,
// so an attempt under way may be executed right afterwards.
func (c *Receipts) Find(ctx context.Context, db *sql.DB, q Request) (Response, error) {
	response, err := c.find(ctx, db, q)
	if errors.Is(err, ErrVoided) {
		err = ErrNone
	}
	return response, err
}

// Clean deletes what was made longer ago than that, and says how many rows. Rows must
// outlive the time for which a client may repeat a key, and the proxy's retention and
// remember together: see docs/receipts.md.
func (c *Receipts) Clean(ctx context.Context, db *sql.DB, age time.Duration) (int64, error) {
	deleted, err := db.ExecContext(ctx, c.sql.clean, time.Now().Add(-age).UnixMilli())
	if err != nil {
		return 0, fmt.Errorf("deleting old receipts: %w", err)
	}
	return deleted.RowsAffected() //nolint:wrapcheck // the database's own word
}

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// find reads what stands: an executed row first, of the operation or of the attempt,
// whose operation may have had another scope by then.
func (c *Receipts) find(ctx context.Context, in querier, q Request) (Response, error) {
	var executed, status sql.NullInt64
	var fields sql.NullString
	var response Response
	row := in.QueryRowContext(ctx, c.sql.find, q.Scope, q.Key, q.Attempt)
	err := row.Scan(&executed, &status, &fields, &response.Body)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Response{}, ErrNone
	case err != nil:
		return Response{}, fmt.Errorf("reading the receipt: %w", err)
	case !executed.Valid:
		return Response{}, ErrVoided
	case !status.Valid:
		return Response{}, errNoResponse
	}
	response.Status = int(status.Int64)
	if err := json.Unmarshal([]byte(fields.String), &response.Header); err != nil {
		return Response{}, fmt.Errorf("reading the receipt's fields: %w", err)
	}
	return response, nil
}

// errNoResponse is a mistake of the backend's program.
var errNoResponse = errors.New("the receipt has no response: a transaction was committed although Do had failed")

func now() int64 { return time.Now().UnixMilli() }
