package pstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/idemproxy/idemproxy/idem"
)

// args are a statement's, in PostgreSQL's binary format.
type args struct {
	values  [][]byte
	oids    []uint32
	formats []int16
}

func newArgs(n int) *args {
	return &args{values: make([][]byte, 0, n), oids: make([]uint32, 0, n), formats: make([]int16, 0, n)}
}

func (a *args) add(oid uint32, value []byte) *args {
	a.values, a.oids, a.formats = append(a.values, value), append(a.oids, oid), append(a.formats, binaryFormat)
	return a
}

const binaryFormat = 1

func (a *args) uuid(v [16]byte) *args { return a.add(pgtype.UUIDOID, v[:]) }
func (a *args) bytes(v []byte) *args  { return a.add(pgtype.ByteaOID, v) } // nil is null
func (a *args) text(v string) *args   { return a.add(pgtype.TextOID, []byte(v)) }
func (a *args) null() *args           { return a.add(pgtype.Int8OID, nil) } // of an int8

func (a *args) bool(v bool) *args {
	if v {
		return a.add(pgtype.BoolOID, []byte{1})
	}
	return a.add(pgtype.BoolOID, []byte{0})
}

func (a *args) int4(v int32) *args {
	return a.add(pgtype.Int4OID, binary.BigEndian.AppendUint32(nil, uint32(v))) //nolint:gosec // its bits
}

func (a *args) int8(v int64) *args {
	return a.add(pgtype.Int8OID, int8Bytes(v))
}

func int8Bytes(v int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(v)) //nolint:gosec // its bits
}

// array appends an array of one dimension without nulls, but where an element is nil.
func (a *args) array(oid, element uint32, items [][]byte) {
	hasNull := uint32(0)
	for _, item := range items {
		if item == nil {
			hasNull = 1
		}
	}
	b := binary.BigEndian.AppendUint32(nil, 1)
	b = binary.BigEndian.AppendUint32(b, hasNull)
	b = binary.BigEndian.AppendUint32(b, element)
	b = binary.BigEndian.AppendUint32(b, uint32(len(items))) //nolint:gosec // a batch
	b = binary.BigEndian.AppendUint32(b, 1)
	for _, item := range items {
		if item == nil {
			b = binary.BigEndian.AppendUint32(b, ^uint32(0))
			continue
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(item))) //nolint:gosec // 8 or 16
		b = append(b, item...)
	}
	a.add(oid, b)
}

// ask has the server run a statement, in a transaction of its own, and returns the
// rows of its result. What it did not do, for a reason that passes, is sent again:
// nothing was done, so nothing is done twice.
func (s *Store) ask(ctx context.Context, sql string, a *args) (rows [][][]byte, err error) {
	return s.askAgain(ctx, maxTries, sql, a)
}

// askAgain is ask with a bound for how often it is sent again after it met another
// transaction.
func (s *Store) askAgain(ctx context.Context, meetings int, sql string, a *args) (rows [][][]byte, err error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	if rows, err = s.attempts(ctx, meetings, sql, a); err != nil {
		return nil, s.failed(ctx, err)
	}
	return rows, nil
}

// attempts are askAgain's, without what follows of an error for the connections and for who
// asks after.
func (s *Store) attempts(ctx context.Context, meetings int, sql string, a *args) (rows [][][]byte, err error) {
	for try := 0; ; try++ {
		rows, err = s.once(ctx, sql, a)
		if err == nil || try == maxTries || ctx.Err() != nil || !passing(err) || met(err) && try >= meetings {
			return rows, err
		}
	}
}

// askOne is ask for one row of n columns.
func (s *Store) askOne(ctx context.Context, sql string, a *args, n int) ([][]byte, error) {
	rows, err := s.ask(ctx, sql, a)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 || len(rows[0]) != n {
		return nil, unavailable(errReply)
	}
	return rows[0], nil
}

// maxTries bounds how often what passes may pass.
const maxTries = 5

// once sends a statement and reads its answer, up to where the server is ready for
// the next one: it commits after it has sent the row.
func (s *Store) once(ctx context.Context, sql string, a *args) ([][][]byte, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, errors.Join(errNotSent, err)
	}
	defer conn.Release()
	c := conn.Conn().PgConn()
	delete(c.CustomData(), unreplicated)
	result := c.ExecParams(ctx, sql, a.values, a.oids, a.formats, []int16{binaryFormat}).Read()
	switch {
	case result.Err != nil:
		return nil, result.Err
	case c.CustomData()[unreplicated] != nil:
		return nil, errUnreplicated
	}
	return result.Rows, nil
}

// unreplicated is where a connection keeps that the server did not wait for its
// standbys.
const unreplicated = "idemproxy.unreplicated"

// onNotice hears what the server warns of. That it stopped waiting for its standbys, since it
// was cancelled, it says in a warning only; the statement succeeds. The warning's text is
// translated, but not the name of the function.
func onNotice(c *pgconn.PgConn, n *pgconn.Notice) {
	if n.Routine == "SyncRepWaitForLSN" {
		c.CustomData()[unreplicated] = true
	}
}

// usable says why nothing can be asked, without asking.
func (s *Store) usable() error {
	if s.closed.Load() {
		return idem.ErrClosed
	}
	if reason := s.unready.Load(); reason != nil {
		return s.unsaid(unavailable(fmt.Errorf("%w: %w", errNotSent, *reason)))
	}
	return nil
}

// failed looks at why a statement failed. What says that the server is not what it
// was has idle connections be made anew.
func (s *Store) failed(ctx context.Context, err error) error {
	if s.closed.Load() {
		return idem.ErrClosed
	}
	switch code := codeOf(err); code {
	case "":
		if ctx.Err() == nil && !errors.Is(err, errUnreplicated) {
			s.renewPool()
		}
	case "25006", "57P01", "57P02", "57P03": // read-only; shut down; crashed; cannot be used now
		s.renewPool()
	case "42P01", "42883", "3F000", "42704", "42501": // no such table, function, schema; no right
		s.recheck(err)
	}
	return s.unsaid(unavailable(err))
}

// renewPool has no connection that there is now be used again.
func (s *Store) renewPool() {
	s.renewing.Lock()
	defer s.renewing.Unlock()
	if time.Since(s.renewed) < renewAtMost {
		return
	}
	s.renewed = time.Now()
	s.clock.forget()
	s.pool.Reset()
}

// renewAtMost bounds how often that is done.
const renewAtMost = 100 * time.Millisecond

// renewal is when the pool's connections were last given up.
type renewal struct {
	renewing sync.Mutex
	renewed  time.Time // guarded by renewing
}

func neverPing(context.Context, pgxpool.ShouldPingParams) bool { return false }

// letGo closes the connection of a statement that was given up. pgx would wait for up to 15 s
// until the server has heard of that, and so long the pool would make no other one in its
// place: when a server falls silent under load, that is all of them.
func letGo(c *pgx.Conn) {
	if c.IsClosed() {
		_ = underneath(c.PgConn().Conn()).Close()
	}
}

// underneath is conn without TLS, which would say goodbye.
func underneath(conn net.Conn) net.Conn {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return secure.NetConn()
	}
	return conn
}

// isOpen looks whether the server has ended an idle connection, or said something
// that nobody asked for, which is how it does that: so that a statement is not sent
// where it is lost. It costs no round trip.
func isOpen(_ context.Context, c *pgx.Conn) (bool, error) {
	sys, ok := underneath(c.PgConn().Conn()).(syscall.Conn)
	if !ok {
		return true, nil
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return false, nil //nolint:nilerr // it is closed, and another one is taken
	}
	open := false
	// Not raw.Read, which waits for others who read: pgx may have a goroutine at it,
	// that began when it wrote, and reads on as long as nothing comes.
	err = raw.Control(func(fd uintptr) {
		var buf [1]byte
		_, _, err := syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = errors.Is(err, syscall.EAGAIN)
	})
	return open && err == nil, nil
}

func int4(b []byte) (int32, error) {
	if len(b) != 4 {
		return 0, unavailable(errReply)
	}
	return int32(binary.BigEndian.Uint32(b)), nil //nolint:gosec // its bits
}

func int8of(b []byte) (int64, error) {
	if len(b) != 8 {
		return 0, unavailable(errReply)
	}
	return int64(binary.BigEndian.Uint64(b)), nil //nolint:gosec // its bits
}
