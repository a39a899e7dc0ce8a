package rstore

import (
	"context"
	"crypto/sha1" //nolint:gosec // it is how Redis names scripts
	_ "embed"     // the scripts
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

//go:embed layout1.lua
var layout1Lua string

//go:embed acquire.lua
var acquireLua string

//go:embed settle.lua
var settleLua string

//go:embed inspect.lua
var inspectLua string

//go:embed purge.lua
var purgeLua string

//go:embed registry.lua
var registryLua string

// allowOOM starts a script that may run when Redis is full (noeviction): what it
// writes ends something, or is small. The others may not: Redis would refuse them
// as a whole with another first line, and with none it refuses their writes.
const allowOOM = "#!lua flags=allow-oom\n"

const (
	// verdictVersion is what the scripts return for a layout that they do not know.
	verdictVersion = -1
	// verdictLate is acquire.lua's for a claim that is past its deadline.
	verdictLate = -2
	// verdictUnstaged is settle.lua's where a large response is not where it was put.
	verdictUnstaged = -3
)

// maxTail is what settle.lua reads of a record's names.
const maxTail = 1024

// script is called by its SHA.
type script struct {
	source, sha string
	readOnly    bool
}

func newScript(source string) *script {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // it is how Redis names scripts
	return &script{source: source, sha: hex.EncodeToString(sum[:])}
}

// command calls the script by its SHA.
func (sc *script) command(c rueidis.Client, keys, args []string) rueidis.Completed {
	n := int64(len(keys))
	if sc.readOnly {
		return c.B().EvalshaRo().Sha1(sc.sha).Numkeys(n).Key(keys...).Arg(args...).Build()
	}
	return c.B().Evalsha().Sha1(sc.sha).Numkeys(n).Key(keys...).Arg(args...).Build()
}

// whole calls it by its text, which also loads it.
func (sc *script) whole(c rueidis.Client, keys, args []string) rueidis.Completed {
	n := int64(len(keys))
	if sc.readOnly {
		return c.B().EvalRo().Script(sc.source).Numkeys(n).Key(keys...).Arg(args...).Build()
	}
	return c.B().Eval().Script(sc.source).Numkeys(n).Key(keys...).Arg(args...).Build()
}

// run calls the script, and repeats that only after answers which prove that it
// did not run.
//
// TRYAGAIN is a Cluster's while it moves a slot: it serves no command there that
// names two keys of which one is not there, which is the rule for a record and
// its response. So the record alone is named then, and what the script can do
// with it alone, it does. Otherwise no key of the slot could be taken or
// completed until all of them have moved.
func (sc *script) run(ctx context.Context, c rueidis.Client, keys, args []string) rueidis.RedisResult {
	if ctx.Err() != nil {
		return notSent(ctx)
	}
	r := c.Do(ctx, sc.command(c, keys, args))
	if isTryAgain(r.Error()) && len(keys) > 1 {
		keys = keys[:1]
		r = c.Do(ctx, sc.command(c, keys, args))
	}
	if isNoScript(r.Error()) {
		r = c.Do(ctx, sc.whole(c, keys, args))
	}
	return r
}

// burst calls the script once for each of keys and args, in one pipeline. If a
// server does not have it, it is loaded once, and what did not run is sent again
// in a second pipeline.
//
// at is the server that has all of the keys; empty if that is not known, or not one.
func (sc *script) burst(ctx context.Context, c rueidis.Client, at string, keys, args [][]string) []rueidis.RedisResult {
	if ctx.Err() != nil {
		return slices.Repeat([]rueidis.RedisResult{notSent(ctx)}, len(keys))
	}
	commands := make(rueidis.Commands, len(keys))
	for i := range keys {
		commands[i] = sc.command(c, keys[i], args[i])
	}
	results := c.DoMulti(ctx, commands...)
	var again []int
	for i := range results {
		if isNoScript(results[i].Error()) {
			again = append(again, i)
		}
	}
	if len(again) == 0 {
		return results
	}
	nodes := c.Nodes()
	if node := nodes[at]; node != nil {
		nodes = map[string]rueidis.Client{at: node}
	}
	for _, node := range nodes {
		// What it answers is seen below: NOSCRIPT once more.
		_ = node.Do(ctx, node.B().ScriptLoad().Script(sc.source).Build()).Error()
	}
	commands = make(rueidis.Commands, len(again))
	for n, i := range again {
		commands[n] = sc.command(c, keys[i], args[i])
	}
	for n, result := range c.DoMulti(ctx, commands...) {
		results[again[n]] = result
	}
	return results
}

type scripts struct {
	acquire, settle, inspect, purge, registry, assert *script
}

func newScripts() scripts {
	sc := scripts{
		acquire: newScript(layout1Lua + acquireLua), settle: newScript(allowOOM + layout1Lua + settleLua),
		inspect: newScript(inspectLua), purge: newScript(allowOOM + purgeLua), registry: newScript(allowOOM + registryLua),
		assert: newScript(allowOOM + layout1Lua + assertLua),
	}
	sc.inspect.readOnly = true
	return sc
}

// acquired is acquire.lua's answer.
type acquired struct {
	outcome idem.Outcome
	now     int64         // the server's clock, ms; 0 if it was not told
	record  *idem.Record  // completed
	life    time.Duration // how long there is a response, completed
	asked   string        // the record that was asked for
	hints   idem.Hints    // the record's, mismatch
	apart   bool          // record is yet to come: see Store.fetch
	head    rueidis.RedisMessage
}

// granted says whether the claim was.
func (a *acquired) granted() bool {
	return a.outcome.Kind == idem.VerdictAcquired || a.outcome.Kind == idem.VerdictYours
}

// runAcquire sends a claim that was made when the server's clock showed now, ms; 0
// if that is not known.
func (s *Store) runAcquire(
	ctx context.Context, l *link, keys []string, claim *idem.Claim, now int64,
) (acquired, error) {
	args, err := acquireArgs(claim, now)
	if err != nil {
		return acquired{}, err
	}
	a, lacking, err := s.callAcquire(ctx, l, keys, args)
	if err == nil && a.apart && !s.fetch(ctx, l, keys, &a) {
		a, lacking, err = s.callAcquire(ctx, l, keys, append(args, "whole"))
		if err == nil && a.apart {
			err = unavailable(errReply)
		}
	}
	if a.outcome.Kind == idem.VerdictMismatch && a.outcome.Part == idem.PartPayload {
		a.outcome.Part = a.hints.Differ(claim.Hints)
	}
	if a.asked = args[0]; err == nil && a.granted() {
		err = lacking
	}
	return a, err
}

func (s *Store) callAcquire(ctx context.Context, l *link, keys, args []string) (a acquired, lacking, err error) {
	result, lacking := s.runReplicated(ctx, l, s.scripts.acquire, keys, args)
	message, err := result.ToMessage()
	if err != nil {
		return acquired{}, nil, unavailable(err)
	}
	a, err = parseAcquired(&message)
	return a, lacking, err
}

// Where a record says how its hashes were made, which idem.Record.AppendHead
// writes, and how long it is kept.
const (
	madeAt, madeSize = 24, 36
	keepAt, keepSize = 84, 12
)

// timesOff is by how much the times that a client writes may be too soon for
// acquire.lua, ms. A lease is that much longer, so that it never is shorter.
const timesOff = 10

// forever stands for a claim without a deadline, in ms.
const forever = "9000000000000000"

// acquireArgs are acquire.lua's.
func acquireArgs(claim *idem.Claim, now int64) ([]string, error) {
	if n := len(claim.Key.Scope()) + len(claim.Key.Value()) + 4; n > maxTail {
		return nil, fmt.Errorf("the key's scope has %d bytes: more than a record takes", len(claim.Key.Scope()))
	}
	life, within := "", forever
	r := idem.Record{
		Key: claim.Key, State: idem.InProgress, HoldOnLapse: claim.HoldOnLapse, Attempt: 1, Owner: claim.Owner,
		Fingerprint: claim.Fingerprint, Binding: claim.Binding, Recipe: claim.Recipe, Hinted: claim.Hinted(),
		LeaseUntil: now + claim.TTL.Milliseconds() + timesOff, Created: now, Updated: now,
		Retention: max(0, claim.Retention.Milliseconds()), Remember: max(0, claim.Remember.Milliseconds()),
	}
	if !claim.HoldOnLapse {
		life = ms(claim.TTL + claim.Retention)
		r.Expires = now + (claim.TTL + claim.Retention).Milliseconds()
	}
	if claim.Within > 0 {
		within = ms(claim.Within)
	}
	record := r.Append(make([]byte, 0, idem.HeadSize+len(claim.Key.Scope())+len(claim.Key.Value())+4))
	return []string{rueidis.BinaryString(record), life, strconv.FormatInt(now, 10), within}, nil
}

func appendKeep(b []byte, retention, remember time.Duration) []byte {
	return appendTimes(b, max(0, retention.Milliseconds()), max(0, remember.Milliseconds()))
}

// appendTimes appends times, ms, as a record has them.
func appendTimes(b []byte, times ...int64) []byte {
	for _, t := range times {
		b = append(b, byte(t>>40), byte(t>>32)) //nolint:gosec // the upper two of six bytes
		b = binary.BigEndian.AppendUint32(b, uint32(t&math.MaxUint32))
	}
	return b
}

func parseAcquired(m *rueidis.RedisMessage) (acquired, error) {
	if m.IsInt64() {
		now, err := m.AsInt64()
		if err != nil || now <= 0 {
			return acquired{}, unavailable(errReply)
		}
		return acquired{outcome: idem.Outcome{Kind: idem.VerdictAcquired, Attempt: 1}, now: now}, nil
	}
	reply, err := m.ToArray()
	if err != nil {
		return acquired{}, unavailable(err)
	}
	return parseStanding(reply)
}

// parseStanding reads what acquire.lua answers of a key that was there.
func parseStanding(reply []rueidis.RedisMessage) (acquired, error) {
	var n [3]int64
	for i := range min(len(reply), len(n)) {
		var err error
		if n[i], err = reply[i].AsInt64(); err != nil {
			return acquired{}, unavailable(err)
		}
	}
	switch {
	case len(reply) > 0 && n[0] == verdictVersion:
		return acquired{}, idem.ErrVersion
	case len(reply) > 1 && n[0] == verdictLate:
		return acquired{now: n[1]}, errLate
	case len(reply) < 2 || n[0] < 0 || n[0] > int64(idem.VerdictExpired):
		return acquired{}, unavailable(errReply)
	}
	a := acquired{outcome: idem.Outcome{Kind: idem.Verdict(n[0]), Attempt: uint32(n[1])}} //nolint:gosec // a u32 in the record
	switch a.outcome.Kind {
	case idem.VerdictAcquired, idem.VerdictYours:
		a.now = n[2]
	case idem.VerdictInProgress:
		a.outcome.Remaining = time.Duration(n[2]) * time.Millisecond
	case idem.VerdictMismatch:
		a.outcome.Part = idem.Part(n[2]) //nolint:gosec // 1 or 2
		return a.withHints(reply[3:])
	case idem.VerdictOtherRecipe:
		a.outcome.Recipe = idem.Recipe(n[2]) //nolint:gosec // a u32 in the record
	case idem.VerdictCompleted:
		if len(reply) < 4 {
			return acquired{}, unavailable(errReply)
		}
		a.life = time.Duration(n[2]) * time.Millisecond
		if len(reply) > 4 && reply[4].IsInt64() {
			a.apart, a.head = true, reply[3]
			return a, nil
		}
		return a.withRecord(reply[3:])
	default:
	}
	return a, nil
}

// withHints reads those of a record whose payload differs.
func (a acquired) withHints(m []rueidis.RedisMessage) (acquired, error) {
	if a.outcome.Part != idem.PartPayload || len(m) < 2 {
		return a, nil
	}
	hinted, err1 := m[0].AsInt64()
	text, err2 := m[1].ToString()
	if err := errors.Join(err1, err2); err != nil {
		return acquired{}, unavailable(err)
	}
	if hinted == 1 {
		copy(a.hints[:], text)
	}
	return a, nil
}

func (a acquired) withRecord(m []rueidis.RedisMessage) (acquired, error) {
	record, err := decode(m[0], m[1:])
	if err != nil {
		return acquired{}, err
	}
	a.record, a.outcome.Response = &record, record.Response
	return a, nil
}

// decode reads a record, whose response may come apart from it; then the head is
// enough.
func decode(record rueidis.RedisMessage, response []rueidis.RedisMessage) (idem.Record, error) {
	raw, err := record.ToString()
	if err != nil {
		return idem.Record{}, unavailable(err)
	}
	var r idem.Record
	if len(response) == 0 {
		r, err = idem.DecodeRecord([]byte(raw))
	} else if r, err = decodeApart(raw); err == nil {
		if raw, err = response[0].ToString(); err != nil {
			return idem.Record{}, unavailable(err)
		}
		r.Response, err = idem.DecodeResponse([]byte(raw))
	}
	if err != nil {
		return idem.Record{}, fmt.Errorf("reading a record: %w", err)
	}
	return r, nil
}

func decodeApart(raw string) (idem.Record, error) {
	if len(raw) == idem.HeadSize {
		return idem.DecodeHead([]byte(raw))
	}
	return idem.DecodeNamed([]byte(raw))
}

// settleArgs are settle.lua's for an event that is sent when the server's clock
// shows now, ms; 0 if that is not known. The lease's bytes are referred to, not
// copied. A completion without a response has it elsewhere: see runStaged.
func settleArgs(e idem.Event, l *idem.Lease, response []byte, now int64) []string {
	args := []string{strconv.Itoa(int(e)), rueidis.BinaryString(l.Owner[:]), "", "", "", rueidis.BinaryString(response)}
	if e == idem.EventRenew {
		args[2] = ms(l.TTL)
	}
	if l.Retention <= 0 {
		return args
	}
	life, skip := stays(e, l), 0
	b := make([]byte, 0, 6+2*6+keepSize)
	if now > 0 && (e == idem.EventComplete || e == idem.EventRelease) {
		till := int64(0)
		if e == idem.EventComplete {
			till = now + l.Retention.Milliseconds()
		}
		b = appendTimes(b, till, now, now+life.Milliseconds())
		args[2], skip = rueidis.BinaryString(b[:6]), 6
	}
	b = appendKeep(b, l.Retention, l.Remember)
	args[3], args[4] = rueidis.BinaryString(b[skip:]), ms(life)
	if e == idem.EventComplete && (l.Remember > 0 || response == nil) {
		args = append(args, ms(l.Retention))
	}
	return args
}

// stays is how long a record that ends stays after an event.
func stays(e idem.Event, l *idem.Lease) time.Duration {
	switch e {
	case idem.EventRenew:
		return l.TTL + l.Retention
	case idem.EventComplete, idem.EventResolveComplete:
		return l.Retention + l.Remember
	default:
		return l.Retention
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

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
