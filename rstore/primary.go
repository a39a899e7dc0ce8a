package rstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

var (
	errReplica = errors.New("this is a replica: connect to its primary")
	errChanged = errors.New("another server answers at the address, or the server was started anew")
	// errFailover: the primary is about to be replaced.
	errFailover = errors.New("a failover is under way")
)

// identity is what a server says of itself.
type identity struct {
	version string // 7.0.15
	mode    string // standalone, cluster, sentinel
	primary bool
	// runID is another after every start, replID after every promotion; empty if
	// the user may not ask.
	runID, replID string
	// replicas are the addresses of those that are in step.
	replicas []string
}

// greet asks a server who it is, over a new connection and before anything else
// is sent over it, so that nothing is ever sent to a server that is not the one
// that is meant.
func greet(ctx context.Context, conn net.Conn, user, password string) (who identity, err error) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
		defer func() { _ = conn.SetDeadline(time.Time{}) }()
	}
	hello := []string{"HELLO", "2"}
	if user == "" && password != "" {
		user = "default"
	}
	if user != "" {
		hello = append(hello, "AUTH", user, password)
	}
	replies, err := newWire(conn).ask(hello, []string{"INFO", "server", "replication"})
	if err != nil {
		return who, err
	}
	fields := pairs(replies[0])
	who.version, who.mode, who.primary = fields["version"], fields["mode"], fields["role"] == "master"
	if info, ok := replies[1].(string); ok {
		who.runID, who.replID = infoField(info, "run_id"), infoField(info, "master_replid")
		who.replicas = replicasOf(info)
	}
	return who, nil
}

// same says whether a server is the process that it was, and has been a primary
// all the time: what it was as a replica, it has from another. One that does not
// say who it is counts as the same: nothing is asserted on it.
func (who *identity) same(before *identity) bool {
	return who.runID == "" || before.runID == "" || who.runID == before.runID && who.replID == before.replID
}

// replicasOf reads the lines of INFO like
// slave0:ip=127.0.0.1,port=7001,state=online,offset=14,lag=0.
func replicasOf(info string) (addrs []string) {
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if !strings.HasPrefix(name, "slave") || !strings.Contains(value, "state=online") {
			continue
		}
		var host, port string
		for part := range strings.SplitSeq(value, ",") {
			field, text, _ := strings.Cut(part, "=")
			switch field {
			case "ip":
				host = text
			case "port":
				port = text
			}
		}
		addrs = append(addrs, net.JoinHostPort(host, port))
	}
	return addrs
}

// dial opens a connection as the URL says, and greets.
func (s *Store) dial(ctx context.Context, addr string) (net.Conn, identity, error) {
	ctx, cancel := s.bound(ctx) // the library's own, for a new client, does not end
	defer cancel()
	conn, err := s.dialPlain(ctx, addr, s.option.TLSConfig)
	if err != nil {
		return nil, identity{}, err
	}
	who, err := greet(ctx, conn, s.option.Username, s.option.Password)
	if err != nil {
		_ = conn.Close()
		return nil, identity{}, fmt.Errorf("%w: %s: %w", errNotSent, addr, s.unsaid(err))
	}
	return conn, who, nil
}

func (s *Store) dialPlain(ctx context.Context, addr string, secure *tls.Config) (conn net.Conn, err error) {
	switch {
	case s.option.DialCtxFn != nil: // unix://, or Config.Dial
		conn, err = s.option.DialCtxFn(ctx, addr, &s.option.Dialer, secure)
	case secure != nil:
		conn, err = (&tls.Dialer{NetDialer: &s.option.Dialer, Config: secure}).DialContext(ctx, "tcp", addr)
	default:
		conn, err = s.option.Dialer.DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return conn, nil
}

// whoIs asks the server at an address.
func (s *Store) whoIs(ctx context.Context, addr string) (identity, error) {
	conn, who, err := s.dial(ctx, addr)
	if err == nil {
		_ = conn.Close()
	}
	return who, err
}

// link is a client for one primary, or for a Cluster.
type link struct {
	client rueidis.Client
	addr   string
	who    identity
	// left is closed once the primary is known not to be one any more: what it
	// answers from then on may be lost.
	left chan struct{}
	once sync.Once // closes it
	// owners are the servers of a Cluster's slots, as lead saw them last.
	owners atomic.Pointer[map[slotRange]string]
	// turns are those of all links with this client.
	turns *turns
	// replicas are as many as it was ever seen to have.
	replicas atomic.Int64
}

// slot is what decides in a Cluster which server has a name, and 0 elsewhere.
func (l *link) slot(name string) uint16 {
	if l.client.Mode() != rueidis.ClientModeCluster {
		return 0
	}
	return slotOf(name)
}

// ownerOf is the server that has a slot of a Cluster, as lead saw it last; empty if it has
// not looked yet.
func (l *link) ownerOf(slot uint16) string {
	owners := l.owners.Load()
	if owners == nil {
		return ""
	}
	for slots, addr := range *owners {
		if slots.first <= slot && slot <= slots.last {
			return addr
		}
	}
	return ""
}

// hasLeft says whether the primary is not one any more.
func (l *link) hasLeft() bool {
	select {
	case <-l.left:
		return true
	default:
		return false
	}
}

// leave says that it is not.
func (l *link) leave() { l.once.Do(func() { close(l.left) }) }

// find connects to the primary, or to the Cluster, whichever answers.
func (s *Store) find(ctx context.Context) (*link, error) {
	addrs, err := s.addresses(ctx)
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, addr := range addrs {
		who, err := s.whoIs(ctx, addr)
		switch {
		case err != nil:
		case who.mode == "cluster":
			l, err := s.linkCluster(addr, who)
			if err == nil {
				s.lookAtCluster(ctx, l) // if that fails, it is looked at again
			}
			return l, err
		case !who.primary:
			err = fmt.Errorf("%s: %w", addr, errReplica)
		default:
			return s.linkPrimary(addr, who)
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

// fledFor is how long Sentinels may go on to name a primary after it was replaced.
const fledFor = 10 * time.Second

// addresses are where the primary may be.
func (s *Store) addresses(ctx context.Context) ([]string, error) {
	if s.sentinels == nil {
		return s.option.InitAddress, nil
	}
	addr, err := s.sentinels.primary(ctx)
	if err == nil && addr == s.fled && time.Since(s.fledAt) < fledFor {
		err = fmt.Errorf("the Sentinels still name %s, which is replaced", addr)
	}
	return []string{addr}, err
}

// linkPrimary makes the client for one primary. Each of its connections, also
// those that replace a broken one, leads to that same process or fails.
func (s *Store) linkPrimary(addr string, who identity) (*link, error) {
	l := &link{addr: addr, who: who, left: make(chan struct{}), turns: newTurns(maxWaiting)}
	option := s.option
	option.InitAddress, option.ForceSingleClient, option.Sentinel = []string{addr}, true, rueidis.SentinelOption{}
	return s.linkWith(l, option, func(ctx context.Context, addr string) (net.Conn, error) {
		conn, now, err := s.dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		if err = l.same(now); err != nil {
			_ = conn.Close()
			s.suspect()
			return nil, fmt.Errorf("%w: %s: %w", errNotSent, addr, err)
		}
		return conn, nil
	})
}

// linkCluster makes the client for a Cluster, whose nodes change their roles
// among themselves.
func (s *Store) linkCluster(addr string, who identity) (*link, error) {
	l := &link{addr: addr, who: who, left: make(chan struct{}), turns: newTurns(maxWaiting)}
	return s.linkWith(l, s.option, func(ctx context.Context, addr string) (net.Conn, error) {
		// Whatever it is: the library would not quote one that refuses, and hangs up.
		conn, _, err := s.dial(ctx, addr)
		return conn, err
	})
}

func (s *Store) linkWith(l *link, option rueidis.ClientOption, dial dialer) (*link, error) {
	dial = dial.counting().forErrands()
	option.DialCtxFn = func(ctx context.Context, addr string, _ *net.Dialer, _ *tls.Config) (net.Conn, error) {
		return dial(ctx, addr)
	}
	client, err := rueidis.NewClient(option)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.addr, s.unsaid(err))
	}
	l.client = client
	l.sawReplicas(len(l.who.replicas))
	return l, nil
}

// same says why a server is not the one that the link is for.
func (l *link) same(now identity) error {
	switch {
	case !now.primary:
		return errReplica
	case now.runID != l.who.runID:
		return errChanged
	}
	return nil
}

// trusted doubts what a server said that may have been no primary any more when
// it did.
func (l *link) trusted(err error) error {
	if l.hasLeft() && !errors.Is(err, idem.ErrUnavailable) {
		return lost(errReplica)
	}
	return err
}

// sawReplicas remembers the most replicas that the primary ever had.
func (l *link) sawReplicas(n int) {
	for most := l.replicas.Load(); int64(n) > most; most = l.replicas.Load() {
		if l.replicas.CompareAndSwap(most, int64(n)) {
			return
		}
	}
}
