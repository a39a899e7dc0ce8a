package rstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// replicated waits until Config.WaitReplicas replicas have what this connection
// wrote, the record of that name included. Fewer in time is idem.ErrUnavailable:
// what was asked may be lost in a failover.
func (s *Store) replicated(ctx context.Context, c rueidis.Client, name string) error {
	if s.waitReplicas == 0 {
		return nil
	}
	// Not the builder's Wait, which would take a connection of its own: WAIT is
	// about the writes of the connection that it is sent on. There is one a node
	// (see option), and the slot leads to the node.
	wait := c.B().Arbitrary("WAIT").Args(strconv.Itoa(s.waitReplicas), ms(s.waitTimeout)).Build().SetSlot(name)
	got, err := c.Do(ctx, wait).AsInt64()
	if err != nil {
		return unavailable(fmt.Errorf("waiting for replicas: %w", err))
	}
	if got < int64(s.waitReplicas) {
		return unavailable(fmt.Errorf("%d of %d replicas have it", got, s.waitReplicas))
	}
	return nil
}

// finding is a setting of a server that weakens what this store promises.
type finding struct{ setting, value, means string }

// check asks every server once how it keeps what it acknowledges, and warns.
func (s *Store) check(ctx context.Context, c rueidis.Client) {
	for addr, node := range c.Nodes() {
		settings, err := node.Do(ctx, node.B().ConfigGet().Parameter(
			"maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "save").Build()).AsStrMap()
		if err != nil {
			s.log.Info().Str("event", "store_unchecked").Str("server", addr).Err(err).
				Msg("the server does not say how it keeps records; see docs/redis.md for what it should do")
			continue
		}
		replication, err := node.Do(ctx, node.B().Info().Section("replication").Build()).ToString()
		if err != nil {
			replication = ""
		}
		for _, f := range findings(settings, replication, s.waitReplicas) {
			s.log.Warn().Str("event", "store_setting").Str("server", addr).Str("setting", f.setting).Str("value", f.value).
				Msg(f.means)
		}
	}
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
	role, replicas := infoField(replication, "role"), infoField(replication, "connected_slaves")
	if role == "slave" {
		all = append(all, finding{"role", role, "this is a replica: connect to its primary"})
	}
	if n, err := strconv.Atoi(replicas); err == nil && role == "master" && n < waitReplicas {
		all = append(all, finding{"connected_slaves", replicas, "fewer replicas than wait-replicas: requests are refused"})
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
