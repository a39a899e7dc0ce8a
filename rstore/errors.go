package rstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

var (
	// errReply is an answer that no script of ours gives.
	errReply = errors.New("unexpected reply")
	// errLate: the claim met the server after its deadline, or a server whose
	// clock was not known.
	errLate = errors.New("the claim arrived too late")
	// errNotSent: nothing left this process.
	errNotSent = errors.New("not sent")
)

// refusals are the codes of errors by which Redis says that it did not do what
// was asked. Of other errors, that is not known: ERR may come from a script that
// stopped half way, or from something that stands between us and Redis.
var refusals = map[string]bool{ //nolint:gochecknoglobals // constant
	"OOM": true, "READONLY": true, "NOPERM": true, "NOAUTH": true, "WRONGPASS": true, "LOADING": true, "BUSY": true,
	"MASTERDOWN": true, "CLUSTERDOWN": true, "NOREPLICAS": true, "MISCONF": true, "WRONGTYPE": true, "NOSCRIPT": true,
	"TRYAGAIN": true, "MOVED": true, "ASK": true, "CROSSSLOT": true, "DENIED": true,
}

// refused says whether it is certain that what was asked was not done.
func refused(err error) bool {
	if redisErr, ok := rueidis.IsRedisErr(err); ok {
		code, _, _ := strings.Cut(redisErr.Error(), " ")
		return refusals[code]
	}
	var op *net.OpError
	return errors.Is(err, errNotSent) || errors.Is(err, errLate) || errors.Is(err, rueidis.ErrNoSlot) ||
		errors.As(err, &op) && op.Op == "dial"
}

// unavailable: whatever Redis or the network reports, what was asked may have
// happened, unless it is one of the errors that say otherwise.
func unavailable(err error) error {
	if errors.Is(err, rueidis.ErrClosing) {
		err = errors.New("not connected")
	}
	if refused(err) {
		return fmt.Errorf("%w: %w: redis: %w", idem.ErrUnavailable, idem.ErrRefused, err)
	}
	return fmt.Errorf("%w: redis: %w", idem.ErrUnavailable, err)
}

// inVain is the error of an answer that came in vain: err, if there was none or if it is an error, and
// otherwise that it is of another form than was asked for.
func inVain(err error) error {
	switch {
	case err == nil:
		return errReply
	case rueidis.IsParseErr(err):
		return fmt.Errorf("%w: %w", errReply, err)
	}
	return err
}

// notSent is the result of a call whose time was over before it began.
func notSent(ctx context.Context) rueidis.RedisResult {
	return rueidis.NewErrorResult(fmt.Errorf("%w: %w", errNotSent, ctx.Err()))
}

func isNoScript(err error) bool { return answered(err, "NOSCRIPT") }

func isTryAgain(err error) bool { return answered(err, "TRYAGAIN") }

// answered says whether Redis itself answered with an error of that code.
func answered(err error, code string) bool {
	redisErr, ok := rueidis.IsRedisErr(err)
	return ok && strings.HasPrefix(redisErr.Error(), code)
}
