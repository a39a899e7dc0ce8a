package rstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
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

// maxSentinels bounds those that are remembered.
const maxSentinels = 32
