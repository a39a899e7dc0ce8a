package rstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

// Get implements idem.Inspector.
func (s *Store) Get(ctx context.Context, key idem.Key) (idem.Record, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	l, err := s.conn(ctx)
	if err != nil {
		return idem.Record{}, err
	}
	name, response := s.names(key.ID())
	reply, err := s.scripts.inspect.run(ctx, l.client, []string{name, response}, nil).ToArray()
	if err != nil || len(reply) != 4 {
		return idem.Record{}, s.mapClosed(unavailable(inVain(err)))
	}
	if reply[2].IsNil() {
		return idem.Record{}, idem.ErrNotFound
	}
	r, err := inspected(reply)
	if err != nil {
		return idem.Record{}, err
	}
	if r.Response != nil {
		if r.Response, err = idem.OpenResponse(s.codec, key, r.Response); err != nil {
			return idem.Record{}, fmt.Errorf("reading a record: %w", err)
		}
	}
	return r, nil
}

// inspected reads inspect.lua's answer.
func inspected(reply []rueidis.RedisMessage) (idem.Record, error) {
	seconds, err1 := reply[0].AsInt64()
	micros, err2 := reply[1].AsInt64()
	if err := errors.Join(err1, err2); err != nil {
		return idem.Record{}, unavailable(err)
	}
	response := reply[3:]
	if reply[3].IsNil() {
		response = nil
	}
	r, err := decode(reply[2], response)
	if err != nil {
		return idem.Record{}, err
	}
	if r, err = r.Inspect(seconds*1000 + micros/1000); err == nil && r.State == idem.Completed && r.Response == nil {
		r.State = idem.Expired // as acquire.lua has it
	}
	return r, err
}

// Resolve implements idem.Inspector: one round trip.
func (s *Store) Resolve(ctx context.Context, key idem.Key, owner idem.Owner, r *idem.Response) error {
	err := s.apply(ctx, idem.ResolveEvent(r), idem.Lease{Key: key, Owner: owner}, r)
	s.cache.Changed(key.ID()) // NOLOOP: our own changes are not pushed back
	return err
}

// Take implements idem.Inspector: one round trip.
func (s *Store) Take(ctx context.Context, key idem.Key, owner idem.Owner) error {
	return s.apply(ctx, idem.EventTake, idem.Lease{Key: key, Owner: owner}, nil)
}

// OnChange implements idem.Notifier: Redis pushes the name of what this process
// has read when another connection changes it.
func (s *Store) OnChange(f func(id [16]byte)) { s.cache.OnChange(f) }

// Purge implements idem.Inspector. Other processes hear of it by push.
func (s *Store) Purge(ctx context.Context, key idem.Key) error {
	k := key.ID()
	// NOLOOP: our own deletions are not pushed back. It may have been one also
	// when no answer came; and what is sent from now on follows it.
	defer s.cache.Forget(k)
	ctx, cancel := s.bound(ctx)
	defer cancel()
	l, err := s.conn(ctx)
	if err != nil {
		return err
	}
	sent := time.Now()
	record, response := s.names(k)
	p, err := s.runPurge(ctx, l, record, response)
	if err != nil {
		return s.mapClosed(unavailable(err))
	}
	s.journal.purged(k, p, sent)
	if err := s.mapClosed(l.trusted(nil)); err != nil || p.keys > 0 {
		return err
	}
	return idem.ErrNotFound
}

// purged is purge.lua's answer.
type purged struct {
	keys, updated int64
	owner         string
}

func (s *Store) runPurge(ctx context.Context, l *link, record, response string) (purged, error) {
	answer, err := s.scripts.purge.run(ctx, l.client, []string{record, response}, nil).ToArray()
	if err != nil {
		return purged{}, err //nolint:wrapcheck // the caller says what for
	}
	if len(answer) != 3 {
		return purged{}, errReply
	}
	keys, err1 := answer[0].AsInt64()
	updated, err2 := answer[1].AsInt64()
	owner, err3 := answer[2].ToString()
	return purged{keys, updated, owner}, errors.Join(err1, err2, err3)
}
