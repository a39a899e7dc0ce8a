package test_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/receipt"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// settleRig is what on_ambiguous: settle is attacked with: proxies and their store, and
// a settleBackend.
type settleRig struct {
	t       *testing.T
	proxies []*settleProxy
	args    []string
	redis   *redistest.Server // nil: embedded

	calls    *storeCalls
	backend  *backendProcess
	link     *toxitest.Link // from the backend to the database
	endpoint *toxitest.Link // from the proxies to the backend's endpoint
	direct   *sql.DB        // of the test itself

	gaveUp atomic.Bool // a client never knew: there is nothing more to learn

	mu  sync.Mutex
	rng *rand.Rand // guarded by mu
}

type settleProxy struct {
	*process
	addr, store string
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
	r := &settleRig{t: t, rng: rand.New(rand.NewPCG(seed, 1)), calls: newStoreCalls(t, kind, 2*time.Second)}
	driver, dsn := r.database()
	r.backend = newBackendProcess(t, settleBackendOrder{Driver: driver, DSN: dsn, Seed: seed})
	r.endpoint = toxitest.New(t, r.backend.order.Endpoint)
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
	p.process = r.calls.start(r.t, launch{binary: binary}, append([]string{"--listen", p.addr, "--store", p.store, "--backend", "http://" + r.backend.order.Addr}, r.args...)...)
}

// database returns what the backend opens it with: it goes by the link.
func (r *settleRig) database() (driver, dsn string) {
	t := r.t
	t.Helper()
	server := dbtest.PostgreSQL(t)
	dsn = server.Database(t)
	host := dsn[strings.Index(dsn, "@")+1 : strings.LastIndex(dsn, "/")]
	r.link = toxitest.New(t, host)
	var err error
	if r.direct, err = sql.Open(server.Driver, dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.direct.Close() })
	schema := receipt.PostgreSQL.Migration() + "CREATE TABLE charges (op_key text NOT NULL, attempt text NOT NULL);" +
		"CREATE INDEX ON charges (op_key);"
	if _, err := r.direct.ExecContext(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	return server.Driver, strings.Replace(dsn, host, r.link.Addr, 1)
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
		if r.backend.count(saidVoided+" "+attempt) > 0 {
			r.t.Errorf("%s: the attempt %s has an effect, and the endpoint had said that it is voided", key, attempt)
		}
	}
	if err := rows.Err(); err != nil {
		r.t.Fatal(err)
	}
	return all
}
