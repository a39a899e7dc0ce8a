package rstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

// probeLife is how long the record of a probe stands.
const probeLife = time.Millisecond

// Ping implements idem.Store: it acquires a key that nobody else can have, on
// every primary, with as many replicas as others' keys must have.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	l, err := s.conn(ctx)
	if err != nil {
		return err
	}
	if l.client.Mode() != rueidis.ClientModeCluster {
		return s.mapClosed(s.probe(ctx, l, l.addr, ""))
	}
	shards, err := shardsOf(ctx, l)
	if err != nil {
		return s.mapClosed(unavailable(fmt.Errorf("asking for the shards: %w", err)))
	}
	answers := make(chan error, len(shards))
	for addr, slot := range shards {
		go func() { answers <- s.probe(ctx, l, addr, tagFor(slot)) }()
	}
	var failures []error
	for range shards {
		failures = append(failures, <-answers)
	}
	return s.mapClosed(errors.Join(failures...))
}

// probe acquires a key. The tag, if there is one, says to which shard it goes.
func (s *Store) probe(ctx context.Context, l *link, addr, tag string) error {
	owner := idem.NewOwner()
	key, err := idem.ParseKey("probe")
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	name := s.probeName(tag) + hex.EncodeToString(owner[:])
	a, err := s.runAcquire(ctx, l, []string{name}, &idem.Claim{Key: key, Owner: owner, TTL: probeLife, Retention: probeLife}, 0)
	if err = l.trusted(err); err == nil && a.outcome.Kind != idem.VerdictAcquired {
		err = unavailable(errReply)
	}
	if err != nil {
		return fmt.Errorf("%s: no key can be acquired: %w", addr, err)
	}
	return nil
}

// probeName starts the name of a probe's record, which is no record's: see List.
func (s *Store) probeName(tag string) string { return s.prefix + "probe:{" + tag + "}" }

// tagFor is one that leads names with it in braces to the slot.
func tagFor(slot slotRange) string {
	for i := 0; ; i++ {
		tag := strconv.Itoa(i)
		if at := slotOf(tag); slot.first <= at && at <= slot.last {
			return tag
		}
	}
}

// slotRange are slots that one shard has.
type slotRange struct{ first, last uint16 }

// shardsOf are the primaries of a Cluster, each with slots of its own. A slot
// that none has is an error.
func shardsOf(ctx context.Context, l *link) (map[string]slotRange, error) {
	owners, err := ownersOf(ctx, l)
	if err != nil {
		return nil, err
	}
	shards, covered := map[string]slotRange{}, 0
	for r, addr := range owners {
		covered += int(r.last-r.first) + 1
		if have, ok := shards[addr]; !ok || r.last-r.first > have.last-have.first {
			shards[addr] = r
		}
	}
	if covered != slots {
		return nil, fmt.Errorf("%d of %d slots belong to no server", slots-covered, slots)
	}
	return shards, nil
}

// ownersOf are the addresses of the primaries that have a Cluster's slots, as one
// of its servers says: whichever does, since some may be down.
func ownersOf(ctx context.Context, l *link) (map[slotRange]string, error) {
	owners, err := ownersBy(ctx, l.client) // one that the client picks
	if err == nil {
		return owners, nil
	}
	nodes := l.client.Nodes()
	type answer struct {
		owners map[slotRange]string
		err    error
	}
	answers := make(chan answer, len(nodes))
	for addr, node := range nodes {
		go func() {
			owners, err := ownersBy(ctx, node)
			if err != nil {
				err = fmt.Errorf("%s: %w", addr, err)
			}
			answers <- answer{owners, err}
		}()
	}
	failures := []error{err}
	for range nodes {
		a := <-answers
		if a.err == nil {
			return a.owners, nil
		}
		failures = append(failures, a.err)
	}
	return nil, errors.Join(failures...)
}

func ownersBy(ctx context.Context, c rueidis.Client) (map[slotRange]string, error) {
	ranges, err := c.Do(ctx, c.B().ClusterSlots().Build()).ToArray()
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says what for
	}
	owners := make(map[slotRange]string, len(ranges))
	for _, r := range ranges {
		parts, err := r.ToArray()
		if err != nil || len(parts) < 3 {
			return nil, inVain(err)
		}
		first, err1 := parts[0].AsInt64()
		last, err2 := parts[1].AsInt64()
		node, err3 := parts[2].ToArray()
		if err := errors.Join(err1, err2, err3); err != nil || len(node) < 2 || first < 0 || last < first || last >= slots {
			return nil, inVain(err)
		}
		host, err1 := node[0].ToString()
		port, err2 := node[1].AsInt64()
		if err := errors.Join(err1, err2); err != nil {
			return nil, inVain(err)
		}
		//nolint:gosec // checked above
		owners[slotRange{uint16(first), uint16(last)}] = net.JoinHostPort(host, strconv.FormatInt(port, 10))
	}
	return owners, nil
}
