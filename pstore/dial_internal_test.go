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

// dialRig has connections be made by one dialer. A test may see what is dialed, and have
// another network for it.
type dialRig struct {
	d       *dialer
	url     string
	atMost  time.Duration // for a connect to one host
	network pgconn.DialFunc
	ready   func() // if set, called while a connection is made, when the server has accepted it
}

func newDialRig(t *testing.T, url string, timeout, atMost time.Duration) *dialRig {
	t.Helper()
	r := &dialRig{url: url, atMost: atMost}
	option := r.option(t)
	r.network = option.DialFunc
	option.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return r.network(ctx, network, addr)
	}
	r.d = newDialer(t.Context(), option, timeout)
	return r
}

func (r *dialRig) option(t *testing.T) *pgx.ConnConfig {
	t.Helper()
	option, err := pgx.ParseConfig(r.url)
	if err != nil {
		t.Fatal(err)
	}
	option.ConnectTimeout = r.atMost
	option.ValidateConnect = func(context.Context, *pgconn.PgConn) error {
		if r.ready != nil {
			r.ready()
		}
		return nil
	}
	return option
}

func (r *dialRig) connect(ctx context.Context, t *testing.T) error {
	t.Helper()
	option := r.option(t)
	r.d.attach(option)
	conn, err := pgx.ConnectConfig(ctx, option)
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
	const silent = "127.0.0.1:1"
	url := strings.Replace(server.URL("postgres"), "127.0.0.1:", silent+",127.0.0.1:", 1)
	r := newDialRig(t, url, 50*time.Millisecond, 10*time.Second)
	var dialed atomic.Int32 // how often the silent one was
	real := r.network
	r.network = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != silent {
			return real(ctx, network, addr)
		}
		dialed.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for range 3 {
		if err := r.connect(t.Context(), t); err != nil {
			t.Fatal(err)
		}
	}
	once := dialed.Load()
	if once != 1 {
		t.Errorf("the host that is down was dialed %d times by three connections, want once", once)
	}
	server.Stop()
	if err := r.connect(t.Context(), t); err == nil || !passing(err) {
		t.Fatalf("connected to nothing, with a host left out: %v, want that it is tried again", err)
	}
	if err := r.connect(t.Context(), t); err == nil || passing(err) || dialed.Load() == once {
		t.Errorf("the host was not tried again after the other one had failed: %v", err)
	}
	server.Restart()
	if err := r.connect(t.Context(), t); err != nil {
		t.Fatal(err)
	}
}

// mute is a host that accepts connections, and says nothing.
type mute struct {
	addr     string
	accepted atomic.Int32
}

func newMute(t *testing.T) *mute {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	m := &mute{addr: ln.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		var conns []net.Conn
		defer func() {
			for _, conn := range conns {
				_ = conn.Close()
			}
		}()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			m.accepted.Add(1)
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		serving.Wait()
	})
	return m
}

// So is a host that is dialed, and does not go on from there: a machine that stands still,
// or something in front of a server that is gone.
func TestMuteHostIsLeftOut(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	m := newMute(t)
	url := strings.Replace(server.URL("postgres"), "127.0.0.1:", m.addr+",127.0.0.1:", 1) + "?sslmode=disable"
	r := newDialRig(t, url, 2*time.Second, 4*time.Second)
	for range 3 {
		if err := r.connect(t.Context(), t); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.accepted.Load(); n != 1 {
		t.Errorf("the host that says nothing was connected to %d times by three connections, want once", n)
	}
}

// Connects that hang, in a network that has forgotten them for instance, hold up others for
// no longer than a call waits: when the server is well again, it is connected to.
func TestHungConnectsDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	m := newMute(t)
	r := newDialRig(t, server.URL("postgres")+"?sslmode=disable", time.Second, time.Hour)
	var dialed atomic.Int32
	real := r.network
	r.network = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dialed.Add(1) <= connectingAtMost {
			addr = m.addr
		}
		return real(ctx, network, addr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var hung sync.WaitGroup
	for range connectingAtMost {
		hung.Go(func() { _ = r.connect(ctx, t) })
	}
	for m.accepted.Load() < connectingAtMost {
		time.Sleep(time.Millisecond)
	}
	others, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	for {
		err := r.connect(others, t)
		if err == nil {
			break
		}
		if others.Err() != nil {
			t.Fatalf("while connects hang, nothing else connects: %v", err)
		}
	}
	cancel()
	hung.Wait()
	if n := len(r.d.turns.long) + len(r.d.turns.brief); n != 0 {
		t.Errorf("%d turns were not given back", n)
	}
}

// A connection that was made in the brief turn has no end.
func TestBriefTurnEndsWithTheConnect(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	const timeout = time.Second
	r := newDialRig(t, server.URL("postgres"), timeout, time.Hour)
	for range cap(r.d.turns.long) {
		r.d.turns.long <- struct{}{}
	}
	option := r.option(t)
	r.d.attach(option)
	var conn *pgx.Conn
	for end := time.Now().Add(time.Minute); conn == nil; {
		var err error
		if conn, err = pgx.ConnectConfig(t.Context(), option); err != nil && time.Now().After(end) {
			t.Fatal(err)
		}
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := exec(t.Context(), conn.PgConn(), "SELECT pg_sleep(1.1)"); err != nil {
		t.Errorf("a statement that takes longer than its connect was given: %v", err)
	}
}

// Each way in which a connect ends gives back its turn.
func TestTurnsAreGivenBack(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	m := newMute(t)
	hangsUp, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hangsUp.Close() }()
	go func() {
		for {
			conn, err := hangsUp.Accept()
			if err != nil {
				return
			}
			var request [8]byte
			_, _ = conn.Read(request[:])
			_ = conn.Close()
		}
	}()
	own := strings.TrimPrefix(server.URL("postgres"), "postgres://postgres@")
	for name, c := range map[string]struct {
		url   string
		fails bool
	}{
		"a server":                {"postgres://postgres@" + own, false},
		"no such database":        {"postgres://postgres@" + own + "none", true},
		"no such role":            {"postgres://nobody@" + own, true},
		"no server":               {"postgres://postgres@127.0.0.1:1/postgres", true},
		"no such socket":          {"postgres:///postgres?host=/none", true},
		"it hangs up":             {"postgres://postgres@" + hangsUp.Addr().String() + "/postgres?sslmode=disable", true},
		"it hangs up, and others": {"postgres://postgres@" + hangsUp.Addr().String() + "," + m.addr + "," + own + "?sslmode=disable", false},
		"it is mute":              {"postgres://postgres@" + m.addr + "/postgres", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newDialRig(t, c.url, time.Second, 2*time.Second)
			for range 2 * connectingAtMost {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := r.connect(ctx, t); (err != nil) != c.fails || ctx.Err() != nil {
					t.Fatalf("%v", err)
				}
				if name == "it is mute" {
					break // it takes its time
				}
			}
			if n := len(r.d.turns.long) + len(r.d.turns.brief); n != 0 {
				t.Errorf("%d turns were not given back", n)
			}
		})
	}
}

// A pool that needs all its connections makes a few at a time.
func TestConnectsAreFew(t *testing.T) {
	t.Parallel()
	server := dbtest.PostgreSQL(t)
	r := newDialRig(t, server.Database(t), 20*time.Second, 20*time.Second)
	var now, most atomic.Int32
	r.ready = func() {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond) // of a server that is busy
		now.Add(-1)
	}
	var all sync.WaitGroup
	for range 4 * connectingAtMost {
		all.Go(func() {
			if err := r.connect(t.Context(), t); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() > connectingAtMost || most.Load() == 0 {
		t.Errorf("%d connections were made at once, want up to %d", most.Load(), connectingAtMost)
	}
}
