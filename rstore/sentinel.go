package rstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// sentinels are those who know which server is the primary.
type sentinels struct {
	set  string // the name of what they watch
	dial func(ctx context.Context, addr string, secure *tls.Config) (net.Conn, error)

	mu    sync.Mutex
	addrs []string // the one that answered last is first; guarded by mu
}

// newSentinels are nil if the URL names none.
func newSentinels(s *Store) *sentinels {
	if s.option.Sentinel.MasterSet == "" {
		return nil
	}
	return &sentinels{set: s.option.Sentinel.MasterSet, addrs: slices.Clone(s.option.InitAddress), dial: s.dialPlain}
}

// primary asks one Sentinel after the other for the primary's address. One that
// does not answer has its share of the time only.
func (s *sentinels) primary(ctx context.Context) (string, error) {
	s.mu.Lock()
	addrs := slices.Clone(s.addrs)
	s.mu.Unlock()
	var failures []error
	for i, sentinel := range addrs {
		addr, others, err := s.askOne(ctx, sentinel, len(addrs)-i)
		if err != nil {
			failures = append(failures, fmt.Errorf("sentinel %s: %w", sentinel, err))
			continue
		}
		s.learn(sentinel, others)
		return addr, nil
	}
	return "", errors.Join(failures...)
}

func (s *sentinels) askOne(ctx context.Context, sentinel string, left int) (addr string, others []string, err error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	conn, err := s.dial(ctx, sentinel, nil)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	replies, err := newWire(conn).ask(
		[]string{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.set}, []string{"SENTINEL", "SENTINELS", s.set})
	if err != nil {
		return "", nil, err
	}
	hostPort, _ := replies[0].([]any)
	if len(hostPort) != 2 {
		return "", nil, fmt.Errorf("it knows no primary of %q: %v", s.set, replies[0])
	}
	host, ok1 := hostPort[0].(string)
	port, ok2 := hostPort[1].(string)
	if !ok1 || !ok2 {
		return "", nil, errProtocol
	}
	list, _ := replies[1].([]any)
	for _, one := range list {
		if fields := pairs(one); fields["ip"] != "" {
			others = append(others, net.JoinHostPort(fields["ip"], fields["port"]))
		}
	}
	return net.JoinHostPort(host, port), others, nil
}

// learn puts the Sentinel that answered first, and adds those it knows.
func (s *sentinels) learn(answered string, others []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrs := []string{answered}
	for _, addr := range slices.Concat(s.addrs, others) {
		if !slices.Contains(addrs, addr) && len(addrs) < maxSentinels {
			addrs = append(addrs, addr)
		}
	}
	s.addrs = addrs
}

// news is what a Sentinel says of a failover.
type news struct {
	kind newsKind
	from string // the primary's address
	to   string // that of the server that follows it, if it is known
}

type newsKind uint8

const (
	newsBegin newsKind = iota // from is to be replaced, or has been
	newsEnd                   // it is not
)

// channels are those in which Sentinels speak of failovers, as patterns. A planned
// one is heard from the Sentinel that leads it only, about 150 ms before the
// replica is promoted (select-slave, selected-slave); the others tell when the
// primary is another. What they say of roles (-role-change) is no help: the earlier
// primary goes on to call itself one.
var channels = []string{ //nolint:gochecknoglobals // constant
	"[+]failover-state-*", "[+]selected-slave", "[+]promoted-slave", "[+]switch-master",
	"[+]odown", "[-]odown", "[-]failover-abort-*",
}

// parseNews reads a message. Those of others' primaries are none.
func parseNews(set, channel, message string) (news, bool) {
	words := strings.Fields(message)
	addr := func(at int) string { return net.JoinHostPort(words[at], words[at+1]) }
	switch {
	case len(words) == 5 && channel == "+switch-master" && words[0] == set: // set ip port ip port
		return news{newsBegin, addr(1), addr(3)}, true
	case len(words) >= 8 && words[0] == "slave" && words[4] == "@" && words[5] == set: // slave name ip port @ set ip port
		return news{newsBegin, addr(6), addr(2)}, strings.HasPrefix(channel, "+")
	case len(words) < 4 || words[0] != "master" || words[1] != set: // master set ip port
		return news{}, false
	case channel == "+odown", channel == "+failover-state-select-slave":
		return news{newsBegin, addr(2), ""}, true
	case channel == "-odown", strings.HasPrefix(channel, "-failover-abort-"):
		return news{newsEnd, addr(2), ""}, true
	}
	return news{}, false
}

// listen hears what every Sentinel says, until the store is closed.
func (s *Store) listen() {
	heard := map[string]bool{}
	var all sync.WaitGroup
	defer all.Wait()
	for s.closing.Err() == nil {
		s.sentinels.mu.Lock()
		addrs := slices.Clone(s.sentinels.addrs)
		s.sentinels.mu.Unlock()
		for _, addr := range addrs {
			if !heard[addr] {
				heard[addr] = true
				all.Go(func() { s.listenTo(addr) })
			}
		}
		s.sleep(lookEvery)
	}
}

// listenTo hears one Sentinel, whenever it can be reached.
func (s *Store) listenTo(addr string) {
	for s.closing.Err() == nil {
		if err := s.hear(addr); err != nil && s.closing.Err() == nil {
			s.log.Debug().Str("event", "sentinel_unheard").Str("sentinel", addr).Err(err).Msg("the Sentinel is not heard; trying again")
		}
		s.sleep(lookEvery)
	}
}

func (s *Store) hear(addr string) error {
	ctx, cancel := s.bound(s.closing)
	defer cancel()
	conn, err := s.dialPlain(ctx, addr, nil)
	if err != nil {
		return err
	}
	defer context.AfterFunc(s.closing, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	w := newWire(conn)
	_ = conn.SetDeadline(time.Now().Add(s.timeout))
	if err := w.subscribe(channels); err != nil {
		return err
	}
	s.log.Debug().Str("event", "sentinel_heard").Str("sentinel", addr).Msg("listening to a Sentinel")
	// One that is silent is asked whether it is there, and given up if it is not.
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	done := make(chan struct{})
	defer close(done)
	s.background.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_, _ = conn.Write([]byte("PING\r\n"))
			}
		}
	})
	for {
		_ = conn.SetDeadline(time.Now().Add(lookEvery + s.timeout))
		reply, err := w.read(maxDepth)
		if err != nil {
			return err
		}
		if n, ok := s.sentinels.parse(reply); ok {
			s.tell(n)
		}
	}
}

// parse reads {"pmessage", pattern, channel, message}.
func (s *sentinels) parse(reply any) (news, bool) {
	items, _ := reply.([]any)
	if len(items) != 4 || items[0] != "pmessage" {
		return news{}, false
	}
	channel, ok1 := items[2].(string)
	message, ok2 := items[3].(string)
	if !ok1 || !ok2 {
		return news{}, false
	}
	return parseNews(s.set, channel, message)
}

// tell has the failover followed, and stops what would go to the primary at once.
func (s *Store) tell(n news) {
	if l := s.gate.link.Load(); l != nil && n.kind == newsBegin && n.from == l.addr {
		s.hold(l, errFailover)
	}
	select {
	case s.news <- n:
	case <-s.closing.Done():
	}
}

// maxSentinels bounds those that are remembered.
const maxSentinels = 32
