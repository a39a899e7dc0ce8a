package rstore

import (
	"context"
	"encoding/hex"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

// stageFrom is how large a response is that goes around settle.lua: Redis's Lua
// copies every string twice, which from here on costs more than one more command.
const stageFrom = 2 << 10

// stagedLonger is how much longer a response is kept that was put there before its
// record said until when it is replayed, which is what counts.
const stagedLonger = time.Second

// staging is where an attempt's response is put before the attempt completes: a
// name of its own, since the attempt may have lost its lease, in the same slot as
// the record.
func staging(response string, owner *idem.Owner) string {
	return response + hex.EncodeToString(owner[:])
}

// complete ends an attempt with a response, encoded. A large one is sent in a SET
// of its own, ahead of the script in the same burst. Where Redis does not take that
// (it is full, a slot is moving, the user may not rename), it goes through the
// script, which may do more.
func (s *Store) complete(
	ctx context.Context, l *link, keys []string, lease *idem.Lease, encoded []byte, now int64,
) (result rueidis.RedisResult, lack error) {
	if len(encoded) >= stageFrom && lease.Retention > 0 {
		staged := staging(keys[1], &lease.Owner)
		result, lack = s.runStaged(ctx, l, append(keys[:2:2], staged), lease, encoded, now)
		code, err := result.AsInt64()
		switch {
		case isTryAgain(err):
			defer l.unstage(ctx, staged)
		case code != verdictUnstaged:
			return result, lack
		}
	}
	return s.runReplicated(ctx, l, s.scripts.settle, keys, settleArgs(idem.EventComplete, lease, encoded, now))
}

// unstage deletes a response that was put there for a script which did not run. The script
// does that itself whenever it runs, but while a slot moves, it does not: the response is
// where the slot moves to, and the record is not. Otherwise the response would stay there
// for as long as one that is replayed.
//
// Other refusals need nothing: the completion is offered again, under the same name. Nothing
// can be lost by this: a script that runs after it finds no response, and does nothing.
func (l *link) unstage(ctx context.Context, staged string) {
	_ = l.client.Do(ctx, l.client.B().Del().Key(staged).Build()).Error() // then it stays for so long
}

// runStaged is runReplicated for a completion whose response is put into the third
// of the keys first.
func (s *Store) runStaged(
	ctx context.Context, l *link, keys []string, lease *idem.Lease, encoded []byte, now int64,
) (result rueidis.RedisResult, lack error) {
	if ctx.Err() != nil {
		return notSent(ctx), nil
	}
	n := s.needed(l)
	args := settleArgs(idem.EventComplete, lease, nil, now)
	put := func() rueidis.Completed {
		return l.client.B().Set().Key(keys[2]).Value(rueidis.BinaryString(encoded)).
			PxMilliseconds((lease.Retention + stagedLonger).Milliseconds()).Build()
	}
	send := func(commands ...func() rueidis.Completed) []rueidis.RedisResult {
		if n == 0 {
			return l.client.DoMulti(ctx, built(commands)...)
		}
		commands = append(commands, func() rueidis.Completed { return s.wait(l, n, keys[0]) })
		return l.together(ctx, keys[0], func() []rueidis.Completed { return built(commands) })
	}
	settle := s.scripts.settle
	results := send(put, func() rueidis.Completed { return settle.command(l.client, keys, args) })[1:]
	if isNoScript(results[0].Error()) {
		results = send(func() rueidis.Completed { return settle.whole(l.client, keys, args) })
	}
	if n > 0 {
		lack = lacking(results[1], n)
	}
	return results[0], lack
}

func built(commands []func() rueidis.Completed) []rueidis.Completed {
	all := make([]rueidis.Completed, len(commands))
	for i, command := range commands {
		all[i] = command()
	}
	return all
}

// fetch gets a large response that acquire.lua has left where it is, by one command
// that no script has to copy it for. It is this record's response if the record is, in
// the same moment, the one that was compared: whoever writes a response writes its
// record, too, and no two attempts have one owner. Otherwise, or if Redis does not let
// this user do it, false: the script is asked again, for all of it.
func (s *Store) fetch(ctx context.Context, l *link, keys []string, a *acquired) bool {
	both, err := l.client.Do(ctx, l.client.B().Mget().Key(keys[1], keys[0]).Build()).ToArray()
	if err != nil || len(both) != 2 || both[0].IsNil() {
		return false
	}
	head, err1 := a.head.ToString()
	record, err2 := both[1].ToString()
	if err1 != nil || err2 != nil || !strings.HasPrefix(record, head) {
		return false
	}
	with, err := a.withRecord([]rueidis.RedisMessage{a.head, both[0]})
	if err != nil {
		return false
	}
	with.apart = false
	*a = with
	return true
}
