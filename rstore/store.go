package rstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/failpoint"
	"github.com/idemproxy/idemproxy/internal/outage"
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
	// AllReplicas: as many as the primary was ever seen to have, and one at least.
	// Default 0: the primary's word is enough.
	WaitReplicas int
	// CertFile and KeyFile, if set, hold the certificate (PEM) that a rediss://
	// server is shown, and its key.
	CertFile, KeyFile string
	// Journal is for how long this process keeps in memory what Redis acknowledged,
	// to assert it after a failover, and JournalBytes how much of it. Default 60 s
	// and 64 MiB; a negative Journal: nothing.
	Journal      time.Duration
	JournalBytes int64
	// CAFile, if set, holds the certificates (PEM) that may sign a rediss://
	// server's, instead of the system's.
	CAFile string
	// Codec, if set, is applied to responses at rest.
	Codec idem.Codec
	// Dial, if set, replaces how servers are connected to (tests). In a bubble of
	// testing/synctest, its connections must not sleep in Write, and Close must end a
	// Read and a Write at once: see dialWith.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Logger hears of connections. Default: nobody.
	Logger zerolog.Logger
}

// Store implements idem.Store and idem.Inspector. Make it with New.
type Store struct {
	option rueidis.ClientOption
	log    zerolog.Logger
	prefix string
	codec  idem.Codec

	timeout      time.Duration
	findFor      time.Duration // how long Find looks
	waitReplicas int

	scripts scripts
	cache   *cache
	clocks  *clocks
	journal *journal

	sentinels *sentinels // nil: the URL names the server itself
	gate      gate
	suspected chan struct{} // of size 1
	news      chan news     // from the Sentinels
	link      *link         // lead's: what is or was to be used; nil: there is none
	last      *identity     // lead's: the primary that was used last
	outage    outage.Lines  // lead's
	fled      string        // lead's: the address of a primary that was left before the Sentinels said so, at fledAt
	fledAt    time.Time

	closed     atomic.Bool
	closing    context.Context
	close      context.CancelFunc
	background sync.WaitGroup
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
	s := &Store{
		option: option, log: c.Logger, prefix: c.Namespace + ":", codec: c.Codec, scripts: newScripts(),
		timeout: c.Timeout, findFor: findFor, waitReplicas: c.WaitReplicas,
		suspected: make(chan struct{}, 1), news: make(chan news, 64),
	}
	if c.Namespace == "" {
		s.prefix = "idem:"
	}
	s.sentinels = newSentinels(s)
	s.cache, s.clocks = newCache(s.prefix, c.CacheBytes), newClocks()
	s.journal = newJournal(c.Journal, c.JournalBytes)
	s.option.OnInvalidations = s.onPush
	s.closing, s.close = context.WithCancel(context.Background())
	s.gate.shut(errNotYet)
	s.connect()
	s.background.Go(s.lead)
	if s.sentinels != nil {
		s.background.Go(s.listen)
	}
	return s, nil
}

// onPush hears what the servers say of keys, and when a connection is lost (nil).
func (s *Store) onPush(names []rueidis.RedisMessage) {
	if names == nil {
		s.clocks.forget()
	}
	s.cache.onPush(names)
}

// names are those of a record in Redis and of the response that it may outlive:
// a digest, so that no client can choose where its key lives or what it collides
// with. Both are in one slot of a Cluster, since what stands in braces decides
// that, and both start with the namespace, which a user's rights may be bound to.
func (s *Store) names(k id) (record, response string) {
	var space [128]byte
	b := append(append(append(space[:0], s.prefix...), "r{"...), s.prefix...)
	response = string(append(hex.AppendEncode(b, k[:]), '}'))
	return response[len(s.prefix)+len("r{") : len(response)-1], response
}

// name is the record's.
func (s *Store) name(k id) string {
	record, _ := s.names(k)
	return record
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
	l, err := s.conn(ctx)
	if err != nil {
		return idem.Outcome{}, err
	}
	ticket := s.cache.Ticket(k)
	name, response := s.names(k)
	a, sent, err := s.claim(ctx, l, []string{name, response}, &c, called)
	if err != nil {
		return idem.Outcome{}, s.mapClosed(err)
	}
	if a.record != nil {
		if a.record.Response, err = idem.OpenResponse(s.codec, c.Key, a.record.Response); err != nil {
			return idem.Outcome{}, fmt.Errorf("reading a record: %w", err)
		}
		a.outcome.Response = a.record.Response
		// The server's clock is cut to milliseconds, so up to one less is left.
		s.cache.Put(k, ticket, a.record, sent.Add(a.life-time.Millisecond))
	}
	return a.outcome, nil
}

// claim sends a claim, and once more if the server found it late: it may not have
// been this server's clock that the deadline was made by. sent is when the claim
// was sent that was answered.
func (s *Store) claim(
	ctx context.Context, l *link, keys []string, claim *idem.Claim, called time.Time,
) (a acquired, sent time.Time, err error) {
	slot := l.slot(keys[0])
	sent = called
	for try := 0; ; try++ {
		a, err = s.runAcquire(ctx, l, keys, claim, s.clocks.at(slot, called))
		received := time.Now()
		if a.now != 0 {
			s.clocks.learn(slot, a.now, sent, received)
		}
		if err == nil && a.granted() {
			s.journal.granted(claim.Key.ID(), claim, a.asked, a.outcome.Attempt, sent)
		}
		if err = l.trusted(err); !errors.Is(err, errLate) {
			return a, sent, err
		}
		if try > 0 || received.Sub(called) >= claim.Within {
			return a, sent, unavailable(err)
		}
		sent = received
	}
}

// Renew implements idem.Store: one pipelined burst, to each server of a Cluster.
func (s *Store) Renew(ctx context.Context, leases []idem.Lease) []error {
	errs := make([]error, len(leases))
	ctx, cancel := s.bound(ctx)
	defer cancel()
	l, err := s.conn(ctx)
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return errs
	}
	keys, args := make([][]string, len(leases)), make([][]string, len(leases))
	for i := range leases {
		keys[i], args[i] = []string{s.name(leases[i].Key.ID())}, settleArgs(idem.EventRenew, &leases[i], nil, 0)
	}
	sent := time.Now()
	for i, result := range s.scripts.settle.bursts(ctx, l, keys, args) {
		errs[i] = s.acknowledged(l, idem.EventRenew, &leases[i], nil, settled(result), sent)
	}
	return errs
}

func (s *Store) apply(ctx context.Context, e idem.Event, l idem.Lease, r *idem.Response) error {
	if s.closed.Load() {
		return idem.ErrClosed
	}
	var encoded []byte
	var err error
	if r != nil {
		if err := idem.CheckResponse(r); err != nil {
			return err
		}
		if r, err = idem.SealResponse(s.codec, l.Key, r); err != nil {
			return fmt.Errorf("sealing a response: %w", err)
		}
		encoded = idem.AppendResponse(make([]byte, 0, r.Size()), r)
	}
	name, response := s.names(l.Key.ID())
	keys := []string{name, response}
	if r == nil {
		keys = keys[:1]
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	to, err := s.conn(ctx)
	if err != nil {
		return err
	}
	sent := time.Now()
	now := s.clocks.surely(to.slot(name), sent)
	var result rueidis.RedisResult
	var lack error
	switch e {
	case idem.EventComplete:
		result, lack = s.complete(ctx, to, keys, &l, encoded, now)
	case idem.EventRelease:
		result = s.scripts.settle.run(ctx, to.client, keys, settleArgs(e, &l, nil, now))
	default:
		result, lack = s.runReplicated(ctx, to, s.scripts.settle, keys, settleArgs(e, &l, encoded, now))
	}
	if err = settled(result); err == nil {
		err = lack
	}
	return s.acknowledged(to, e, &l, encoded, err, sent)
}

// acknowledged writes down what a server answered to an event, and returns what
// is to be made of that. It writes before it asks whether the server can be
// trusted: who does not trust it any more reads what was written after that.
func (s *Store) acknowledged(l *link, e idem.Event, lease *idem.Lease, response []byte, err error, sent time.Time) error {
	failpoint.Reach("journal-append")
	switch {
	case err == nil:
		s.journal.settled(lease.Key.ID(), e, lease, response, sent)
	case errors.Is(err, idem.ErrLeaseLost) && !l.hasLeft() && e != idem.EventTake: // that says nothing of the owner's
		s.journal.lost(lease.Key.ID(), e, lease.Owner)
	}
	return s.mapClosed(l.trusted(err))
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

// Close implements idem.Store.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.close()
	s.background.Wait()
	if s.link != nil {
		s.link.client.Close()
	}
	s.gate.shut(idem.ErrClosed)
	s.cache.Flush()
	return nil
}
