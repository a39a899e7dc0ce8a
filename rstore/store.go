package rstore

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
)

// Config says which Redis, and how. Only URL is required.
type Config struct {
	// URL is what rueidis.ParseURL takes: redis://, rediss:// (TLS), unix://;
	// user and password, database, several addr= for a Cluster, master_set= for
	// Sentinel.
	URL string
	// Namespace starts the name of every record, so that services which share a
	// Redis stay apart. Default "idem".
	Namespace string
	// CacheBytes bounds the responses kept in this process's memory for
	// replays. Default 64 MiB.
	CacheBytes int64
	// Timeout bounds the wait for an answer or a connection, and so how long it
	// takes to fail closed. Default 2 s.
	Timeout time.Duration
	// WaitReplicas is how many replicas must have an acquire, a response or a hold
	// before it counts; fewer within half of Timeout is idem.ErrUnavailable.
	// Default 0: the primary's word is enough.
	WaitReplicas int
	// CAFile, if set, holds the certificates (PEM) that may sign a rediss://
	// server's, instead of the system's.
	CAFile string
	// Codec, if set, is applied to responses at rest.
	Codec idem.Codec
	// Logger hears of connections. Default: nobody.
	Logger zerolog.Logger
}

// Store implements idem.Store and idem.Inspector. Make it with New.
type Store struct {
	option rueidis.ClientOption
	log    zerolog.Logger
	prefix string
	codec  idem.Codec

	waitReplicas int
	waitTimeout  time.Duration

	scripts scripts
	cache   *cache

	client  atomic.Pointer[rueidis.Client] // nil until first connected
	closed  atomic.Bool
	closing context.Context
	close   context.CancelFunc
	dialing sync.WaitGroup
}

var (
	_ idem.Store     = (*Store)(nil)
	_ idem.Inspector = (*Store)(nil)
	_ idem.Notifier  = (*Store)(nil)
)

// New makes the store. It does not wait for Redis: if that cannot be reached,
// calls are idem.ErrUnavailable until it can, which is tried in the background.
// An error means that the configuration is wrong.
func New(c Config) (*Store, error) {
	option, err := c.option()
	if err != nil {
		return nil, err
	}
	s := &Store{option: option, log: c.Logger, prefix: c.Namespace + ":", codec: c.Codec, scripts: newScripts()}
	if c.Namespace == "" {
		s.prefix = "idem:"
	}
	s.waitReplicas, s.waitTimeout = c.WaitReplicas, c.Timeout/2
	s.cache = newCache(s.prefix, c.CacheBytes)
	s.option.OnInvalidations = s.cache.onPush
	s.closing, s.close = context.WithCancel(context.Background())
	if !s.connect() {
		s.dialing.Go(s.connectLater)
	}
	return s, nil
}

func (c *Config) option() (rueidis.ClientOption, error) {
	option, err := rueidis.ParseURL(c.URL)
	if err != nil {
		return option, fmt.Errorf("the Redis URL: %w", err)
	}
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	if c.CacheBytes <= 0 {
		c.CacheBytes = 64 << 20
	}
	if c.CAFile != "" {
		if option.TLSConfig == nil {
			return option, errors.New("a file of CA certificates is for rediss:// only")
		}
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return option, fmt.Errorf("the CA certificates: %w", err)
		}
		option.TLSConfig.RootCAs = x509.NewCertPool()
		if !option.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
			return option, fmt.Errorf("the CA certificates: there is none in %s", c.CAFile)
		}
	}
	option.DisableRetry = true
	option.ClientTrackingOptions = []string{"NOLOOP"}
	option.Dialer.Timeout = c.Timeout
	option.Dialer.KeepAlive = c.Timeout / 2 // also how often an idle connection is pinged
	option.ConnWriteTimeout = c.Timeout
	// One connection, and a moment's patience before writing to it when others
	// wait for answers: fewer, fuller packets, which costs Redis and us less
	// than it delays (docs/performance.md).
	option.PipelineMultiplex = -1
	option.MaxFlushDelay = 20 * time.Microsecond
	return option, nil
}

func (s *Store) connect() bool {
	client, err := rueidis.NewClient(s.option)
	if err != nil {
		s.log.Warn().Str("event", "store_unreachable").Err(err).Msg("Redis cannot be reached; trying again")
		return false
	}
	s.client.Store(&client)
	s.log.Info().Str("event", "store_connected").Str("mode", string(client.Mode())).Msg("connected to Redis")
	s.dialing.Go(func() {
		ctx, cancel := context.WithTimeout(s.closing, 10*time.Second)
		defer cancel()
		s.check(ctx, client)
	})
	return true
}

func (s *Store) connectLater() {
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		select {
		case <-s.closing.Done():
			return
		case <-time.After(delay):
		}
		if s.connect() {
			return
		}
	}
}

func (s *Store) conn() (rueidis.Client, error) {
	if s.closed.Load() {
		return nil, idem.ErrClosed
	}
	client := s.client.Load()
	if client == nil {
		return nil, unavailable(errors.New("not connected yet"))
	}
	return *client, nil
}

// name is the record's name in Redis: a digest, so that no client can choose
// where its key lives or what it collides with.
func (s *Store) name(k id) string {
	var buf [96]byte
	return string(hex.AppendEncode(append(buf[:0], s.prefix...), k[:]))
}

// Acquire implements idem.Store: no round trip for a record in this process's
// memory, one for every other.
func (s *Store) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	client, err := s.conn()
	if err != nil {
		return idem.Outcome{}, err
	}
	k := c.Key.ID()
	if r := s.cache.get(k); r != nil {
		_, out := r.Acquire(c, r.Updated) // completed, whatever the time
		out.Local = true
		return out, nil
	}
	ticket, sent := s.cache.ticket(k), time.Now()
	name := s.name(k)
	a, err := s.scripts.runAcquire(ctx, client, name, &c)
	if err == nil && (a.outcome.Kind == idem.VerdictAcquired || a.outcome.Kind == idem.VerdictYours) {
		err = s.replicated(ctx, client, name)
	}
	if err != nil {
		return idem.Outcome{}, s.mapClosed(err)
	}
	if a.record != nil {
		if a.record.Response, err = idem.OpenResponse(s.codec, c.Key, a.record.Response); err != nil {
			return idem.Outcome{}, fmt.Errorf("reading a record: %w", err)
		}
		a.outcome.Response = a.record.Response
		s.cache.put(k, ticket, a.record, sent.Add(a.life))
	}
	return a.outcome, nil
}

// mapClosed: a call that was under way during Close failed because of it.
func (s *Store) mapClosed(err error) error {
	if err != nil && s.closed.Load() {
		return idem.ErrClosed
	}
	return err
}

// Renew implements idem.Store: one pipelined burst.
func (s *Store) Renew(ctx context.Context, leases []idem.Lease) []error {
	errs := make([]error, len(leases))
	client, err := s.conn()
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	cmds := make(rueidis.Commands, len(leases))
	for i := range leases {
		cmds[i] = client.B().Evalsha().Sha1(s.scripts.settleSHA).Numkeys(1).Key(s.name(leases[i].Key.ID())).
			Arg(settleArgs(idem.EventRenew, &leases[i], nil)...).Build()
	}
	for i, result := range client.DoMulti(ctx, cmds...) {
		if isNoScript(result.Error()) { // it did not run: load it and run it
			result = s.settle(ctx, client, idem.EventRenew, &leases[i], nil)
		}
		errs[i] = s.mapClosed(settled(result))
	}
	return errs
}

func (s *Store) settle(ctx context.Context, c rueidis.Client, e idem.Event, l *idem.Lease, r []byte) rueidis.RedisResult {
	return s.scripts.settle.Exec(ctx, c, []string{s.name(l.Key.ID())}, settleArgs(e, l, r))
}

func (s *Store) apply(ctx context.Context, e idem.Event, l idem.Lease, r *idem.Response) error {
	client, err := s.conn()
	if err != nil {
		return err
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
	err = settled(s.settle(ctx, client, e, &l, encoded))
	if err == nil && e != idem.EventRelease {
		err = s.replicated(ctx, client, s.name(l.Key.ID()))
	}
	return s.mapClosed(err)
}

// Complete implements idem.Store: one round trip.
func (s *Store) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	return s.apply(ctx, idem.EventComplete, l, r)
}

// Release implements idem.Store: one round trip.
func (s *Store) Release(ctx context.Context, l idem.Lease) error {
	return s.apply(ctx, idem.EventRelease, l, nil)
}

// Hold implements idem.Store: one round trip.
func (s *Store) Hold(ctx context.Context, l idem.Lease) error {
	return s.apply(ctx, idem.EventHold, l, nil)
}

// Ping implements idem.Store.
func (s *Store) Ping(ctx context.Context) error {
	client, err := s.conn()
	if err != nil {
		return err
	}
	if err := client.Do(ctx, client.B().Ping().Build()).Error(); err != nil {
		return s.mapClosed(unavailable(err))
	}
	return nil
}

// Close implements idem.Store.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.close()
	s.dialing.Wait()
	if client := s.client.Load(); client != nil {
		(*client).Close()
	}
	s.cache.flush()
	return nil
}

// Get implements idem.Inspector.
func (s *Store) Get(ctx context.Context, key idem.Key) (idem.Record, error) {
	client, err := s.conn()
	if err != nil {
		return idem.Record{}, err
	}
	reply, err := s.scripts.inspect.Exec(ctx, client, []string{s.name(key.ID())}, nil).ToArray()
	if err != nil || len(reply) != 3 {
		return idem.Record{}, s.mapClosed(unavailable(errors.Join(errReply, err)))
	}
	raw, err := reply[2].ToString()
	if rueidis.IsRedisNil(err) {
		return idem.Record{}, idem.ErrNotFound
	}
	if err != nil {
		return idem.Record{}, unavailable(err)
	}
	r, err := idem.DecodeRecord([]byte(raw))
	if err != nil {
		return idem.Record{}, fmt.Errorf("reading a record: %w", err)
	}
	seconds, err1 := reply[0].AsInt64()
	micros, err2 := reply[1].AsInt64()
	if err := errors.Join(err1, err2); err != nil {
		return idem.Record{}, unavailable(err)
	}
	if r.Response, err = idem.OpenResponse(s.codec, key, r.Response); err != nil {
		return idem.Record{}, fmt.Errorf("reading a record: %w", err)
	}
	return r.Inspect(seconds*1000 + micros/1000)
}

// Resolve implements idem.Inspector.
func (s *Store) Resolve(ctx context.Context, key idem.Key, retention time.Duration, r *idem.Response) error {
	err := s.apply(ctx, idem.ResolveEvent(r), idem.Lease{Key: key, Retention: retention}, r)
	s.cache.changed(key.ID()) // NOLOOP: our own changes are not pushed back
	return err
}

// OnChange implements idem.Notifier: Redis pushes the name of what this process
// has read when another connection changes it.
func (s *Store) OnChange(f func(id [16]byte)) { s.cache.onChange.Store(&f) }

// Purge implements idem.Inspector. Other processes hear of it by push.
func (s *Store) Purge(ctx context.Context, key idem.Key) error {
	client, err := s.conn()
	if err != nil {
		return err
	}
	k := key.ID()
	if err := client.Do(ctx, client.B().Del().Key(s.name(k)).Build()).Error(); err != nil {
		return s.mapClosed(unavailable(err))
	}
	s.cache.forget(k) // NOLOOP: our own deletions are not pushed back
	return nil
}
