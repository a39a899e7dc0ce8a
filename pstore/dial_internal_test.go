package pstore

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/idemproxy/idemproxy/internal/dbtest"
)

// hosts are two servers of one URL, as a dialer meets them: the first does not answer when
// it is dialed.
type hosts struct {
	d      *dialer
	silent string
	dialed atomic.Int32 // how often the silent one was
}

func (h *hosts) connect(t *testing.T, url string) error {
	t.Helper()
	option, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	option.ConnectTimeout = 10 * time.Second
	option.ValidateConnect = func(context.Context, *pgconn.PgConn) error { return nil }
	dial := option.DialFunc
	option.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != h.silent {
			return dial(ctx, network, addr)
		}
		h.dialed.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	h.d.attach(option, h.d.turns)
	conn, err := pgx.ConnectConfig(context.Background(), option)
	if err != nil {
		return err
	}
	return conn.Close(context.Background())
}

// A host that is down is waited for once, not by each connection; and tried again when the
// other one fails.
func TestSilentHostIsLeftOut(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	h := &hosts{d: newDialer(50 * time.Millisecond), silent: "127.0.0.1:1"}
	url := strings.Replace(server.URL("postgres"), "127.0.0.1:", h.silent+",127.0.0.1:", 1)
	for range 3 {
		if err := h.connect(t, url); err != nil {
			t.Fatal(err)
		}
	}
	once := h.dialed.Load()
	if once != 1 {
		t.Errorf("the host that is down was dialed %d times by three connections, want once", once)
	}
	server.Stop()
	if err := h.connect(t, url); err == nil {
		t.Fatal("connected to nothing")
	}
	server.Restart()
	// The hosts are tried anew just after a connect has ended.
	for end := time.Now().Add(20 * time.Second); h.d.isSilent(h.silent) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if err := h.connect(t, url); err != nil {
		t.Fatal(err)
	}
	if h.dialed.Load() == once {
		t.Error("the host was not tried again after the other one had failed")
	}
}

// A pool that needs all its connections makes a few at a time.
func TestConnectsAreFew(t *testing.T) {
	t.Parallel()
	url := dbtest.PostgreSQL(t).Database(t)
	d := newDialer(time.Second)
	var now, most atomic.Int32
	var all sync.WaitGroup
	for range 4 * connectingAtMost {
		all.Go(func() {
			option, err := pgx.ParseConfig(url)
			if err != nil {
				t.Error(err)
				return
			}
			option.ConnectTimeout = 20 * time.Second
			option.ValidateConnect = func(context.Context, *pgconn.PgConn) error {
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.Sleep(5 * time.Millisecond) // of a server that is busy
				now.Add(-1)
				return nil
			}
			d.attach(option, d.turns)
			conn, err := pgx.ConnectConfig(context.Background(), option)
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close(context.Background())
		})
	}
	all.Wait()
	if most.Load() > connectingAtMost || most.Load() == 0 {
		t.Errorf("%d connections were made at once, want up to %d", most.Load(), connectingAtMost)
	}
}
