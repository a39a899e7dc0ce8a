package test_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/receipt"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// settleRig is what on_ambiguous: settle is attacked with: proxies and their store, and
// a backend that charges in PostgreSQL and breaks off almost every first request.
type settleRig struct {
	t       *testing.T
	proxies []*settleProxy
	args    []string
	redis   *redistest.Server // nil: embedded

	backend  *backendtest.Backend
	receipts *receipt.Receipts
	link     *toxitest.Link // to the database
	endpoint *toxitest.Link // to the endpoint
	db       *sql.DB        // by the link
	direct   *sql.DB        // of the test itself
	late     sync.WaitGroup // transactions that nobody waits for
	voided   sync.Map       // attempts of which the endpoint has said so

	mu  sync.Mutex
	rng *rand.Rand     // guarded by mu
	did map[string]int // guarded by mu: by mischief
}

type settleProxy struct {
	*process
	addr, store string
}

// mischief is what the backend does to a request. charge runs the transaction, late.
type mischief struct {
	name string
	do   func(c backendtest.Conn, charge func() string)
}

const settleBackendTimeout = 400 * time.Millisecond

// mischiefs are the ways to leave a proxy in doubt.
func (r *settleRig) mischiefs() []mischief {
	later := func(charge func() string, most time.Duration) {
		d := r.upTo(most)
		r.late.Go(func() {
			time.Sleep(d)
			charge()
		})
	}
	return []mischief{
		{"cut before the transaction", func(c backendtest.Conn, _ func() string) { _ = c.Close() }},
		{"cut after the commit", func(c backendtest.Conn, charge func() string) { charge(); _ = c.Close() }},
		{"reset after the commit", func(c backendtest.Conn, charge func() string) { charge(); c.Reset() }},
		{"cut, and the transaction comes late", func(c backendtest.Conn, charge func() string) { later(charge, 20*time.Millisecond); _ = c.Close() }},
		{"cut, and it comes after the retry", func(c backendtest.Conn, charge func() string) { later(charge, 1500*time.Millisecond); _ = c.Close() }},
		{"cut within the response", func(c backendtest.Conn, charge func() string) {
			response := charge()
			c.Raw(response[:r.below(len(response))])
			_ = c.Close()
		}},
		{"silence, and nothing done", func(c backendtest.Conn, _ func() string) { time.Sleep(2 * settleBackendTimeout); _ = c.Close() }},
		{"silence after the commit", func(c backendtest.Conn, charge func() string) {
			charge()
			time.Sleep(2 * settleBackendTimeout)
			_ = c.Close()
		}},
		{"too slow", func(c backendtest.Conn, charge func() string) {
			time.Sleep(settleBackendTimeout + r.upTo(settleBackendTimeout))
			c.Raw(charge())
		}},
		{"502, and nothing done", func(c backendtest.Conn, _ func() string) { c.Answer(502, "bad gateway") }},
		{"504 after the commit", func(c backendtest.Conn, charge func() string) { charge(); c.Answer(504, "gateway timeout") }},
		{"nonsense after the commit", func(c backendtest.Conn, charge func() string) { charge(); c.Raw("220 smtp ready\r\n"); _ = c.Close() }},
	}
}

func (r *settleRig) below(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rng.IntN(n)
}

func (r *settleRig) upTo(d time.Duration) time.Duration { return time.Duration(r.below(int(d))) }

// newSettleRig runs proxies on the embedded store or on Redis.
func newSettleRig(t *testing.T, kind string, seed uint64) *settleRig {
	t.Helper()
	r := &settleRig{t: t, rng: rand.New(rand.NewPCG(seed, 1)), did: map[string]int{}}
	r.database()
	r.backend = backendtest.Start(t, r.respond)
	t.Cleanup(r.late.Wait)
	r.args = []string{
		"--on-ambiguous", "settle", "--receipts", "http://" + r.endpoint.Addr + "/receipts", "--settle-within", "5s",
		"--settle-every", "1s", "--lock-ttl", "1s", "--heartbeat", "300ms", "--store-timeout", "400ms",
		"--backend-timeout", settleBackendTimeout.String(), "--connect-timeout", "500ms",
	}
	count, store := 1, "embedded:"+t.TempDir()
	if kind == "redis" {
		r.redis = redistest.Start(t)
		count, store = 2, r.redis.URL()
	}
	for range count {
		p := &settleProxy{addr: fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t)), store: store}
		r.proxies = append(r.proxies, p)
		r.run(p)
	}
	return r
}

func (r *settleRig) run(p *settleProxy) {
	p.process = start(r.t, append([]string{"--listen", p.addr, "--store", p.store, "--backend", r.backend.URL()}, r.args...)...)
}

func (r *settleRig) database() {
	t := r.t
	t.Helper()
	server := dbtest.PostgreSQL(t)
	dsn := server.Database(t)
	host := dsn[strings.Index(dsn, "@")+1 : strings.LastIndex(dsn, "/")]
	r.link = toxitest.New(t, host)
	open := func(dsn string) *sql.DB {
		db, err := sql.Open(server.Driver, dsn)
		if err != nil {
			t.Fatal(err)
		}
		db.SetMaxOpenConns(40)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	r.direct, r.db = open(dsn), open(strings.Replace(dsn, host, r.link.Addr, 1))
	var err error
	if r.receipts, err = receipt.New(receipt.PostgreSQL); err != nil {
		t.Fatal(err)
	}
	schema := receipt.PostgreSQL.Migration() + "CREATE TABLE charges (op_key text NOT NULL, attempt text NOT NULL);" +
		"CREATE INDEX ON charges (op_key);"
	if _, err := r.direct.ExecContext(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	answers := r.receipts.Endpoint(r.db, "")
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		answers.ServeHTTP(w, q)
		if w.Header().Get(receipt.HeaderOutcome) == receipt.OutcomeVoided {
			r.voided.Store(q.Header.Get(receipt.HeaderAttempt), true)
		}
	}))
	t.Cleanup(endpoint.Close)
	r.endpoint = toxitest.New(t, strings.TrimPrefix(endpoint.URL, "http://"))
}

// respond breaks off every first request of a key in one of the ways, and one of five
// later ones.
func (r *settleRig) respond(c backendtest.Conn, q *backendtest.Request) {
	charge := func() string { return r.charge(q.Header) }
	if strings.HasPrefix(q.Header.Get("Idempotency-Key"), "plain") || q.Number > 1 && r.below(5) > 0 {
		c.Raw(charge())
		return
	}
	all := r.mischiefs()
	one := all[r.below(len(all))]
	r.mu.Lock()
	r.did[one.name]++
	r.mu.Unlock()
	one.do(c, charge)
}

// charge is the backend's transaction, and the response to it as it goes over the wire.
func (r *settleRig) charge(h http.Header) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	q := receipt.FromHeader(h)
	response, err := r.transaction(ctx, q)
	switch {
	case errors.Is(err, receipt.ErrVoided):
		return "HTTP/1.1 409 Conflict\r\nIdempotency-Outcome: voided\r\nContent-Length: 0\r\n\r\n"
	case err != nil:
		return "HTTP/1.1 503 Service Unavailable\r\nIdempotency-Outcome: unknown\r\nContent-Length: 0\r\n\r\n"
	}
	return fmt.Sprintf("HTTP/1.1 %d OK\r\nIdempotency-Outcome: executed\r\nContent-Length: %d\r\n\r\n%s", response.Status, len(response.Body), response.Body)
}

func (r *settleRig) transaction(ctx context.Context, q receipt.Request) (receipt.Response, error) {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return receipt.Response{}, err
	}
	defer func() { _ = tx.Rollback() }()
	response, err := r.receipts.Do(ctx, tx, q, func() (receipt.Response, error) {
		if _, err := tx.ExecContext(ctx, "INSERT INTO charges (op_key, attempt) VALUES ($1, $2)", q.Key, q.Attempt); err != nil {
			return receipt.Response{}, err
		}
		time.Sleep(r.upTo(20 * time.Millisecond)) // work, during which a void waits
		return receipt.Response{Status: 201, Body: []byte("charged " + q.Key + " by " + q.Attempt)}, nil
	})
	if err != nil {
		return response, err
	}
	return response, tx.Commit()
}

// charges is how many rows the business table has for each key. None is of an attempt
// that was voided.
func (r *settleRig) charges() map[string]int {
	r.t.Helper()
	rows, err := r.direct.QueryContext(context.Background(), "SELECT op_key, attempt FROM charges")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	all := map[string]int{}
	for rows.Next() {
		var key, attempt string
		if err := rows.Scan(&key, &attempt); err != nil {
			r.t.Fatal(err)
		}
		all[key]++
		if _, was := r.voided.Load(attempt); was {
			r.t.Errorf("%s: the attempt %s has an effect, and the endpoint had said that it is voided", key, attempt)
		}
	}
	if err := rows.Err(); err != nil {
		r.t.Fatal(err)
	}
	return all
}
