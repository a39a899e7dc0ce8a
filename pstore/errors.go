package pstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/redact"
)

var (
	// errReply is an answer that no function of ours gives.
	errReply = errors.New("unexpected reply")
	// errLate: the claim met the server after its deadline, or a server whose
	// clock was not known.
	errLate = errors.New("the claim arrived too late")
	// errNotSent: nothing left this process.
	errNotSent = errors.New("not sent")
	// errNotYet is the reason before the first attempt to connect has ended.
	errNotYet = errors.New("not connected yet")
	// errLocked: somebody has locked the record's row.
	errLocked = errors.New("the record's row is locked by somebody")
	// errReadOnly: what answered takes no writes from this role.
	errReadOnly = errors.New("no server that the URL names lets this role write: name the primary, or, if it is named, see to " +
		"default_transaction_read_only (ALTER ROLE ... SET default_transaction_read_only = off)")
	// errUnreplicated: the server stopped waiting for its synchronous standbys. What
	// was asked is done, and a failover may undo it.
	errUnreplicated = errors.New("committed, but the synchronous standbys do not say that they have it")
)

// refusals are the classes of SQLSTATE, and some codes, by which the server says
// that the statement failed, and so that its transaction was rolled back. Of other
// errors that is not known: they may come when it was committed and not confirmed,
// or from something that stands between us and the server.
var refusals = []string{ //nolint:gochecknoglobals // constant
	"0A", "22", "23", "25", "28", "34", "3D", "3F", "40", "42", "44", "53", "54", "55", "57014", "P0",
}

// refused says whether it is certain that what was asked was not done.
func refused(err error) bool {
	var connecting *pgconn.ConnectError
	if errors.Is(err, errNotSent) || errors.Is(err, errLate) || errors.Is(err, errLocked) || errors.As(err, &connecting) ||
		pgconn.SafeToRetry(err) {
		return true
	}
	var said *pgconn.PgError
	if !errors.As(err, &said) || cmp.Or(said.SeverityUnlocalized, said.Severity) != "ERROR" {
		return false
	}
	for _, class := range refusals {
		if strings.HasPrefix(said.Code, class) && said.Code != "40003" { // which is: completion unknown
			return true
		}
	}
	return false
}

// passing says whether what failed may be sent again at once, since it was not done
// and need not fail again: two transactions met, or the connection had ended before, or
// a host was left out that is not any more.
func passing(err error) bool {
	return met(err) || errors.Is(err, errSilent) || pgconn.SafeToRetry(err) && !errors.Is(err, context.DeadlineExceeded)
}

// met says whether a statement failed since it met another transaction.
func met(err error) bool {
	code := codeOf(err)
	return code == "40001" || code == "40P01"
}

// codeOf is what the server itself answered, or nothing.
func codeOf(err error) string {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Code
	}
	return ""
}

// connecting says what failed while a connection was made.
func connecting(err error) error {
	if errors.Is(err, pgconn.ErrReadOnlyConnection) {
		err = fmt.Errorf("%w: %w", errReadOnly, err)
	}
	return fmt.Errorf("connecting: %w", err)
}

// unavailable: whatever the server or the network reports, what was asked may have
// happened, unless it is one of the errors that say otherwise.
func unavailable(err error) error {
	if refused(err) {
		return fmt.Errorf("%w: %w: postgres: %w", idem.ErrUnavailable, idem.ErrRefused, err)
	}
	return fmt.Errorf("%w: postgres: %w", idem.ErrUnavailable, err)
}

// unsaid is err without the password, which a server may repeat.
func (s *Store) unsaid(err error) error {
	return redact.Secrets(err, s.option.ConnConfig.Password)
}
