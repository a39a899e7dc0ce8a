package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Names of the contenders that only the table of stores has.
const (
	onRedisAlways = "IdemProxy, Redis, every write flushed"
	coldRedis     = "IdemProxy, Redis, no cache"
	coldAlways    = "IdemProxy, Redis, every write flushed, no cache"
	coldPostgres  = "IdemProxy, PostgreSQL, no cache"
	onPair        = "IdemProxy, PostgreSQL, synchronous standby"
	coldPair      = "IdemProxy, PostgreSQL, synchronous standby, no cache"
	coldDisk      = "IdemProxy, embedded, no cache"
	// postgresPair are two servers that the stage starts.
	postgresPair = "PostgreSQL with a synchronous standby"
	// flushedRedis is a server that the stage starts.
	flushedRedis = "Redis with appendfsync always"
)

// stored is a line of the table of stores.
type stored struct{ name, warm, cold string }

func stores() []stored {
	return []stored{
		{"embedded", onDisk, coldDisk},
		{"Redis, without a file", onRedisTCP, coldRedis},
		{"Redis, `appendfsync always`", onRedisAlways, coldAlways},
		{"PostgreSQL, `synchronous_commit = on`", onPostgres, coldPostgres},
		{"PostgreSQL, the same with a synchronous standby", onPair, coldPair},
	}
}

// Names of the workloads of that table: none that a regular expression for others would meet.
const (
	storesNew       = "stores, each key once"
	storesCold      = "stores, replays"
	storesContended = "stores, one key"
	storesLatency   = "stores, how long"
)

func storeWorkloads() []workload {
	var warm, cold []string
	for _, s := range stores() {
		warm, cold = append(warm, s.warm), append(cold, s.cold)
	}
	return []workload{
		{name: storesNew, about: "each executed and stored", script: "unique", path: "/", baseline: onRedisTCP, run: warm},
		{name: storesCold, about: "replayed from the store", script: "keys", path: "/", keys: 1000, baseline: coldRedis, run: cold},
		{
			name: storesContended, about: "64 clients on one key whose first request is still running", script: "keys",
			path: "/slow?d=1h", keys: 1, baseline: onRedisTCP, run: warm, rejections: true,
		},
	}
}

// storeRate is a rate of new keys that each store carries, also on a machine that has
// little to give: how long one takes there is not how long it waits for others.
const storeRate = 200

// compareStores measures the stores alone: how many keys each of them takes, and how long
// a new key takes at a rate that all of them carry. Each part can be had by its name.
func (r *results) compareStores(ctx context.Context, s *stage, o options) error {
	wanted := func(name string) bool { return o.only.MatchString("stores") || o.only.MatchString(name) }
	for _, w := range storeWorkloads() {
		if !wanted(w.name) {
			continue
		}
		fmt.Printf("%s (%s)\n", w.name, w.about)
		if err := r.workload(ctx, s, w, o); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	if !wanted(storesLatency) {
		return nil
	}
	fmt.Printf("%s of new keys, open loop, %d a second\n", storesLatency, storeRate)
	for _, c := range contenders() {
		if !slices.ContainsFunc(stores(), func(s stored) bool { return s.warm == c.name }) {
			continue
		}
		if err := c.start(ctx, s); err != nil {
			return err
		}
		if c.missing {
			continue
		}
		l := attack(c, storeRate, time.Duration(o.rounds)*o.duration)
		c.stop()
		fmt.Printf("  %-28s p50 %v, p99 %v\n", c.name, l.P50, l.P99)
		r.Stores = append(r.Stores, l)
	}
	return nil
}

// flushed is the address of a Redis that the first who asks starts, whose every write is
// on the disk before it is answered.
func (s *stage) flushed(ctx context.Context) error {
	if s.redisFlushed != "" {
		return nil
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	if _, err := s.run(ctx, "redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--dir", s.dir, "--appenddirname", "flushed",
		"--loglevel", "warning", "--logfile", filepath.Join(s.dir, "flushed.log")); err != nil {
		return err
	}
	s.redisFlushed = local(port)
	return nil
}

// storesTable is one line for each store; empty if they were not compared.
func (r *results) storesTable() string {
	most := max(r.Checks[storesNew].Most, r.Checks[storesCold].Most, r.Checks[storesContended].Most)
	if most == 0 && len(r.Stores) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## Stores\n\nMedians, and in brackets the slowest and the fastest round. "+
		"Latencies of new keys: open loop at %d/s. Executions of one key, at most: %d.\n\n"+
		"| | new keys/s | p50 | p99 | replays from the store/s | refusals of one key in progress/s |\n"+
		"| --- | ---: | ---: | ---: | ---: | ---: |\n", storeRate, most)
	for _, s := range stores() {
		if r.Missing[s.warm] {
			fmt.Fprintf(&b, "| %s | not installed |  |  |  |  |\n", s.name)
			continue
		}
		p50, p99 := "", ""
		if at := slices.IndexFunc(r.Stores, func(l latency) bool { return l.Name == s.warm }); at >= 0 {
			p50 = r.Stores[at].P50.Round(10 * time.Microsecond).String()
			p99 = r.Stores[at].P99.Round(10 * time.Microsecond).String()
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", s.name, r.spread(storesNew, s.warm), p50, p99,
			r.spread(storesCold, s.cold), r.spread(storesContended, s.warm))
	}
	return b.String()
}

// spread is a median with what it is the middle of.
func (r *results) spread(workload, name string) string {
	rates := r.rates(workload, name)
	if len(rates) == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f (%.0f to %.0f)", rates[len(rates)/2], rates[0], rates[len(rates)-1])
}
