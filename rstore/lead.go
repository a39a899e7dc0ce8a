package rstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/redact"
)

// gate is what calls pass to get at the primary.
type gate struct {
	link atomic.Pointer[link] // nil: there is none to be used now

	mu     sync.Mutex
	reason error         // why there is none; guarded by mu
	opened chan struct{} // closed when there is one, or when waiting is in vain; nil: do not wait; guarded by mu
}

// errNotYet is the reason before the first attempt has ended.
var errNotYet = errors.New("not connected yet")

// open lets calls through to l.
func (g *gate) open(l *link) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.link.Store(l)
	g.endWait()
}

// shut has calls fail at once, for a reason.
func (g *gate) shut(reason error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.link.Store(nil)
	g.reason = reason
	g.endWait()
}

// hold has calls wait: there will be a primary soon.
func (g *gate) hold(reason error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.link.Store(nil)
	g.reason = reason
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
}

// endWait wakes those who wait; g.mu is held.
func (g *gate) endWait() {
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// pass returns the link to use, and waits for it while that makes sense.
func (g *gate) pass(ctx context.Context) (*link, error) {
	for {
		if l := g.link.Load(); l != nil {
			return l, nil
		}
		g.mu.Lock()
		reason, opened := g.reason, g.opened
		g.mu.Unlock()
		if opened == nil {
			if l := g.link.Load(); l != nil {
				return l, nil
			}
			return nil, reason
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return nil, reason
		}
	}
}

// conn is the link to use. Nothing was sent if it fails.
func (s *Store) conn(ctx context.Context) (*link, error) {
	if s.closed.Load() {
		return nil, idem.ErrClosed
	}
	l, err := s.gate.pass(ctx)
	if err != nil {
		return nil, s.mapClosed(unavailable(fmt.Errorf("%w: %w", errNotSent, err)))
	}
	return l, nil
}

// bound is the store's own time-out on top of the caller's.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// mapClosed looks at why a call failed: an answer that no primary gives has the
// primary looked for anew. A call that was under way during Close failed because
// of it. A server may repeat in an answer what it was sent.
func (s *Store) mapClosed(err error) error {
	if err == nil {
		return nil
	}
	if s.closed.Load() {
		return idem.ErrClosed
	}
	var refused *rueidis.RedisError
	if errors.As(err, &refused) {
		switch word, _, _ := strings.Cut(refused.Error(), " "); word {
		case "READONLY", "MASTERDOWN", "UNBLOCKED", "LOADING", "CLUSTERDOWN":
			s.suspect()
		}
		return s.unsaid(err)
	}
	return err
}

// unsaid is err without the password; a user without one may be one.
func (s *Store) unsaid(err error) error {
	return redact.Secrets(err, cmp.Or(s.option.Password, s.option.Username))
}

// suspect has the primary looked at now.
func (s *Store) suspect() {
	select {
	case s.suspected <- struct{}{}:
	default: // already told
	}
}

// lookEvery is how often a primary is asked whether it still is one; lookAtMost
// bounds how often suspicions can have it asked.
const (
	lookEvery  = time.Second
	lookAtMost = 50 * time.Millisecond
)

// lead finds the primary, keeps to it, and finds the next one. It alone opens and
// shuts the gate; those who hear of a failover may hold it.
func (s *Store) lead() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for delay := 2 * lookAtMost; s.closing.Err() == nil; {
		if s.link == nil {
			s.sleep(delay)
			delay = min(2*delay, time.Second)
			s.connect()
			continue
		}
		delay = 2 * lookAtMost
		select {
		case <-s.closing.Done():
			return
		case <-s.suspected:
			s.look(s.link, true)
			s.sleep(lookAtMost)
		case n := <-s.news:
			s.follow(n)
		case <-tick.C:
			s.look(s.link, false)
		}
	}
}

func (s *Store) sleep(d time.Duration) {
	select {
	case <-s.closing.Done():
	case <-time.After(d):
	}
}

// connect finds the primary and lets calls through to it.
func (s *Store) connect() {
	ctx, cancel := s.bound(s.closing)
	defer cancel()
	l, err := s.find(ctx)
	if err == nil {
		err = s.take(l)
	}
	if err == nil {
		s.outage.Over()
		return
	}
	if s.closing.Err() == nil && s.outage.Worth(time.Now()) {
		s.log.Warn().Str("event", "store_unreachable").Err(err).Msg("Redis cannot be reached; trying again")
	}
	s.gate.shut(err)
}

// othersLead is how long after a failover was known the new primary is first
// used: other proxies, which hear of it at about the same time, have asserted
// what they know by then, so that nobody takes a key that one of them has.
const othersLead = 300 * time.Millisecond

// take has l be the one that is used, from when it has been told what the one
// before had acknowledged. Where that is the same process, it knows: it may have
// been told to forget since.
func (s *Store) take(l *link) error {
	if s.last != nil && !l.who.same(s.last) {
		start := time.Now()
		if err := s.assert(s.closing, l); err != nil {
			l.client.Close()
			return err
		}
		s.sleep(othersLead - time.Since(start))
	}
	s.link, s.last = l, &l.who
	s.gate.open(l)
	s.log.Info().Str("event", "store_connected").Str("server", l.addr).Str("mode", string(l.client.Mode())).Msg("connected to Redis")
	s.background.Go(func() {
		ctx, cancel := context.WithTimeout(s.closing, 10*time.Second)
		defer cancel()
		s.check(ctx, l)
	})
	return nil
}

// hold has calls wait for what comes after l, which is a primary not much longer.
// What was sent over it and not answered is in doubt.
func (s *Store) hold(l *link, reason error) {
	s.gate.hold(reason)
	l.leave()
}

// leave has l not be used any more.
func (s *Store) leave(l *link, reason error) {
	s.log.Warn().Str("event", "store_left").Str("server", l.addr).Err(reason).Msg("this is not the primary any more; looking for it")
	s.hold(l, reason)
	s.link = nil
	s.onPush(nil) // nobody tells us any more
	s.background.Go(l.client.Close)
}

// look asks whether l's server is still the primary. What a suspicion says is
// looked up over a new connection, which may lead elsewhere.
func (s *Store) look(l *link, suspected bool) {
	ctx, cancel := s.bound(s.closing)
	defer cancel()
	if l.client.Mode() == rueidis.ClientModeCluster {
		s.lookAtCluster(ctx, l)
		return
	}
	if !suspected && s.isStillPrimary(ctx, l) {
		return
	}
	addr := l.addr
	if s.sentinels != nil {
		addrs, err := s.addresses(ctx)
		if err != nil {
			return // the client goes on trying
		}
		addr = addrs[0]
	}
	who, err := s.whoIs(ctx, addr)
	if err != nil {
		return
	}
	err = l.same(who)
	if err == nil && (addr != l.addr || suspected && who.runID == "") {
		err = errChanged // perhaps: it does not say
	}
	if err != nil {
		s.leave(l, err)
		s.connect()
	}
}

// lookAtCluster tells the Cluster what it had acknowledged when other servers have
// some of the slots. Calls do not wait for that: which server one goes to is the
// client library's business.
func (s *Store) lookAtCluster(ctx context.Context, l *link) {
	owners, err := ownersOf(ctx, l)
	if err != nil {
		return // asked again
	}
	if before := l.owners.Load(); before != nil && !maps.Equal(*before, owners) {
		if err := s.assert(s.closing, l); err != nil {
			s.log.Warn().Str("event", "store_unasserted").Err(err).Msg("the Cluster was not told what it had acknowledged; trying again")
			return
		}
	}
	l.owners.Store(&owners)
}

// isStillPrimary asks over the connection that there is.
func (s *Store) isStillPrimary(ctx context.Context, l *link) bool {
	info, err := l.client.Do(ctx, l.client.B().Info().Section("replication").Build()).ToString()
	if err != nil {
		var refused *rueidis.RedisError
		return errors.As(err, &refused) // it does not say
	}
	l.sawReplicas(len(replicasOf(info)))
	return infoField(info, "role") == "master"
}

// How long a failover may take whose begin was heard, and how often the server
// that is to become the primary is asked whether it is.
const (
	followAtMost = 5 * time.Second
	followEvery  = 20 * time.Millisecond
)

// follow goes through a failover that Sentinels speak of: from its begin, nothing
// is sent to the primary any more, since it goes on to take writes for seconds
// that are lost. It ends with the next primary, or with the same.
func (s *Store) follow(n news) {
	l := s.link
	if n.from != l.addr || n.kind == newsEnd {
		if s.gate.link.Load() == nil {
			s.resume(l) // who told of it took l for the one before
		}
		return
	}
	s.log.Warn().Str("event", "store_failover").Str("server", l.addr).Msg("a failover has begun; waiting for the next primary")
	s.hold(l, errFailover)
	next := n.to
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for end := time.After(followAtMost); ; {
		select {
		case <-s.closing.Done():
			return
		case <-end:
			s.resume(l)
			return
		case n := <-s.news:
			if n.from == l.addr && n.kind == newsEnd {
				s.resume(l)
				return
			}
			if n.from == l.addr && n.to != "" {
				next = n.to
			}
		case <-tick.C:
			if next != "" && s.isPrimary(next) {
				s.leave(l, errFailover)
				s.fled, s.fledAt = l.addr, time.Now()
				s.connectTo(next)
				return
			}
		}
	}
}

func (s *Store) isPrimary(addr string) bool {
	ctx, cancel := s.bound(s.closing)
	defer cancel()
	who, err := s.whoIs(ctx, addr)
	return err == nil && who.primary
}

// connectTo is connect where the address is known before Sentinels tell it.
func (s *Store) connectTo(addr string) {
	ctx, cancel := s.bound(s.closing)
	defer cancel()
	who, err := s.whoIs(ctx, addr)
	if err != nil {
		return
	}
	l, err := s.linkPrimary(addr, who)
	if err == nil {
		err = s.take(l)
	}
	if err != nil {
		s.gate.shut(err)
	}
}

// resume goes on with the primary that there was: the failover did not happen, or
// nobody says that it did.
func (s *Store) resume(l *link) {
	again := &link{client: l.client, addr: l.addr, who: l.who, left: make(chan struct{}), turns: l.turns}
	again.sawReplicas(int(l.replicas.Load()))
	s.link = again
	s.gate.open(again)
	s.suspect()
}
