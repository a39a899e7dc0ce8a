package rstore

import (
	"context"
	"crypto/sha1" //nolint:gosec // it is how Redis names scripts
	_ "embed"     // the scripts
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

//go:embed acquire.lua
var acquireLua string

//go:embed settle.lua
var settleLua string

//go:embed inspect.lua
var inspectLua string

// verdictVersion is what the scripts return for a layout that they do not know.
const verdictVersion = -1

// maxTail is what settle.lua reads of a record's names.
const maxTail = 1024

// errReply is an answer that no script of ours gives.
var errReply = errors.New("unexpected reply")

type scripts struct {
	acquire, settle, inspect *rueidis.Lua
	settleSHA                string // for bursts, which the library would load anew each time
}

func newScripts() scripts {
	sum := sha1.Sum([]byte(settleLua)) //nolint:gosec // it is how Redis names scripts
	return scripts{
		// Not the Retryable kind: these change state.
		acquire: rueidis.NewLuaScript(acquireLua), settle: rueidis.NewLuaScript(settleLua),
		inspect:   rueidis.NewLuaScriptReadOnly(inspectLua),
		settleSHA: hex.EncodeToString(sum[:]),
	}
}

// acquired is acquire.lua's answer.
type acquired struct {
	outcome idem.Outcome
	record  *idem.Record  // completed
	life    time.Duration // how long the record stays, completed
}

func (sc scripts) runAcquire(ctx context.Context, c rueidis.Client, name string, claim *idem.Claim) (acquired, error) {
	flags := "\x00"
	if claim.HoldOnLapse {
		flags = "\x01"
	}
	var space [4 + 2*idem.MaxKeyLen]byte
	tail := idem.AppendTail(space[:0], claim.Key, nil)
	if len(tail) > maxTail {
		return acquired{}, fmt.Errorf("the key's scope has %d bytes: more than a record takes", len(claim.Key.Scope()))
	}
	reply, err := sc.acquire.Exec(ctx, c, []string{name}, []string{
		rueidis.BinaryString(claim.Owner[:]), rueidis.BinaryString(claim.Fingerprint[:]),
		rueidis.BinaryString(claim.Binding[:]), ms(claim.TTL), ms(claim.TTL + claim.Retention), flags,
		rueidis.BinaryString(tail),
	}).ToArray()
	if err != nil {
		return acquired{}, unavailable(err)
	}
	return parseAcquired(reply)
}

func parseAcquired(reply []rueidis.RedisMessage) (acquired, error) {
	var n [3]int64
	for i := range min(len(reply), len(n)) {
		var err error
		if n[i], err = reply[i].AsInt64(); err != nil {
			return acquired{}, unavailable(err)
		}
	}
	if len(reply) > 0 && n[0] == verdictVersion {
		return acquired{}, idem.ErrVersion
	}
	if len(reply) < 2 || n[0] < 0 || n[0] > int64(idem.VerdictUnknown) {
		return acquired{}, unavailable(errReply)
	}
	a := acquired{outcome: idem.Outcome{Kind: idem.Verdict(n[0]), Attempt: uint32(n[1])}} //nolint:gosec // a u32 in the record
	switch a.outcome.Kind {
	case idem.VerdictInProgress:
		a.outcome.Remaining = time.Duration(n[2]) * time.Millisecond
	case idem.VerdictMismatch:
		a.outcome.Part = idem.Part(n[2]) //nolint:gosec // 1 or 2
	case idem.VerdictCompleted:
		if len(reply) < 4 {
			return acquired{}, unavailable(errReply)
		}
		return a.withRecord(reply[3], n[2])
	default:
	}
	return a, nil
}

func (a acquired) withRecord(m rueidis.RedisMessage, pttl int64) (acquired, error) {
	raw, err := m.ToString()
	if err != nil {
		return acquired{}, unavailable(err)
	}
	record, err := idem.DecodeRecord([]byte(raw))
	if err != nil {
		return acquired{}, fmt.Errorf("reading a record: %w", err)
	}
	a.record, a.outcome.Response = &record, record.Response
	a.life = time.Duration(pttl) * time.Millisecond
	return a, nil
}

// settleArgs are settle.lua's. The lease's bytes are referred to, not copied.
func settleArgs(e idem.Event, l *idem.Lease, response []byte) []string {
	life := l.Retention
	if e == idem.EventRenew {
		life += l.TTL
	}
	return []string{
		strconv.Itoa(int(e)), rueidis.BinaryString(l.Owner[:]), ms(l.TTL), ms(life),
		rueidis.BinaryString(response),
	}
}

func settled(r rueidis.RedisResult) error {
	n, err := r.AsInt64()
	switch {
	case err != nil:
		return unavailable(err)
	case n == verdictVersion:
		return idem.ErrVersion
	case n < 0 || n > int64(idem.VerdictNotUnknown):
		return unavailable(errReply)
	}
	switch idem.Verdict(n) {
	case idem.VerdictOK:
		return nil
	case idem.VerdictNotUnknown:
		return idem.ErrNotUnknown
	case idem.VerdictLost:
		return idem.ErrLeaseLost
	default:
		return unavailable(errReply)
	}
}

func isNoScript(err error) bool {
	redisErr, ok := rueidis.IsRedisErr(err)
	return ok && redisErr.IsNoScript()
}

// unavailable: whatever Redis or the network reports, nothing is known.
func unavailable(err error) error {
	if errors.Is(err, rueidis.ErrClosing) {
		err = errors.New("not connected")
	}
	return fmt.Errorf("%w: redis: %w", idem.ErrUnavailable, err)
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
