package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/idemproxy/idemproxy/idem"
)

// What a change can meet.
var (
	errNotInProgress = errors.New("only a key that is in progress can be released")
	errChanged       = errors.New("the key has changed since it was looked at: nothing was done; look again")
	errNothingThere  = fmt.Errorf("%w of this key in this scope: nothing was done", idem.ErrNotFound)
)

// another says in which state a key is that cannot be resolved.
func (k *Keys) another(ctx context.Context, key idem.Key, why error) error {
	record, err := k.Store.Get(ctx, key)
	switch {
	case errors.Is(err, idem.ErrNotFound):
		return fmt.Errorf("%w: there is no record of this key in this scope, so the next request with it is executed", why)
	case err != nil:
		return why // which is true, whatever the state is
	case record.State == idem.Unknown:
		return errChanged // it is held only now
	}
	return inState(why, record.State)
}

// inState says so, and what can be done to a key in this state.
func inState(why error, s idem.State) error {
	is := map[idem.State]string{
		idem.InProgress: "in progress: its request is under way. Wait until it has ended, or release the key",
		idem.Completed:  "completed: retries get its response. To forget the key, purge it",
		idem.Expired:    "expired: it was executed, and retries get 410. To forget the key, purge it",
		idem.Unknown:    "unknown: it may have been executed. Find out whether it was, and resolve the key",
	}
	return fmt.Errorf("%w. This key is %s", why, cmp.Or(is[s], s.String()))
}

// statusOf is what a change, or a look, that failed is answered with.
func statusOf(err error) int {
	switch {
	case errors.Is(err, idem.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, idem.ErrNotUnknown), errors.Is(err, errNotInProgress), errors.Is(err, errChanged):
		return http.StatusConflict
	case errors.Is(err, errAsked):
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}
