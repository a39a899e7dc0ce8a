package pstore

import (
	"context"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/idemproxy/idemproxy/idem"
)

// Renew implements idem.Store: one statement, if it meets nobody.
func (s *Store) Renew(ctx context.Context, leases []idem.Lease) []error {
	errs := make([]error, len(leases))
	ctx, cancel := s.bound(ctx)
	defer cancel()
	s.renew(ctx, leases, errs)
	return errs
}

// renew renews what it can. Where the role's isolation is not READ COMMITTED, one lease
// that ends meanwhile has the whole statement refused, and among many there is always one:
// sent again it would be refused again, until all of them have lapsed. So each half is
// tried by itself then, and in the end each lease.
func (s *Store) renew(ctx context.Context, leases []idem.Lease, errs []error) {
	if len(leases) == 0 {
		return
	}
	meetings := 0
	if len(leases) == 1 {
		meetings = maxTries
	}
	rows, err := s.askAgain(ctx, meetings, s.sql.renew, renewArgs(leases))
	if half := len(leases) / 2; half > 0 && met(err) && ctx.Err() == nil {
		s.renew(ctx, leases[:half], errs[:half])
		s.renew(ctx, leases[half:], errs[half:])
		return
	}
	if err == nil && len(rows) != len(leases) {
		err = unavailable(errReply)
	}
	for i := range errs {
		if errs[i] = err; err == nil {
			errs[i] = settled(rows[i][0])
		}
	}
}

func renewArgs(leases []idem.Lease) *args {
	var columns [5][][]byte
	for i := range leases {
		l := &leases[i]
		k := l.Key.ID()
		ttl, keep, remember := int8Bytes(l.TTL.Milliseconds()), []byte(nil), []byte(nil)
		if l.Retention > 0 {
			keep, remember = int8Bytes(l.Retention.Milliseconds()), int8Bytes(max(0, l.Remember.Milliseconds()))
		}
		for c, value := range [...][]byte{k[:], l.Owner[:], ttl, keep, remember} {
			columns[c] = append(columns[c], value)
		}
	}
	a := newArgs(len(columns))
	for c, values := range columns {
		if c < 2 {
			a.array(pgtype.UUIDArrayOID, pgtype.UUIDOID, values)
		} else {
			a.array(pgtype.Int8ArrayOID, pgtype.Int8OID, values)
		}
	}
	return a
}
