package pstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// recordColumns are read by readRecord, after the time and the response.
const recordColumns = `r.owner, r.fingerprint, r.binding, r.recipe, r.attempt, r.until, r.created, r.updated, r.expires,
	r.retention, r.remember, r.state, r.holds, r.hinted, r.scope, r.key, r.id`

const recordWidth = 19

// readRecord reads a row; ok is false if it has none. What is null is nil, and comes
// to 0.
func readRecord(row [][]byte) (r idem.Record, now int64, ok bool, err error) {
	if len(row) != recordWidth {
		return r, 0, false, unavailable(errReply)
	}
	if now, err = int8of(row[0]); err != nil || row[recordWidth-1] == nil {
		return r, now, false, err
	}
	for i, to := range []*[16]byte{(*[16]byte)(&r.Owner), (*[16]byte)(&r.Fingerprint), (*[16]byte)(&r.Binding)} {
		if len(row[2+i]) != len(to) {
			return r, now, false, unavailable(errReply)
		}
		copy(to[:], row[2+i])
	}
	var n [8]int64
	for i := range n {
		if b := row[5+i]; b != nil {
			if n[i], err = int8of(b); err != nil {
				return r, now, false, err
			}
		}
	}
	state, holds, hinted := row[13], row[14], row[15]
	if len(state) != 2 || state[0] != 0 || state[1] > byte(idem.Unknown) || len(holds) != 1 || len(hinted) != 1 {
		return r, now, false, fmt.Errorf("reading a record: %w", idem.ErrCorrupt)
	}
	key, err := idem.ParseKey(string(row[17]))
	if err != nil {
		return r, now, false, fmt.Errorf("reading a record: %w: %w", idem.ErrCorrupt, err)
	}
	r.Key, r.State, r.HoldOnLapse, r.Hinted = key.InScope(string(row[16])), idem.State(state[1]), holds[0] != 0, hinted[0] != 0
	r.Recipe, r.Attempt = idem.Recipe(n[0]), uint32(n[1]) //nolint:gosec // as in a record
	r.Created, r.Updated, r.Expires, r.Retention, r.Remember = n[3], n[4], n[5], n[6], n[7]
	switch r.State {
	case idem.InProgress:
		r.LeaseUntil = n[2]
	case idem.Completed:
		r.ReplayUntil = n[2]
	case idem.Absent, idem.Unknown, idem.Lapsed, idem.Expired:
	}
	return r, now, true, nil
}

// Get implements idem.Inspector.
func (s *Store) Get(ctx context.Context, key idem.Key) (idem.Record, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	row, err := s.askOne(ctx, s.sql.get, newArgs(1).uuid(key.ID()), recordWidth)
	if err != nil {
		return idem.Record{}, err
	}
	r, now, ok, err := readRecord(row)
	switch {
	case err != nil:
		return idem.Record{}, err
	case !ok || r.Ended(now):
		return idem.Record{}, idem.ErrNotFound
	}
	if r, err = r.Inspect(now); err != nil || r.State != idem.Completed {
		return r, err
	}
	if row[1] == nil {
		r.State = idem.Expired // as acquire has it
		return r, nil
	}
	if r.Response, err = idem.DecodeResponse(row[1]); err == nil {
		r.Response, err = idem.OpenResponse(s.codec, key, r.Response)
	}
	if err != nil {
		return idem.Record{}, fmt.Errorf("reading a record: %w", err)
	}
	return r, nil
}

// listPage is how many records are asked for at a time.
const listPage = 500

// List implements idem.Inspector.
func (s *Store) List(ctx context.Context, visit func(*idem.Record) bool) error {
	var unread idem.Unread
	for last := (id{}); ; {
		rows, err := s.listAfter(ctx, last)
		if err != nil {
			return err
		}
		for _, row := range rows {
			r, now, ok, err := readRecord(row)
			switch {
			case err != nil && unread.Add(fmt.Sprintf("the record %x", row[recordWidth-1]), err):
				copy(last[:], row[recordWidth-1])
				continue
			case err != nil || !ok:
				return unavailable(errors.Join(errReply, err))
			}
			copy(last[:], row[recordWidth-1])
			if r.Ended(now) {
				continue
			}
			if r, err = r.Inspect(now); err != nil {
				continue // it stands for nothing
			}
			if !visit(&r) {
				return nil
			}
		}
		if len(rows) < listPage {
			return unread.Err()
		}
	}
}

func (s *Store) listAfter(ctx context.Context, last id) ([][][]byte, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.ask(ctx, s.sql.list, newArgs(2).uuid(last).int8(listPage))
}

// Find implements idem.Inspector: digests that begin alike are neighbours in the index.
func (s *Store) Find(ctx context.Context, digest []byte) (key idem.Key, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var first, last id
	for i := copy(first[:], digest); i < len(last); i++ {
		last[i] = 0xff
	}
	copy(last[:], digest)
	rows, err := s.ask(ctx, s.sql.find, newArgs(3).uuid(first).uuid(last).int8(listPage))
	if err != nil {
		return key, err
	}
	var unread idem.Unread
	for _, row := range rows {
		r, now, ok, err := readRecord(row)
		if err != nil && unread.Add(fmt.Sprintf("the record %x", row[recordWidth-1]), err) {
			continue
		}
		if err != nil {
			return key, err
		}
		if !ok || r.Ended(now) {
			continue
		}
		if _, err := r.Inspect(now); err == nil {
			return r.Key, nil
		}
	}
	return key, unread.Or(idem.ErrNotFound)
}

// Resolve implements idem.Inspector: one round trip.
func (s *Store) Resolve(ctx context.Context, key idem.Key, owner idem.Owner, r *idem.Response) error {
	err := s.settle(ctx, idem.ResolveEvent(r), idem.Lease{Key: key, Owner: owner}, r)
	s.cache.Changed(key.ID())
	return err
}

// Take implements idem.Inspector: one round trip.
func (s *Store) Take(ctx context.Context, key idem.Key, owner idem.Owner) error {
	return s.settle(ctx, idem.EventTake, idem.Lease{Key: key, Owner: owner}, nil)
}

// OnChange implements idem.Notifier.
func (s *Store) OnChange(f func(id [16]byte)) { s.cache.OnChange(f) }

// Purge implements idem.Inspector. Other processes hear of it from a trigger.
func (s *Store) Purge(ctx context.Context, key idem.Key) error {
	k := key.ID()
	// It may be gone also when no answer came; and what is sent from now on follows it.
	defer s.cache.Forget(k)
	ctx, cancel := s.bound(ctx)
	defer cancel()
	row, err := s.askOne(ctx, s.sql.purge, newArgs(2).uuid(k).text(s.patience), 1)
	switch {
	case err != nil:
		return err
	case len(row[0]) != 1:
		return unavailable(errReply)
	case row[0][0] == 0:
		return idem.ErrNotFound
	}
	return nil
}

// Entries implements idem.Registry.
func (s *Store) Entries(ctx context.Context) ([]idem.Entry, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.ask(ctx, s.sql.entries, newArgs(0))
	if err != nil {
		return nil, err
	}
	entries := make([]idem.Entry, 0, len(rows))
	for _, row := range rows {
		if len(row) != 3 || len(row[2]) != 1 {
			return nil, unavailable(errReply)
		}
		entries = append(entries, idem.Entry{Name: string(row[0]), Text: string(row[1]), Ended: row[2][0] != 0})
	}
	return entries, nil
}

// Enter implements idem.Registry.
func (s *Store) Enter(ctx context.Context, name, text string, keep time.Duration) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	kept := keep.Milliseconds()
	if keep > 0 && kept == 0 {
		kept = 1 // 0 stands for ever
	}
	row, err := s.askOne(ctx, s.sql.enter, newArgs(3).bytes([]byte(name)).bytes([]byte(text)).int8(kept), 1)
	if err != nil {
		return err
	}
	return settled(row[0])
}

// Strike implements idem.Registry.
func (s *Store) Strike(ctx context.Context, name string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	_, err := s.ask(ctx, s.sql.strike, newArgs(1).bytes([]byte(name)))
	return err
}
