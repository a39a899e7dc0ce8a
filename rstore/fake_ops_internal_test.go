package rstore

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

// The names that the operations are about: a record and its response, where a response is
// put before its record has it, and a hash.
const (
	opRecord   = "idem:0123"
	opResponse = "idem:r{idem:0123}"
	opStaged   = "idem:r{idem:0123}staged"
	opHash     = "idem:registry"
)

func opNames() []string { return []string{opRecord, opResponse, opStaged, opHash} }

// act is one operation: commands that are sent together, and the times, in milliseconds of
// the server's clock, at which they come to mean something else.
type act struct {
	commands [][]string
	turning  []int64
	ages     []int64 // what a record's times are compared with is so long before the clock
	parts    int     // how many values belong together in a reply without an order; 0: it has one
}

// acts makes operations at random.
type acts struct {
	*rand.Rand

	scripts        scripts
	old            map[string]string // the scripts of the release that wrote layout 1
	owners         []idem.Owner
	key            idem.Key
	small, large   []byte
	briefly, hours []time.Duration
}

func pick[T any](a *acts, some ...T) T { return some[a.IntN(len(some))] }

// next makes one when the server's clock shows now.
func (a *acts) next(now int64) act {
	switch n := a.IntN(100); {
	case n < 30:
		return a.acquire(now)
	case n < 60:
		return a.settle(now)
	case n < 68:
		return a.assert(now)
	case n < 72:
		return act{commands: [][]string{a.call(a.scripts.purge, []string{opRecord, opResponse}[:1+a.IntN(2)], nil)}}
	case n < 76:
		return act{commands: [][]string{a.call(a.scripts.inspect, []string{opRecord, opResponse}[:1+a.IntN(2)], nil)}}
	case n < 80:
		return act{commands: [][]string{a.call(a.scripts.registry, []string{opHash}, []string{
			pick(a, "a", "b"), pick(a, "", "text"), pick(a, "0", "5", "3600000"),
		})}}
	case n < 84:
		return act{commands: [][]string{a.layout1()}}
	}
	command := a.plain(now)
	return act{commands: [][]string{command}, parts: unordered(command)}
}

// unordered is act.parts of a command.
func unordered(command []string) int {
	switch {
	case command[0] == "SCAN":
		return 1
	case command[0] == "HGETALL", command[0] == "CONFIG", len(command) > 1 && strings.Contains(command[1], "HGETALL"):
		return 2
	}
	return 0
}

// call runs a script, by its name or its text.
func (a *acts) call(sc *script, keys, args []string) []string {
	command := []string{"EVALSHA", sc.sha}
	if a.IntN(4) == 0 {
		command = []string{"EVAL", sc.source}
	}
	if sc.readOnly {
		command[0] += "_RO"
	}
	return append(append(append(command, strconv.Itoa(len(keys))), keys...), args...)
}

func (a *acts) duration() time.Duration {
	if a.IntN(3) == 0 {
		return pick(a, a.briefly...)
	}
	return pick(a, a.hours...)
}

func (a *acts) acquire(now int64) act {
	c := idem.Claim{
		Key: a.key, Owner: pick(a, a.owners[1:]...), Fingerprint: idem.Fingerprint{pick[byte](a, 1, 1, 1, 1, 1, 1, 1, 2)},
		Binding: idem.Binding{pick[byte](a, 1, 1, 1, 1, 1, 1, 1, 2)}, Recipe: pick[idem.Recipe](a, 3, 3, 3, 3, 3, 3, 3, 4),
		TTL: a.duration(), Retention: a.duration(), Remember: pick(a, 0, a.duration()),
		HoldOnLapse: a.IntN(3) == 0, Within: pick(a, 0, 3*time.Millisecond, time.Hour),
	}
	if a.IntN(3) == 0 {
		c.Hints = idem.Hints{1, 2, 3, 4}
		copy(c.Owner[12:], c.Hints[:])
	}
	shown := pick(a, 0, now-30, now-1, now, now, now, now+1, now+1000)
	args, err := acquireArgs(&c, shown)
	if err != nil {
		panic(err) // there is nothing wrong with it
	}
	if a.IntN(8) == 0 {
		args = append(args, "whole")
	}
	turning := []int64{shown, shown + 10, shown + c.Within.Milliseconds()}
	return act{commands: [][]string{a.call(a.scripts.acquire, []string{opRecord, opResponse}[:pick(a, 1, 2, 2, 2)], args)}, turning: turning}
}

func (a *acts) settle(now int64) act {
	e := pick(a, idem.EventComplete, idem.EventComplete, idem.EventComplete, idem.EventRenew, idem.EventRelease,
		idem.EventHold, idem.EventHold, idem.EventResolveComplete, idem.EventResolveRetry, idem.EventTake)
	l := idem.Lease{Key: a.key, Owner: pick(a, a.owners...), TTL: a.duration(), Retention: pick(a, 0, a.duration(), a.duration()), Remember: pick(a, 0, a.duration())}
	var response []byte
	if e == idem.EventComplete || e == idem.EventResolveComplete {
		response = pick(a, a.small, a.large)
	}
	keys, shown := []string{opRecord, opResponse}[:pick(a, 1, 2, 2, 2)], pick(a, 0, now)
	var commands [][]string
	if e == idem.EventComplete && len(keys) == 2 && l.Retention > 0 && a.IntN(3) == 0 {
		keys, response = append(keys, opStaged), nil
		if a.IntN(5) > 0 {
			life := strconv.FormatInt((l.Retention + stagedLonger).Milliseconds(), 10)
			commands = [][]string{{"SET", opStaged, rueidis.BinaryString(a.large), "PX", life}}
		}
	}
	return act{commands: append(commands, a.call(a.scripts.settle, keys, settleArgs(e, &l, response, shown)))}
}

func (a *acts) assert(now int64) act {
	c := idem.Claim{Key: a.key, Fingerprint: idem.Fingerprint{1}, Binding: idem.Binding{1}, Recipe: 3, Retention: time.Hour}
	args, err := acquireArgs(&c, now)
	if err != nil {
		panic(err) // there is nothing wrong with it
	}
	at := time.Now()
	e := entry{
		state: pick(a, idem.Absent, idem.InProgress, idem.Completed, idem.Unknown), holds: a.IntN(2) == 0,
		attempt: a.Uint32N(3), owner: pick(a, a.owners...), made: args[0][madeAt : madeAt+madeSize],
		tail: args[0][idem.HeadSize:], lease: a.duration(), at: at.Add(-a.duration()), resolved: a.IntN(4) == 0,
		keep: rueidis.BinaryString(appendKeep(nil, a.duration(), pick(a, 0, time.Hour))),
	}
	e.began = e.at.Add(-a.duration())
	if e.state == idem.Completed {
		e.result = rueidis.BinaryString(pick(a, a.small, a.large))
	}
	if e.state == idem.Absent && a.IntN(2) == 0 {
		e.purged, e.made = now-pick[int64](a, -40, 0, 40), string(e.owner[:])
	}
	age, began := at.Sub(e.at).Milliseconds(), at.Sub(e.began).Milliseconds()
	return act{
		commands: [][]string{a.call(a.scripts.assert, []string{opRecord, opResponse}[:1+a.IntN(2)], e.args(at))},
		ages:     []int64{began, age - e.lease.Milliseconds()},
	}
}

// layout1 is what the release did that wrote that layout.
func (a *acts) layout1() []string {
	owner := pick(a, a.owners[1:]...)
	hash := func() string { return string(rune(pick[byte](a, 1, 1, 1, 2))) + strings.Repeat("\x00", 31) }
	if a.IntN(2) == 0 {
		return []string{
			"EVAL", a.old["acquire1"], "1", opRecord, string(owner[:]), hash(), hash(), ms(a.duration()), ms(a.duration()),
			pick(a, "\x00", "\x01"), string(idem.AppendTail(nil, a.key, nil)),
		}
	}
	return []string{
		"EVAL", a.old["settle1"], "1", opRecord, strconv.Itoa(1 + a.IntN(6)), string(owner[:]), ms(a.duration()), ms(a.duration()), string(a.small),
	}
}

// plain is a command of the client's own.
func (a *acts) plain(now int64) []string {
	key, other := a.name(), a.name()
	offset := func() string { return strconv.Itoa(a.IntN(400) - 200) }
	until := func() (string, string) {
		word := pick(a, "PX", "EX", "PXAT", "EXAT")
		n := pick[int64](a, 3600, 7200000, 0, -1)
		if strings.HasSuffix(word, "AT") && n > 0 {
			n = pick(a, now/1000+3600, now+3600000)
		}
		return word, strconv.FormatInt(n, 10)
	}
	word, n := until()
	value := pick(a, "", "text", "\x09\x01\x00", "\x02\x01\x00", "\x01\x02", string(a.large), strings.Repeat("\x02", 130))
	script := "return {1, 2.9, 'x', false, true, {ok='fine'}, {err='OOPS bad'}, {}, " + pick(a, "nil, 3", "redis.call('TIME')[3], 3", "KEYS[1] or '', ARGV[1]") + "}"
	return pick(a,
		[]string{"GET", key}, []string{"MGET", key, other}, []string{"STRLEN", key}, []string{"EXISTS", key, other, key},
		[]string{"GETRANGE", key, offset(), offset()}, []string{"GETRANGE", key, "a", "1"},
		[]string{"SET", key, value}, []string{"SET", key, value, word, n}, []string{"SET", key, value, "KEEPTTL"},
		[]string{"SET", key, value, pick(a, "NX", "XX"), word, n}, []string{"SET", key, value, "NX", "XX"},
		[]string{"GETEX", key}, []string{"GETEX", key, word, n}, []string{"GETEX", key, "PERSIST"},
		[]string{"DEL", key, other}, []string{"UNLINK", key}, []string{"RENAME", key, other}, []string{"PERSIST", key},
		[]string{"PEXPIRE", key, pick(a, "3600000", "0", "x")}, []string{"DBSIZE"}, []string{"FLUSHALL"},
		[]string{"HSET", key, "f", value}, []string{"HSET", key, "f"}, []string{"HGET", key, "f"},
		[]string{"HDEL", key, "f", "g"}, []string{"HGETALL", key},
		[]string{"SCRIPT", "FLUSH"}, []string{"SCRIPT", "EXISTS", a.scripts.acquire.sha, "0"}, []string{"SCRIPT", "LOAD", a.scripts.purge.source},
		[]string{"EVAL", script, "1", key, "y"}, []string{"EVAL", script, "0"},
		[]string{"EVALSHA", strings.Repeat("0", 40), "0"}, []string{"EVAL", "return 1", "2", "a"}, []string{"EVAL", "return redis.call('GET')", "0"},
		[]string{"EVAL_RO", "return redis.call('SET', KEYS[1], 'x')", "1", key}, []string{"EVAL", "return redis.call('NOPE')", "0"},
		[]string{"EVAL", "return redis.pcall('HGET', KEYS[1], 'f')", "1", key}, []string{"EVAL", "x = 1", "0"}, []string{"EVAL", "return y", "0"},
		[]string{"EVAL", "return redis.call('HGETALL', KEYS[1])", "1", opHash}, []string{"EVAL", "return", "0"}, []string{"EVAL", "return -1.5", "0"},
		[]string{"EVAL", "return redis.status_reply('WELL')", "0"}, []string{"EVAL", "return redis.error_reply('ONE')", "0"},
		[]string{"NOPE", "a", "b"}, []string{"GET"}, []string{"WAIT", "0", "5"}, []string{"SELECT", "0"}, []string{"SCAN", "0", "MATCH", "idem:?*", "COUNT", "100"},
		[]string{"CONFIG", "GET", "maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save"},
		[]string{"PING"}, []string{"PING", "x"}, []string{"AUTH", "default", "x"}, []string{"AUTH", "nobody", "x"},
		[]string{"CLIENT", "SETINFO", "LIB-NAME", "x"}, []string{"HELLO", "4"},
	)
}

func (a *acts) name() string {
	return pick(a, opRecord, opRecord, opRecord, opResponse, opResponse, opStaged, opHash)
}

func (c act) String() string { return fmt.Sprintf("%.200q", c.commands) }
