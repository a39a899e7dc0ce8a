package rstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

// AllReplicas is a Config.WaitReplicas.
const AllReplicas = -1

// maxWaiting is how many writes to a server can wait for its replicas at once,
// each on a connection of its own; further ones wait for their turn.
const maxWaiting = 128

// needed is how many replicas a write must have.
func (s *Store) needed(l *link) int64 {
	if s.waitReplicas == AllReplicas {
		return max(1, l.replicas.Load())
	}
	return int64(s.waitReplicas)
}

// runReplicated is run for what must be on Config.WaitReplicas replicas before it
// counts: lack says that it is not, and may be lost in a failover. WAIT is
// about the writes of the connection that it comes over, so the two go in one
// pipeline; and it keeps that connection from all else, so these have a pool of
// them.
func (s *Store) runReplicated(
	ctx context.Context, l *link, sc *script, keys, args []string,
) (result rueidis.RedisResult, lack error) {
	n := s.needed(l)
	if n == 0 {
		return sc.run(ctx, l.client, keys, args), nil
	}
	if ctx.Err() != nil {
		return notSent(ctx), nil
	}
	send := func(command func(rueidis.Client, []string, []string) rueidis.Completed) []rueidis.RedisResult {
		return l.together(ctx, keys[0], func() []rueidis.Completed {
			return []rueidis.Completed{command(l.client, keys, args), s.wait(l, n, keys[0])}
		})
	}
	results := send(sc.command)
	if isTryAgain(results[0].Error()) && len(keys) > 1 { // as in script.run
		keys = keys[:1]
		results = send(sc.command)
	}
	if isNoScript(results[0].Error()) {
		results = send(sc.whole)
	}
	return results[0], lacking(results[1], n)
}

// wait has the server wait until n replicas have what came over the connection.
func (s *Store) wait(l *link, n int64, key string) rueidis.Completed {
	return l.client.B().Arbitrary("WAIT").Args(strconv.FormatInt(n, 10), ms(s.timeout/2)).Blocking().SetSlot(key)
}

// lacking says that fewer than n replicas have something.
func lacking(answer rueidis.RedisResult, n int64) error {
	got, err := answer.AsInt64()
	switch {
	case err != nil:
		return lost(fmt.Errorf("waiting for replicas: %w", err))
	case got < n:
		return lost(fmt.Errorf("%d of %d replicas have it", got, n))
	}
	return nil
}

// lost is for what was done and may not last: unavailable, and never refused.
func lost(err error) error { return fmt.Errorf("%w: redis: %w", idem.ErrUnavailable, err) }

// finding is a setting of a server that weakens what this store promises.
type finding struct{ setting, value, means string }

// check asks every server once how it keeps what it acknowledges, and warns.
func (s *Store) check(ctx context.Context, l *link) {
	if olderThan(l.who.version, leastVersion) {
		s.log.Warn().Str("event", "store_version").Str("server", l.addr).Str("version", l.who.version).
			Msg("before Redis 7.0.5, changes by scripts are told to those who made them, too: responses are kept for replays too short")
	}
	for addr, node := range l.client.Nodes() {
		replication, err := node.Do(ctx, node.B().Info().Section("replication").Build()).ToString()
		if err == nil {
			l.sawReplicas(len(replicasOf(replication)))
			s.checkClocks(ctx, addr, node, replicasOf(replication))
		}
		settings, err := node.Do(ctx, node.B().ConfigGet().Parameter(
			"maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save").Build()).AsStrMap()
		if err != nil {
			s.log.Info().Str("event", "store_unchecked").Str("server", addr).Err(err).
				Msg("the server does not say how it keeps records; see docs/redis.md for what it should do")
			continue
		}
		for _, f := range findings(settings, replication, s.waitReplicas) {
			s.log.Warn().Str("event", "store_setting").Str("server", addr).Str("setting", f.setting).Str("value", f.value).
				Msg(f.means)
		}
	}
}

// leastVersion is the first that takes NOLOOP into account in scripts.
const leastVersion = "7.0.5"

// olderThan compares versions by their numbers; what is none is not older.
func olderThan(version, least string) bool {
	have, want := strings.Split(version, "."), strings.Split(least, ".")
	for i := range min(len(have), len(want)) {
		h, err1 := strconv.Atoi(have[i])
		w, err2 := strconv.Atoi(want[i])
		if err1 != nil || err2 != nil || h != w {
			return err1 == nil && err2 == nil && h < w
		}
	}
	return false
}

// clocksApart is how far a replica's clock may be from its primary's.
const clocksApart = time.Second

// checkClocks compares the replicas' clocks with the primary's: a lease ends at a
// time of the clock of whichever is the primary then.
func (s *Store) checkClocks(ctx context.Context, addr string, node rueidis.Client, replicas []string) {
	for _, replica := range replicas {
		now, err := s.timeAt(ctx, replica)
		if err != nil {
			continue // it may be for nobody but its primary
		}
		primary, err := timeOf(node.Do(ctx, node.B().Time().Build()).AsStrSlice())
		if err != nil {
			return
		}
		if apart := now.Sub(primary); apart.Abs() > clocksApart {
			s.log.Warn().Str("event", "store_clock").Str("server", addr).Str("replica", replica).Dur("ahead", apart).
				Msg("the replica's clock differs: after a failover to it, leases end too early or too late by that much")
		}
	}
}

// timeAt is a server's time, as it is about now.
func (s *Store) timeAt(ctx context.Context, addr string) (time.Time, error) {
	conn, _, err := s.dial(ctx, addr)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { _ = conn.Close() }()
	replies, err := newWire(conn).ask([]string{"TIME"})
	if err != nil {
		return time.Time{}, err
	}
	var parts []string
	items, _ := replies[0].([]any)
	for _, item := range items {
		text, _ := item.(string)
		parts = append(parts, text)
	}
	return timeOf(parts, nil)
}

// timeOf reads TIME's reply.
func timeOf(parts []string, err error) (time.Time, error) {
	if err != nil || len(parts) != 2 {
		return time.Time{}, inVain(err)
	}
	seconds, err1 := strconv.ParseInt(parts[0], 10, 64)
	micros, err2 := strconv.ParseInt(parts[1], 10, 64)
	return time.Unix(seconds, micros*1000), errors.Join(err1, err2)
}

// findings are what is amiss with a server's settings.
func findings(settings map[string]string, replication string, waitReplicas int) (all []finding) {
	add := func(setting, means string) { all = append(all, finding{setting, settings[setting], means}) }
	if policy := settings["maxmemory-policy"]; settings["maxmemory"] != "0" && policy != "noeviction" {
		add("maxmemory-policy", "locks and responses may be evicted, and requests then execute twice: set it to noeviction")
	}
	switch {
	case settings["appendonly"] != "yes" && settings["save"] == "":
		add("appendonly", "nothing is kept across a restart of the server: set it to yes")
	case settings["appendonly"] != "yes":
		add("appendonly", "a crash of the server loses all since the last snapshot: set it to yes")
	case settings["appendfsync"] != "always":
		add("appendfsync", "a power loss of the server may lose the last second or more: set it to always if that matters")
	}
	if infoField(replication, "role") != "master" {
		return all
	}
	replicas := infoField(replication, "connected_slaves")
	switch n, err := strconv.Atoi(replicas); {
	case err != nil || waitReplicas == AllReplicas && n > 0:
	case n < waitReplicas || waitReplicas == AllReplicas:
		all = append(all, finding{"connected_slaves", replicas, "fewer replicas than wait-replicas: requests are refused"})
	case n > waitReplicas:
		all = append(all, finding{
			"connected_slaves", replicas,
			"more replicas than wait-replicas: a failover may promote one that lacks what was acknowledged",
		})
	}
	return all
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if field, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && field == name {
			return value
		}
	}
	return ""
}
