package rstore

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

var _ idem.Registry = (*Store)(nil)

// registryName is the registry's in Redis; no record has such a name.
func (s *Store) registryName() string { return s.prefix + "registry" }

// Entries implements idem.Registry.
func (s *Store) Entries(ctx context.Context) ([]idem.Entry, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	l, err := s.conn(ctx)
	if err != nil {
		return nil, err
	}
	name := s.registryName()
	// The clock of the server that has the entries: in a Cluster, there are others.
	replies := l.client.DoMulti(ctx, l.client.B().Time().Build().SetSlot(name), l.client.B().Hgetall().Key(name).Build())
	now, err := serverTime(replies[0])
	if err != nil {
		return nil, s.mapClosed(err)
	}
	fields, err := replies[1].AsStrMap()
	if err != nil {
		return nil, s.mapClosed(unavailable(err))
	}
	entries := make([]idem.Entry, 0, len(fields))
	for name, value := range fields {
		if len(value) < 6 {
			return nil, unavailable(errReply)
		}
		var ends [8]byte
		copy(ends[2:], value)
		until := int64(binary.BigEndian.Uint64(ends[:])) //nolint:gosec // 48 bits
		entries = append(entries, idem.Entry{Name: name, Text: value[6:], Ended: until != 0 && until <= now})
	}
	return entries, nil
}

// Enter implements idem.Registry.
func (s *Store) Enter(ctx context.Context, name, text string, keep time.Duration) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	l, err := s.conn(ctx)
	if err != nil {
		return err
	}
	kept := ms(keep)
	if keep > 0 && kept == "0" {
		kept = "1" // 0 stands for ever
	}
	if err := s.scripts.registry.run(ctx, l.client, []string{s.registryName()}, []string{name, text, kept}).Error(); err != nil {
		return s.mapClosed(unavailable(err))
	}
	return nil
}

// Strike implements idem.Registry.
func (s *Store) Strike(ctx context.Context, name string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	l, err := s.conn(ctx)
	if err != nil {
		return err
	}
	if err := l.client.Do(ctx, l.client.B().Hdel().Key(s.registryName()).Field(name).Build()).Error(); err != nil {
		return s.mapClosed(unavailable(err))
	}
	return nil
}

// serverTime is the clock of a server that was asked TIME, in ms.
func serverTime(r rueidis.RedisResult) (int64, error) {
	parts, err := r.AsStrSlice()
	if err != nil || len(parts) != 2 {
		return 0, unavailable(inVain(err))
	}
	seconds, err1 := strconv.ParseInt(parts[0], 10, 64)
	micros, err2 := strconv.ParseInt(parts[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, unavailable(err)
	}
	return seconds*1000 + micros/1000, nil
}
