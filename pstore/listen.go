package pstore

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
	"github.com/idemproxy/idemproxy/internal/outage"
)

// helloEvery is how often the way that notifications take is tried.
const helloEvery = time.Second

// leash is for how long after it was tried last that way is taken to be open: for
// so long an answer from memory can be stale when the network falls silent.
func (s *Store) leash() time.Duration { return 2*s.timeout + helloEvery }

// errDeaf: a notification that was sent did not arrive.
var errDeaf = errors.New("notifications do not arrive here: does something that pools connections stand in between " +
	"(PgBouncer in transaction mode)?")

// attend keeps a connection to the server, by which it looks after the schema and
// hears notifications, and makes another one when that is lost.
func (s *Store) attend() {
	var unheard outage.Lines
	for delay := 50 * time.Millisecond; s.closing.Err() == nil; delay = min(2*delay, time.Second) {
		began := time.Now()
		err := s.session()
		s.cache.deaf()
		if s.closing.Err() != nil {
			return
		}
		heard := time.Since(began) > s.leash()
		if heard && !errors.Is(err, errDeaf) {
			delay = 50 * time.Millisecond
			unheard.Over()
		}
		if s.unready.Load() != nil {
			s.unreachable(err)
		} else if unheard.Worth(time.Now()) {
			s.log.Warn().Str("event", "store_unheard").Err(s.unsaid(err)).
				Msg("PostgreSQL's notifications are not heard: no replay is answered from memory; trying again")
		}
		if errors.Is(err, errDeaf) {
			s.sleep(time.Minute)
		} else {
			s.sleep(delay)
		}
	}
}

// unreachable says why nothing can be asked, once in a while.
func (s *Store) unreachable(err error) {
	if s.outage.Worth(time.Now()) {
		s.log.Warn().Str("event", "store_unreachable").Err(s.unsaid(err)).Msg("PostgreSQL cannot be used; trying again")
	}
}

// sleep waits, unless the schema is to be looked at.
func (s *Store) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.closing.Done():
	case <-s.checks:
	case <-timer.C:
	}
}

// session is the life of that connection.
func (s *Store) session() error {
	ctx, cancel := context.WithCancel(s.closing)
	defer cancel()
	conn, err := s.first, error(nil)
	if s.first = nil; conn == nil {
		conn, err = s.begin(ctx, 0)
	}
	if err != nil {
		return err
	}
	defer s.hangUp(conn)
	switch server := s.serverOf(ctx, conn); {
	case server == "" || server != s.looked.server:
		s.looked = looked{server: server}
		s.check(ctx, conn)
	case time.Since(s.looked.at) >= s.config.lookEvery: // and no hello lived so long
		s.check(ctx, conn)
	}
	return s.listen(ctx, conn)
}

// begin connects, and sees to the schema. From then on calls can be answered. Unless
// connectingFor is 0, it bounds the former.
func (s *Store) begin(ctx context.Context, connectingFor time.Duration) (*pgx.Conn, error) {
	conn, err := s.connect(ctx, connectingFor)
	if err != nil {
		if s.unready.Load() != nil { // otherwise calls find out by themselves
			s.unready.Store(&err)
		}
		return nil, err
	}
	if err := s.prepare(ctx, conn.PgConn()); err != nil {
		s.unready.Store(&err)
		s.hangUp(conn)
		return nil, err
	}
	if s.unready.Swap(nil) != nil {
		s.looked.server = ""
		s.outage.Over()
		s.log.Info().Str("event", "store_connected").Str("server", addressOf(conn)).Str("mode", "postgres").
			Msg("connected to PostgreSQL")
	}
	return conn, nil
}

// serverOf names the server as it runs now: after a restart or a failover it is another
// name, and its settings may differ. Empty if it does not say.
func (s *Store) serverOf(ctx context.Context, conn *pgx.Conn) string {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	rows, err := exec(ctx, conn.PgConn(), "SELECT pg_postmaster_start_time()::text || ' ' || "+
		"coalesce(inet_server_addr()::text, '') || ' ' || coalesce(inet_server_port()::text, '')")
	if err != nil || len(rows) != 1 || len(rows[0]) != 1 {
		return ""
	}
	return string(rows[0][0])
}

// hangUp has little time for it, since a server that is gone does not answer.
func (s *Store) hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	_ = conn.Close(ctx)
}

func addressOf(conn *pgx.Conn) string { return conn.PgConn().Conn().RemoteAddr().String() }

func (s *Store) connect(ctx context.Context, atMost time.Duration) (*pgx.Conn, error) {
	if atMost > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, atMost)
		defer cancel()
	}
	option := s.option.ConnConfig.Copy()
	s.dialer.alone().attach(option) // what calls wait for is not behind their connections
	conn, err := pgx.ConnectConfig(ctx, option)
	if err != nil {
		return nil, connecting(err)
	}
	return conn, nil
}

// recheck has the schema be looked at: something of it is missing, as a statement has
// shown, or the right to use it.
func (s *Store) recheck(reason error) {
	s.unready.Store(&reason)
	select {
	case s.checks <- struct{}{}:
	default: // already told
	}
}

// listen hears notifications until the connection is lost. Whether they arrive is
// tried by one that a connection of the pool sends: so it is known that both talk to
// the same server, and that what stands in between passes notifications on.
func (s *Store) listen(ctx context.Context, conn *pgx.Conn) error {
	owner := idem.NewOwner()
	mine := s.config.Schema + "_" + hex.EncodeToString(owner[:8])
	starting, cancel := context.WithTimeout(ctx, s.timeout)
	_, err := exec(starting, conn.PgConn(), "LISTEN "+quoted(s.config.Schema)+"; LISTEN "+quoted(mine))
	cancel()
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	var helloing sync.WaitGroup
	defer helloing.Wait()
	defer stop()
	hellos, server := &hellos{sent: map[int64]time.Time{}}, addressOf(conn)
	helloing.Go(func() {
		defer stop()
		s.hello(ctx, server, mine, hellos)
	})
	for last, heard := time.Now(), false; ; {
		waiting, cancel := context.WithDeadline(ctx, last.Add(s.leash()))
		n, err := conn.WaitForNotification(waiting)
		silent := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("listening: %w", context.Cause(ctx))
		case err != nil && silent && !heard:
			return errDeaf
		case err != nil && silent:
			return fmt.Errorf("listening: nothing was heard for %v", s.leash())
		case err != nil:
			return fmt.Errorf("listening: %w", err)
		case n.Channel != mine:
			s.onPush(n.Payload)
		default:
			sent, ok := hellos.heard(n.Payload)
			if !ok {
				continue
			}
			if !heard {
				failpoint.Reach("listen-flush")
				// What was kept before was asked for before this connection listened.
				s.cache.Flush()
				s.log.Debug().Str("event", "store_heard").Str("server", addressOf(conn)).Msg("PostgreSQL's notifications are heard")
			}
			last, heard = sent, true
			s.cache.hearUntil(sent.Add(s.leash()))
		}
	}
}

// hellos are the trials under way.
type hellos struct {
	mu   sync.Mutex
	sent map[int64]time.Time // guarded by mu
}

func (h *hellos) send(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent[n] = time.Now()
	delete(h.sent, n-100) // it is lost
}

// heard is when the hello was sent.
func (h *hellos) heard(payload string) (time.Time, bool) {
	n, err := strconv.ParseInt(payload, 10, 64)
	h.mu.Lock()
	defer h.mu.Unlock()
	sent, ok := h.sent[n]
	delete(h.sent, n)
	return sent, ok && err == nil
}

// hello sends one notification after the other to who listens at server, until the schema is
// to be looked at.
func (s *Store) hello(ctx context.Context, server, channel string, hellos *hellos) {
	tick := time.NewTicker(helloEvery)
	defer tick.Stop()
	var table []byte // which one has the records
	for n := int64(1); ; n++ {
		hellos.send(n)
		asking, cancel := s.bound(ctx)
		// What goes wrong is heard: nothing.
		row, err := s.askOne(asking, s.sql.hello, newArgs(2).text(channel).text(strconv.FormatInt(n, 10)), 2)
		cancel()
		if err == nil {
			if table != nil && !bytes.Equal(row[1], table) {
				// It was made anew, of a backup for instance, and no trigger tells of that.
				s.cache.Flush()
			}
			table = row[1]
			s.lookAgain(ctx, server)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.checks: // by who begins anew
			return
		case <-tick.C:
		}
	}
}

// onPush hears which records have changed.
func (s *Store) onPush(payload string) {
	if payload == anyRecord {
		s.cache.Flush()
		return
	}
	for ; len(payload) >= 2*len(id{}); payload = payload[2*len(id{}):] {
		var k id
		if _, err := hex.Decode(k[:], []byte(payload[:2*len(id{})])); err == nil {
			s.cache.Forget(k)
		}
	}
}

// anyRecord is a payload: any may have changed.
const anyRecord = "*"
