package pstore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/pstore"
)

// cutter is a network to a server that breaks, when it is armed, between the answer to
// a statement and the word that its transaction is committed; or before that answer.
type cutter struct {
	addr   string
	armed  atomic.Pointer[func(message byte) bool] // says whether to cut in front of a message of the server
	met    atomic.Pointer[func(message []byte)]    // called with what such a message says; it may hold it back
	cuts   atomic.Int64
	target string
}

func newCutter(tb testing.TB, target string) *cutter {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		tb.Fatal(err)
	}
	c := &cutter{addr: ln.Addr().String(), target: target}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { c.serve(conn) })
		}
	})
	tb.Cleanup(func() { _ = ln.Close() })
	return c
}

func (c *cutter) serve(client net.Conn) {
	server, err := net.Dial("tcp", c.target) //nolint:noctx // a test
	if err != nil {
		_ = client.Close()
		return
	}
	defer func() { _, _ = client.Close(), server.Close() }()
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	for {
		var head [5]byte
		if _, err := io.ReadFull(server, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return
		}
		if cut := c.armed.Load(); cut != nil && (*cut)(head[0]) {
			c.cuts.Add(1)
			return
		}
		if met := c.met.Load(); met != nil {
			(*met)(body)
		}
		if _, err := client.Write(append(head[:], body...)); err != nil {
			return
		}
	}
}

// A connection that is lost when the transaction is committed and nobody was told is
// never a success, never a refusal, and asking again with the same owner shows what
// became of it.
func TestP5AmbiguousCommit(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	config := pstore.Config{URL: server.URL("postgres") + conns, Schema: "shared"}
	sound := open(t, config)
	until(t, "notifications are heard", sound.Heard)
	for name, message := range map[string]byte{"the row": 'D', "the end of the statement": 'C', "the commit": 'Z'} {
		cutter := newCutter(t, server.Addr)
		config.URL = "postgres://postgres@" + cutter.addr + "/postgres?pool_max_conns=1&sslmode=disable"
		s := open(t, config)
		cut := func(call func() error) error {
			t.Helper()
			once := sync.Once{}
			hit := func(m byte) (now bool) {
				if m == message {
					once.Do(func() { now = true })
				}
				return now
			}
			for try := 0; ; try++ {
				before := cutter.cuts.Load()
				cutter.armed.Store(&hit)
				err := call()
				cutter.armed.Store(nil)
				if cutter.cuts.Load() != before && err != nil {
					return err
				}
				if err == nil || try == 20 {
					return err // the cut met another connection's messages
				}
				once = sync.Once{}
			}
		}
		c := claim("key of " + name)
		err := cut(func() error { _, err := s.Acquire(context.Background(), c); return err })
		if err != nil && (!errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused)) {
			t.Errorf("cut in front of %s: acquire: %v, want %v, and not refused", name, err, idem.ErrUnavailable)
		}
		out, err := sound.Acquire(context.Background(), c)
		if err != nil || out.Kind != idem.VerdictYours && out.Kind != idem.VerdictAcquired || out.Attempt != 1 {
			t.Errorf("cut in front of %s: asked again: %v, %v", name, out, err)
		}
		awaitReady(t, s)
		err = cut(func() error {
			return s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200, Body: []byte("x")})
		})
		if err != nil && (!errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused)) {
			t.Errorf("cut in front of %s: complete: %v", name, err)
		}
		if err := sound.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200, Body: []byte("x")}); err != nil {
			t.Errorf("cut in front of %s: complete, repeated: %v", name, err)
		}
		acquire(t, sound, c, idem.VerdictCompleted)
		if cutter.cuts.Load() == 0 {
			t.Errorf("nothing was cut in front of %s", name)
		}
	}
}

// Whatever the server answers but a verdict, nothing is given out, and what it
// certainly did not do is said to be that.
func TestP5ErrorsFailClosed(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + "?pool_max_conns=2", Schema: "s", Timeout: 3 * time.Second})
	completed(t, s, "warm-up")
	reload := func(statements ...string) { server.Do(append(statements, "SELECT pg_reload_conf()")...) }
	for name, fault := range map[string][2]func(){
		"read-only": {
			func() { reload("ALTER SYSTEM SET default_transaction_read_only = on") },
			func() {
				reload("SET default_transaction_read_only = off", "ALTER SYSTEM RESET default_transaction_read_only")
			},
		},
		"a lost function": {
			func() { server.Do("ALTER FUNCTION s.acquire RENAME TO hidden") },
			func() { server.Do("ALTER FUNCTION s.hidden RENAME TO acquire") },
		},
	} {
		awaitReady(t, s)
		fault[0]()
		until(t, name, func() bool {
			_, err := s.Acquire(context.Background(), claim(fmt.Sprintf("key of %s %d", name, time.Now().UnixNano())))
			if err == nil {
				return false // not yet
			}
			if !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) {
				t.Errorf("%s: %v, want %v and %v", name, err, idem.ErrUnavailable, idem.ErrRefused)
			}
			return true
		})
		fault[1]()
	}
	awaitReady(t, s)
	acquire(t, s, claim("k"), idem.VerdictAcquired)
}

// A row that somebody has locked holds up what is to be written to it, for half the
// time-out; what is read, and what is written to others, it does not.
func TestP5LockHeldBySomebody(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Schema: "s", Timeout: 600 * time.Millisecond})
	until(t, "notifications are heard", s.Heard)
	c, other := acquired(t, s, "k"), acquired(t, s, "other")
	ctx := context.Background()
	somebody, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = somebody.Close(ctx) }()
	locking, err := somebody.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := locking.Exec(ctx, fmt.Sprintf("SELECT 1 FROM s.record WHERE id = '%x' FOR UPDATE", c.Key.ID())); err != nil {
		t.Fatal(err)
	}
	acquire(t, s, c, idem.VerdictInProgress)
	for name, call := range map[string]func() error{
		"complete": func() error { return s.Complete(ctx, c.Lease(), &idem.Response{Status: 200}) },
		"release":  func() error { return s.Release(ctx, c.Lease()) },
		"renew":    func() error { return s.Renew(ctx, []idem.Lease{c.Lease()})[0] },
	} {
		if err := call(); !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) {
			t.Errorf("%s: %v, want %v and %v", name, err, idem.ErrUnavailable, idem.ErrRefused)
		}
	}
	errs := s.Renew(ctx, []idem.Lease{other.Lease(), c.Lease(), other.Lease()})
	if errs[0] != nil || !errors.Is(errs[1], idem.ErrUnavailable) || errs[2] != nil {
		t.Errorf("a batch with a locked row: %v", errs)
	}
	if err := locking.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Complete(ctx, c.Lease(), &idem.Response{Status: 200}); err != nil {
		t.Error(err)
	}
}

func TestUnreachableAtStart(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	server.Kill()
	s, err := pstore.New(pstore.Config{URL: server.URL("postgres") + conns, Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Acquire(context.Background(), claim("k")); !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) {
		t.Fatalf("acquire: %v, want %v", err, idem.ErrUnavailable)
	}
	server.Restart()
	awaitReady(t, s)
	acquire(t, s, claim("k"), idem.VerdictAcquired)
}

// A server that takes longer to connect to than a call waits, as one that has a whole fleet
// connect at once, is connected to all the same: the calls that waited fail, and later ones
// do not.
func TestSlowToConnectTo(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	c := newCutter(t, server.Addr)
	const timeout = 200 * time.Millisecond
	slow := func(message byte) bool {
		if message == 'R' { // of the authentication
			time.Sleep(2 * timeout)
		}
		return false
	}
	c.armed.Store(&slow)
	s, err := pstore.New(pstore.Config{URL: "postgres://postgres@" + c.addr + "/postgres" + conns + "&sslmode=disable", Migrate: true, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	awaitReady(t, s)
	acquire(t, s, claim("k"), idem.VerdictAcquired)
}

// Of two hosts, the one that was left out takes over. The call that finds the other one gone
// does not fail for that.
func TestHostThatWasLeftOutTakesOver(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	first, second := toxitest.New(t, server.Addr), toxitest.New(t, server.Addr)
	speak := first.Add("mute", "timeout", "downstream", `{"timeout": 0}`)
	s := open(t, pstore.Config{
		URL:     "postgres://postgres@" + first.Addr + "," + second.Addr + "/postgres?connect_timeout=2&pool_max_conns=1",
		Timeout: 20 * time.Second,
	})
	completed(t, s, "warm-up")
	speak()
	second.Cut()
	c := claim("k")
	until(t, "the first host is used", func() bool {
		_, err := s.Acquire(context.Background(), c)
		if err != nil && strings.Contains(err.Error(), "not dialed") {
			t.Errorf("a call failed since a host was left out: %v", err)
		}
		return err == nil
	})
}

// A server that falls silent, as one whose machine is lost, takes no connection of the pool
// with it: when a call has failed for that, the next one has another connection.
func TestSilentServerHoldsNoConnection(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	network := newCutter(t, server.Addr)
	s := open(t, pstore.Config{
		URL: "postgres://postgres@" + network.addr + "/postgres?sslmode=disable&pool_max_conns=1", Timeout: 5 * time.Second,
	})
	c := completed(t, s, "the response")
	answer := newHeldBack(t, "the response")
	meet := answer.meet
	network.met.Store(&meet)
	if out, err := s.Acquire(context.Background(), rivalOf(c)); !errors.Is(err, idem.ErrUnavailable) {
		t.Fatalf("while the answer is held back: %v, %v", out.Kind, err)
	}
	acquire(t, s, claim("other"), idem.VerdictAcquired)
}

func TestKilledServerComesBackWithWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns})
	var claims []idem.Claim
	for i := range 50 {
		claims = append(claims, completed(t, s, fmt.Sprint(i)))
	}
	for range 3 {
		server.Kill()
		if _, err := s.Acquire(context.Background(), claim("new")); !errors.Is(err, idem.ErrUnavailable) {
			t.Errorf("while it is dead: %v", err)
		}
		server.Restart()
		awaitReady(t, s)
		for _, c := range claims {
			acquire(t, s, c, idem.VerdictCompleted)
		}
	}
}

// A restart between two calls costs none of them: connections that the server has
// ended are not used.
func TestRestartIsNotNoticed(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns})
	var calls sync.WaitGroup
	for i := range 8 {
		calls.Go(func() { completed(t, s, fmt.Sprint(i)) })
	}
	calls.Wait()
	server.Stop()
	server.Restart()
	for i := range 8 {
		completed(t, s, fmt.Sprint("after ", i))
	}
}

// A black hole: no answer and no end of the connection. The call ends by the
// time-out, which the watchdog of this test only bounds generously; and what arrives
// after its time is not granted.
func TestP5BlackHoleIsATimeout(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Timeout: 300 * time.Millisecond})
	completed(t, s, "warm-up")
	c := claim("k")
	c.Within = 300 * time.Millisecond
	resume := server.Stall()
	done := make(chan error, 1)
	go func() {
		_, err := s.Acquire(context.Background(), c)
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, idem.ErrUnavailable) {
			t.Errorf("acquire: %v, want %v", err, idem.ErrUnavailable)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("acquire hangs")
	}
	resume()
	awaitReady(t, s)
	// The statement that was stuck has been read by now, or never will be: the
	// server has seen the end of its connection before.
	acquire(t, s, rivalOf(c), idem.VerdictAcquired)
}

// Nor does a response hang that is larger than what all buffers on its way take, when the
// server stands still while it is sent: what is not written ends by the time-out, too.
func TestP5LargeResponseIsATimeout(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Timeout: 2 * time.Second})
	c := acquired(t, s, "k")
	resume := server.Stall()
	done := make(chan error, 1)
	go func() {
		done <- s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200, Body: make([]byte, 32<<20)})
	}()
	select {
	case err := <-done:
		if !errors.Is(err, idem.ErrUnavailable) {
			t.Errorf("complete: %v, want %v", err, idem.ErrUnavailable)
		}
	case <-time.After(20 * time.Second):
		t.Error("complete hangs")
	}
	resume()
	awaitReady(t, s)
}

func rivalOf(c idem.Claim) idem.Claim {
	c.Owner = idem.NewOwner()
	return c
}

// A claim that meets the server after its deadline is refused, as long as it is not
// known already what stands; and whose deadline was made by a clock that is not
// this server's is made once more.
func TestLateClaims(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns})
	c := claim("k")
	c.Within = time.Nanosecond
	if _, err := s.Acquire(context.Background(), c); !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) {
		t.Errorf("a late claim: %v, want %v and %v", err, idem.ErrUnavailable, idem.ErrRefused)
	}
	c.Within = time.Minute
	s.ForgetClock()
	acquire(t, s, c, idem.VerdictAcquired)
	c.Within = time.Nanosecond
	acquire(t, s, c, idem.VerdictInProgress)
}

// Where standbys are to have what is acknowledged, and none has it, nothing is: not
// when the wait for them is cut short either, which the server calls a success.
func TestP1UnreplicatedIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Schema: "s", Timeout: 2 * time.Second})
	c := acquired(t, s, "before")
	held := acquired(t, s, "held")
	server.Do("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
	until(t, "it waits for standbys", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		return s.Renew(ctx, []idem.Lease{held.Lease()})[0] != nil
	})
	cancelled := make(chan struct{})
	go func() { // whoever cancels statements: an operator, a statement time-out
		defer close(cancelled)
		for i := 0; i < 40; i++ {
			_, _ = server.Try("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
			time.Sleep(50 * time.Millisecond)
		}
	}()
	ctx := context.Background()
	want, fresh := &idem.Response{Status: 200, Body: []byte("x")}, claim("new")
	for name, call := range map[string]func() error{
		"acquire":  func() error { _, err := s.Acquire(ctx, fresh); return err },
		"complete": func() error { return s.Complete(ctx, c.Lease(), want) },
		"hold":     func() error { return s.Hold(ctx, held.Lease()) },
		"ping":     func() error { return s.Ping(ctx) },
	} {
		for range 2 { // and not when it is repeated, and was done before
			if err := call(); !errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused) {
				t.Errorf("%s: %v, want %v, and not refused", name, err, idem.ErrUnavailable)
			}
		}
	}
	<-cancelled
	server.Do("SET synchronous_commit = local", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
	awaitReady(t, s)
	if err := s.Complete(ctx, c.Lease(), want); err != nil {
		t.Error(err)
	}
	acquire(t, s, c, idem.VerdictCompleted)
}

// An acquire that nobody waits for any more, and that is committed late, is given
// back by the release that follows it, not by one that finds nothing.
func TestReleaseWaitsForAnAcquireUnderWay(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Schema: "s"})
	c := claim("k")
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	slow, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = slow.Exec(ctx, fmt.Sprintf("SELECT s.acquire('%x', '%x', '%x', '%x', 0, 60000, 60000, 0, true, false, '', 'k', NULL, '0')",
		c.Key.ID(), c.Owner, c.Fingerprint, c.Binding))
	if err != nil {
		t.Fatal(err)
	}
	released := make(chan error, 1)
	go func() { released <- s.Release(ctx, c.Lease()) }()
	until(t, "the release waits", func() bool {
		return server.Do("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0"
	})
	if err := slow.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-released; err != nil {
		t.Errorf("the release: %v", err)
	}
	acquire(t, s, c, idem.VerdictAcquired)
	// And one that finds nothing, since there is nothing, leaves nothing.
	other := claim("other")
	if err := s.Release(ctx, other.Lease()); !errors.Is(err, idem.ErrLeaseLost) {
		t.Errorf("a release of nothing: %v", err)
	}
	acquire(t, s, other, idem.VerdictAcquired)
}

// Nothing that a session has survives a connection: so whoever is out of them is
// refused, and takes up again.
func TestP5OutOfConnections(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, "max_connections=12", "superuser_reserved_connections=0", "max_wal_senders=0")
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns})
	var others []*pgx.Conn
	ctx := context.Background()
	until(t, "all connections are taken", func() bool {
		for {
			conn, err := pgx.Connect(ctx, server.URL("postgres"))
			if err != nil {
				break
			}
			others = append(others, conn)
		}
		_, err := s.Acquire(ctx, claim("k"))
		if err == nil { // it had one
			_, _ = others[0].Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'idemproxy'")
			return false
		}
		if !errors.Is(err, idem.ErrUnavailable) || !strings.Contains(err.Error(), "53300") {
			return false // that was the termination
		}
		if !errors.Is(err, idem.ErrRefused) {
			t.Errorf("out of connections: %v, want %v", err, idem.ErrRefused)
		}
		return true
	})
	for _, conn := range others {
		_ = conn.Close(ctx)
	}
	awaitReady(t, s)
	acquire(t, s, claim("after"), idem.VerdictAcquired)
}
