package pstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/outage"
)

// Config says which PostgreSQL, and how. Only URL is required.
type Config struct {
	// URL is postgres://user:password@host:port/database, with whatever pgx takes: further
	// hosts, sslmode, target_session_attrs (read-write unless given), pool_max_conns.
	URL string
	// Schema is where the tables and functions are. Default "idemproxy".
	Schema string
	// Migrate has New make them, or bring them up to date, where they are not.
	Migrate bool
	// CacheBytes bounds the responses kept in this process's memory for
	// replays. Default 64 MiB.
	CacheBytes int64
	// Timeout bounds the wait for an answer or a connection, and so how long it
	// takes to fail closed. Default 2 s.
	Timeout time.Duration
	// CAFile, if set, holds the certificates (PEM) that may sign the server's, which
	// is then verified, name included, unless the URL has another sslmode.
	CAFile string
	// CertFile and KeyFile, if set, hold the certificate (PEM) that the server is
	// shown, and its key.
	CertFile, KeyFile string
	// Codec, if set, is applied to responses at rest.
	Codec idem.Codec
	// Logger hears of connections. Default: nobody.
	Logger zerolog.Logger

	lookEvery time.Duration // see the constant
}

// Store implements idem.Store, idem.Inspector and idem.Registry. Make it with New.
type Store struct {
	config Config
	option *pgxpool.Config
	dialer *dialer
	pool   *pgxpool.Pool
	log    zerolog.Logger
	codec  idem.Codec
	sql    statements

	timeout  time.Duration
	patience string // how long the server waits for locks of others

	cache *cache
	clock *clock
	renewal

	unready atomic.Pointer[error] // why calls are refused; nil: they are not
	checks  chan struct{}         // of size 1: have the schema looked at anew
	saying  announcements
	first   *pgx.Conn    // attend's: made by New
	looked  looked       // attend's
	outage  outage.Lines // New's, then attend's

	closed     atomic.Bool
	closing    context.Context
	close      context.CancelFunc
	background sync.WaitGroup
}

var (
	_ idem.Store     = (*Store)(nil)
	_ idem.Inspector = (*Store)(nil)
	_ idem.Notifier  = (*Store)(nil)
	_ idem.Registry  = (*Store)(nil)
)

// New makes the store. If the server cannot be reached at once, calls are
// idem.ErrUnavailable until it can, which is tried in the background.
// An error means that the configuration is wrong.
func New(c Config) (*Store, error) {
	option, err := c.option()
	if err != nil {
		return nil, err
	}
	s := &Store{
		config: c, option: option, log: c.Logger, codec: c.Codec, sql: newStatements(c.Schema),
		timeout: c.Timeout, patience: strconv.FormatInt(max(1, c.Timeout.Milliseconds()/2), 10),
		cache: newCache(c.CacheBytes), clock: newClock(), checks: make(chan struct{}, 1), saying: newAnnouncements(),
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.dialer = newDialer(s.closing, option.ConnConfig, c.Timeout)
	s.dialer.attach(option.ConnConfig)
	if s.pool, err = pgxpool.NewWithConfig(s.closing, option); err != nil {
		return nil, fmt.Errorf("the PostgreSQL URL: %w", errSettings)
	}
	notYet := errNotYet
	s.unready.Store(&notYet)
	// The hosts are tried one after the other, each as long as a call.
	if s.first, err = s.begin(s.closing, s.timeout*time.Duration(2+len(option.ConnConfig.Fallbacks))); err != nil {
		s.unreachable(err)
	}
	s.background.Go(s.attend)
	s.background.Go(s.announce)
	s.background.Go(s.sweep)
	return s, nil
}

// statements are what is sent, with the schema's name.
type statements struct {
	acquire, settle, renew, purge, probe, enter, entries, strike, sweep, get, list, find, notify, hello string
}

// aloud stands in the FROM of what acknowledges. That the server stopped waiting for its
// standbys it says in a warning only (see onNotice), which a role's client_min_messages may
// keep back. The setting is the transaction's, and so the commit's, too: nothing is set for
// a session, which may be another one's behind what pools connections.
const aloud = `pg_catalog.set_config('client_min_messages', 'warning', true)`

// quoted is the schema's name as SQL has it: see checkSchema.
func quoted(schema string) string { return `"` + schema + `"` }

func newStatements(schema string) statements {
	in := func(sql string) string { return strings.ReplaceAll(sql, "@", quoted(schema)) }
	return statements{
		acquire: in(`SELECT a.* FROM ` + aloud + `, @.acquire($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) AS a`),
		settle:  in(`SELECT @.settle($1, $2, $3, $4, $5, $6, $7) FROM ` + aloud),
		renew: in(`SELECT r.verdict FROM ` + aloud +
			`, @.renew($1, $2, $3, $4, $5) WITH ORDINALITY AS r (verdict, place) ORDER BY r.place`),
		purge:   in(`SELECT @.purge($1, $2) FROM ` + aloud),
		probe:   in(`SELECT @.probe($1) FROM ` + aloud),
		enter:   in(`SELECT @.enter($1, $2, $3) FROM ` + aloud),
		entries: in(`SELECT name, text, ends <> 0 AND ends <= @.clock() FROM @.entry`),
		strike:  in(`DELETE FROM @.entry WHERE name = $1`),
		sweep:   in(`SELECT * FROM @.sweep($1, $2, $3)`),
		get: in(`SELECT c.now, r.response, ` + recordColumns +
			` FROM (SELECT @.clock() AS now) AS c LEFT JOIN @.record AS r ON r.id = $1`),
		list: in(`SELECT @.clock(), NULL::bytea, ` + recordColumns + ` FROM @.record AS r WHERE r.id > $1 ORDER BY r.id LIMIT $2`),
		find: in(`SELECT @.clock(), NULL::bytea, ` + recordColumns +
			` FROM @.record AS r WHERE r.id BETWEEN $1 AND $2 ORDER BY r.id LIMIT $3`),
		notify: `SELECT pg_notify($1, $2)`,
		hello:  in(`SELECT pg_notify($1, $2), to_regclass('@.record')::oid`),
	}
}

// bound is the store's own time-out on top of the caller's.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// Acquire implements idem.Store: no round trip for a record in this process's
// memory, one for every other.
func (s *Store) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	if s.closed.Load() {
		return idem.Outcome{}, idem.ErrClosed
	}
	k := c.Key.ID()
	if r := s.cache.Get(k); r != nil {
		_, out := r.Acquire(c, r.Updated) // completed, whatever the time
		out.Local = true
		return out, nil
	}
	called := time.Now() // Within counts from here: before anything that may wait
	ctx, cancel := s.bound(ctx)
	defer cancel()
	ticket := s.cache.Ticket(k)
	got, sent, err := s.claim(ctx, &c, called)
	if err != nil {
		return idem.Outcome{}, err
	}
	if got.out.Kind != idem.VerdictCompleted {
		return got.out, nil
	}
	if got.out.Response, err = idem.OpenResponse(s.codec, c.Key, got.out.Response); err != nil {
		return idem.Outcome{}, fmt.Errorf("reading a record: %w", err)
	}
	s.cache.Put(k, ticket, got.standing(&c), sent.Add(got.life))
	return got.out, nil
}

// claim sends a claim, and once more if the server found it late: it may not have
// been this server's clock that the deadline was made by. sent is when the claim
// was sent that was answered.
func (s *Store) claim(ctx context.Context, c *idem.Claim, called time.Time) (got acquired, sent time.Time, err error) {
	for try := 0; ; try++ {
		sent = time.Now()
		got, err = s.runAcquire(ctx, c, called)
		received := time.Now()
		if got.now != 0 {
			s.clock.learn(got.now, sent, received)
		}
		if !errors.Is(err, errLate) {
			return got, sent, err
		}
		if try > 0 || received.Sub(called) >= c.Within {
			return got, sent, unavailable(err)
		}
	}
}

// verdictLate is acquire's for a claim that is past its deadline.
const verdictLate = -2

func (s *Store) runAcquire(ctx context.Context, c *idem.Claim, called time.Time) (acquired, error) {
	a := newArgs(14).uuid(c.Key.ID()).uuid(c.Owner).uuid(c.Fingerprint).uuid(c.Binding).int8(int64(c.Recipe)).
		int8(c.TTL.Milliseconds()).int8(max(0, c.Retention.Milliseconds())).int8(max(0, c.Remember.Milliseconds())).
		bool(c.HoldOnLapse).bool(c.Hinted()).bytes([]byte(c.Key.Scope())).bytes([]byte(c.Key.Value()))
	switch at := s.clock.at(called); {
	case c.Within <= 0:
		a.null()
	case at == 0:
		a.int8(0)
	default:
		a.int8(at + c.Within.Milliseconds())
	}
	row, err := s.askOne(ctx, s.sql.acquire, a.text(s.patience), acquiredWidth)
	if err != nil {
		return acquired{}, err
	}
	got, err := readAcquired(row)
	if got.out.Kind == idem.VerdictMismatch && got.out.Part == idem.PartPayload {
		got.out.Part = got.standing(c).Hints().Differ(c.Hints)
	}
	return got, err
}

// acquired is what acquire of schema1.sql answers.
type acquired struct {
	out    idem.Outcome
	life   time.Duration // how long there is a response
	now    int64         // the server's clock, ms; 0 if it was not told
	owner  idem.Owner    // the record's, if it is hinted
	hinted bool
}

const acquiredWidth = 6

// standing is as much of the record as an acquire of the same key can be answered by.
func (a *acquired) standing(c *idem.Claim) *idem.Record {
	return &idem.Record{
		State: idem.Completed, Attempt: a.out.Attempt, Owner: a.owner, Hinted: a.hinted,
		Fingerprint: c.Fingerprint, Binding: c.Binding, Recipe: c.Recipe, ReplayUntil: 1, Response: a.out.Response,
	}
}

func readAcquired(row [][]byte) (a acquired, err error) {
	verdict, err := int4(row[0])
	if err != nil {
		return a, err
	}
	var n [3]int64 // attempt, x, the server's time
	for i := range n {
		if row[1+i] != nil {
			if n[i], err = int8of(row[1+i]); err != nil {
				return a, err
			}
		}
	}
	a.hinted = copy(a.owner[:], row[4]) == len(a.owner)
	a.now = n[2]
	switch {
	case verdict == verdictLate:
		return a, errLate
	case verdict < 0 || verdict > int32(idem.VerdictExpired):
		return acquired{}, unavailable(errReply)
	}
	a.out = idem.Outcome{Kind: idem.Verdict(verdict), Attempt: uint32(n[0])} //nolint:gosec // as in a record
	switch a.out.Kind {
	case idem.VerdictInProgress:
		a.out.Remaining = time.Duration(n[1]) * time.Millisecond
	case idem.VerdictMismatch:
		a.out.Part = idem.Part(n[1]) //nolint:gosec // 1 or 2
	case idem.VerdictOtherRecipe:
		a.out.Recipe = idem.Recipe(n[1]) //nolint:gosec // as in a record
	case idem.VerdictCompleted:
		// The server's clock is cut to milliseconds, so up to one less is left.
		a.life = time.Duration(n[1]-1) * time.Millisecond
		if a.out.Response, err = idem.DecodeResponse(row[5]); err != nil {
			return acquired{}, fmt.Errorf("reading a record: %w", err)
		}
	case idem.VerdictAcquired, idem.VerdictYours, idem.VerdictUnknown, idem.VerdictExpired:
	case idem.VerdictOK, idem.VerdictLost, idem.VerdictNotUnknown:
		return acquired{}, unavailable(errReply)
	}
	return a, nil
}

// Complete implements idem.Store: one round trip.
func (s *Store) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	return s.settle(ctx, idem.EventComplete, l, r)
}

// Release implements idem.Store: one round trip.
func (s *Store) Release(ctx context.Context, l idem.Lease) error {
	return s.settle(ctx, idem.EventRelease, l, nil)
}

// Hold implements idem.Store: one round trip.
func (s *Store) Hold(ctx context.Context, l idem.Lease) error {
	return s.settle(ctx, idem.EventHold, l, nil)
}

func (s *Store) settle(ctx context.Context, e idem.Event, l idem.Lease, r *idem.Response) (err error) {
	if s.closed.Load() {
		return idem.ErrClosed
	}
	var encoded []byte
	if r != nil {
		if err := idem.CheckResponse(r); err != nil {
			return err
		}
		if r, err = idem.SealResponse(s.codec, l.Key, r); err != nil {
			return fmt.Errorf("sealing a response: %w", err)
		}
		encoded = idem.AppendResponse(make([]byte, 0, r.Size()), r)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	k := l.Key.ID()
	a := newArgs(7).uuid(k).int4(int32(e)).uuid(l.Owner)
	if l.Retention > 0 {
		a.int8(l.Retention.Milliseconds()).int8(max(0, l.Remember.Milliseconds()))
	} else {
		a.null().null()
	}
	row, err := s.askOne(ctx, s.sql.settle, a.bytes(encoded).text(s.patience), 1)
	if err != nil {
		return err
	}
	if err = settled(row[0]); err == nil {
		s.tell(k)
	}
	return err
}

// verdictLocked is renew's for a record whose row is locked.
const verdictLocked = -4

func settled(b []byte) error {
	verdict, err := int4(b)
	switch {
	case err != nil:
		return err
	case verdict == verdictLocked:
		return unavailable(errLocked)
	case verdict == int32(idem.VerdictOK):
		return nil
	case verdict == int32(idem.VerdictLost):
		return idem.ErrLeaseLost
	case verdict == int32(idem.VerdictNotUnknown):
		return idem.ErrNotUnknown
	}
	return unavailable(errReply)
}

// Ping implements idem.Store: it does what the acquire of a new key does, commit
// included, and leaves nothing behind.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	row, err := s.askOne(ctx, s.sql.probe, newArgs(1).uuid(idem.NewOwner()), 1)
	if err != nil {
		return fmt.Errorf("no key can be acquired: %w", err)
	}
	return settled(row[0])
}

// Close implements idem.Store.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.close()
	s.background.Wait()
	s.pool.Close()
	s.cache.deaf()
	return nil
}
