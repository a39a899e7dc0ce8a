package test_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/receipt"
)

// settleBackendVariable makes the test binary the backend of TestReceipts. Its value is
// a settleBackendOrder.
const settleBackendVariable = "IDEMPROXY_SETTLE_BACKEND"

// settleBackendOrder is what such a process is told.
type settleBackendOrder struct {
	Driver, DSN    string
	Addr, Endpoint string // where it listens: for requests, and for the endpoint
	Seed           uint64
}

// settleBackend charges in PostgreSQL and breaks off almost every first request. It is
// a process of its own, which can be killed. It says on its standard output what it does:
// a said, and a name, on each line.
type settleBackend struct {
	db       *sql.DB
	receipts *receipt.Receipts

	mu  sync.Mutex
	rng *rand.Rand // guarded by mu
}

// What a settleBackend says.
const (
	saidReady    = "ready"
	saidDid      = "did"      // a mischief
	saidVoided   = "voided"   // an attempt; before the endpoint says so
	saidCharging = "charging" // a transaction begins
	saidCharged  = "charged"  // and has ended
	saidLate     = "late"     // a transaction that nobody waits for is to come
	saidLateOver = "lateover"
)

// serveSettleBackend is the whole process. It ends when it is killed.
func serveSettleBackend(order string) error {
	var o settleBackendOrder
	if err := json.Unmarshal([]byte(order), &o); err != nil {
		return fmt.Errorf("reading %s: %w", settleBackendVariable, err)
	}
	db, err := sql.Open(o.Driver, o.DSN)
	if err != nil {
		return fmt.Errorf("opening the database: %w", err)
	}
	db.SetMaxOpenConns(40)
	b := &settleBackend{db: db, rng: rand.New(rand.NewPCG(o.Seed, 3))}
	if b.receipts, err = receipt.New(receipt.PostgreSQL); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return fmt.Errorf("listening for requests: %w", err)
	}
	endpoint, err := net.Listen("tcp", o.Endpoint)
	if err != nil {
		return fmt.Errorf("listening for questions: %w", err)
	}
	backendtest.New(ln, b.respond)
	b.say(saidReady, "")
	return (&http.Server{Handler: b.endpoint(), ReadHeaderTimeout: time.Minute}).Serve(endpoint)
}

// say is one write a line, so that a kill leaves no half of one before others.
func (b *settleBackend) say(said, what string) {
	_, _ = os.Stdout.WriteString(said + " " + what + "\n")
}

// endpoint says that it voids an attempt before the proxy hears of it.
func (b *settleBackend) endpoint() http.Handler {
	answers := b.receipts.Endpoint(b.db, "")
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		answer := httptest.NewRecorder()
		answers.ServeHTTP(answer, q)
		if answer.Header().Get(receipt.HeaderOutcome) == receipt.OutcomeVoided {
			b.say(saidVoided, q.Header.Get(receipt.HeaderAttempt))
		}
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

func (b *settleBackend) below(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rng.IntN(n)
}

func (b *settleBackend) upTo(d time.Duration) time.Duration { return time.Duration(b.below(int(d))) }

// mischief is what the backend does to a request. charge runs the transaction, late.
type mischief struct {
	name string
	do   func(c backendtest.Conn, charge func() string)
}

const settleBackendTimeout = 400 * time.Millisecond

// mischiefs are the ways to leave a proxy in doubt.
func (b *settleBackend) mischiefs() []mischief {
	later := func(charge func() string, most time.Duration) {
		d := b.upTo(most)
		b.say(saidLate, "")
		go func() {
			time.Sleep(d)
			charge()
			b.say(saidLateOver, "")
		}()
	}
	return []mischief{
		{"cut before the transaction", func(c backendtest.Conn, _ func() string) { _ = c.Close() }},
		{"cut after the commit", func(c backendtest.Conn, charge func() string) { charge(); _ = c.Close() }},
		{"reset after the commit", func(c backendtest.Conn, charge func() string) { charge(); c.Reset() }},
		{"cut, and the transaction comes late", func(c backendtest.Conn, charge func() string) { later(charge, 20*time.Millisecond); _ = c.Close() }},
		{"cut, and it comes after the retry", func(c backendtest.Conn, charge func() string) { later(charge, 1500*time.Millisecond); _ = c.Close() }},
		{"cut within the response", func(c backendtest.Conn, charge func() string) {
			response := charge()
			c.Raw(response[:b.below(len(response))])
			_ = c.Close()
		}},
		{"silence, and nothing done", func(c backendtest.Conn, _ func() string) { time.Sleep(2 * settleBackendTimeout); _ = c.Close() }},
		{"silence after the commit", func(c backendtest.Conn, charge func() string) {
			charge()
			time.Sleep(2 * settleBackendTimeout)
			_ = c.Close()
		}},
		{"too slow", func(c backendtest.Conn, charge func() string) {
			time.Sleep(settleBackendTimeout + b.upTo(settleBackendTimeout))
			c.Raw(charge())
		}},
		{"502, and nothing done", func(c backendtest.Conn, _ func() string) { c.Answer(502, "bad gateway") }},
		{"504 after the commit", func(c backendtest.Conn, charge func() string) { charge(); c.Answer(504, "gateway timeout") }},
		{"nonsense after the commit", func(c backendtest.Conn, charge func() string) { charge(); c.Raw("220 smtp ready\r\n"); _ = c.Close() }},
	}
}

// respond breaks off every first request of a key in one of the ways, and one of five
// later ones.
func (b *settleBackend) respond(c backendtest.Conn, q *backendtest.Request) {
	charge := func() string { return b.charge(q.Header) }
	if strings.HasPrefix(q.Header.Get("Idempotency-Key"), "plain") || q.Number > 1 && b.below(5) > 0 {
		c.Raw(charge())
		return
	}
	all := b.mischiefs()
	one := all[b.below(len(all))]
	b.say(saidDid, one.name)
	one.do(c, charge)
}

// charge is the backend's transaction, and the response to it as it goes over the wire.
func (b *settleBackend) charge(h http.Header) string {
	b.say(saidCharging, "")
	defer b.say(saidCharged, "")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	q := receipt.FromHeader(h)
	response, err := b.transaction(ctx, q)
	switch {
	case errors.Is(err, receipt.ErrVoided):
		return "HTTP/1.1 409 Conflict\r\nIdempotency-Outcome: voided\r\nContent-Length: 0\r\n\r\n"
	case err != nil:
		return "HTTP/1.1 503 Service Unavailable\r\nIdempotency-Outcome: unknown\r\nContent-Length: 0\r\n\r\n"
	}
	return fmt.Sprintf("HTTP/1.1 %d OK\r\nIdempotency-Outcome: executed\r\nContent-Length: %d\r\n\r\n%s", response.Status, len(response.Body), response.Body)
}

func (b *settleBackend) transaction(ctx context.Context, q receipt.Request) (receipt.Response, error) {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return receipt.Response{}, err
	}
	defer func() { _ = tx.Rollback() }()
	response, err := b.receipts.Do(ctx, tx, q, func() (receipt.Response, error) {
		if _, err := tx.ExecContext(ctx, "INSERT INTO charges (op_key, attempt) VALUES ($1, $2)", q.Key, q.Attempt); err != nil {
			return receipt.Response{}, err
		}
		time.Sleep(b.upTo(20 * time.Millisecond)) // work, during which a void waits
		return receipt.Response{Status: 201, Body: []byte("charged " + q.Key + " by " + q.Attempt)}, nil
	})
	if err != nil {
		return response, err
	}
	return response, tx.Commit()
}
