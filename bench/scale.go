package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// redisInfo reads one section of INFO.
func redisInfo(addr, section string) (map[string]float64, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("asking Redis: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "INFO "+section+"\r\n"); err != nil {
		return nil, fmt.Errorf("asking Redis: %w", err)
	}
	br := bufio.NewReader(conn)
	head, err := br.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("asking Redis: %w", err)
	}
	size, err := strconv.Atoi(strings.Trim(head, "$\r\n"))
	if err != nil {
		return nil, fmt.Errorf("asking Redis: %s: %w", head, err)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(br, text); err != nil {
		return nil, fmt.Errorf("asking Redis: %w", err)
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = v
		}
	}
	return values, nil
}

func flush(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return fmt.Errorf("emptying Redis: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "FLUSHALL SYNC\r\n"); err != nil {
		return fmt.Errorf("emptying Redis: %w", err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(answer, "+OK") {
		return errors.Join(fmt.Errorf("emptying Redis: %q", answer), err)
	}
	return nil
}

func find(name string) *contender {
	for _, c := range contenders() {
		if c.name == name {
			return c
		}
	}
	return nil
}

func findWorkload(name string) workload {
	for _, w := range workloads() {
		if w.name == name {
			return w
		}
	}
	return workload{}
}

// costs measures what a new key takes of Redis.
func (r *results) costs(ctx context.Context, s *stage) error {
	c := find(onRedisTCP)
	if err := c.start(ctx, s); err != nil {
		return err
	}
	defer c.stop()
	// Keys of earlier workloads must not expire while bytes are counted.
	if err := flush(s.redis); err != nil {
		return err
	}
	var total struct{ Keys int }
	err1 := s.ask(ctx, "/total?reset=1", &total)
	memory, err2 := redisInfo(s.redis, "memory")
	stats, err3 := redisInfo(s.redis, "stats")
	cpu, err4 := redisInfo(s.redis, "cpu")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	run := fmt.Sprintf("cost-%x", time.Now().UnixNano())
	if _, err := findWorkload(newKeys).wrk(ctx, c.addr, run, 2*time.Second); err != nil {
		return err
	}
	err1 = s.ask(ctx, "/total", &total)
	memoryAfter, err2 := redisInfo(s.redis, "memory")
	statsAfter, err3 := redisInfo(s.redis, "stats")
	cpuAfter, err4 := redisInfo(s.redis, "cpu")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	per := func(after, before map[string]float64, name string) float64 {
		return (after[name] - before[name]) / float64(max(total.Keys, 1))
	}
	bytes := per(memoryAfter, memory, "used_memory")
	r.figure(redisMemory+" (an answer of 60 bytes and three header fields)", fmt.Sprintf("%.0f B", bytes))
	r.Numbers[redisMemory] = bytes
	if err := r.plainly(s, float64(max(total.Keys, 1))); err != nil {
		return err
	}
	r.figure("Redis memory for a million such keys a day, kept for a day", fmt.Sprintf("%.0f MiB", bytes*1e6/(1<<20)))
	r.figure("sent to Redis for a new key", fmt.Sprintf("%.0f B", per(statsAfter, stats, "total_net_input_bytes")))
	r.figure("sent back by Redis for a new key", fmt.Sprintf("%.0f B", per(statsAfter, stats, "total_net_output_bytes")))
	used := per(cpuAfter, cpu, "used_cpu_user") + per(cpuAfter, cpu, "used_cpu_sys")
	r.figure("Redis CPU time for a new key, under load", fmt.Sprintf("%.1f µs", used*1e6))
	return nil
}

// plainly measures how many bytes Redis was given for each key, and what it needs for these
// by plain SET. It leaves Redis empty.
func (r *results) plainly(s *stage, keys float64) error {
	names, values, err := contents(s.redis)
	if err != nil {
		return err
	}
	r.Numbers[redisBytes] = (names + values) / keys
	r.figure(redisBytes, fmt.Sprintf("%.0f B", r.Numbers[redisBytes]))
	if r.Numbers[redisPlain], err = plain(s.redis, int(names/keys), int(values/keys)); err != nil {
		return err
	}
	r.figure(redisPlain, fmt.Sprintf("%.0f B", r.Numbers[redisPlain]))
	return nil
}

// scaling measures new keys through one to three proxies on one Redis, and
// through three on a Redis Cluster of three nodes. On one machine they share
// its cores; the figures show that nothing else holds them back.
func (r *results) scaling(ctx context.Context, s *stage, o options) error {
	if o.quick {
		return nil
	}
	for n := 1; n <= 3; n++ {
		rate, err := s.instances(ctx, n)
		if err != nil {
			return err
		}
		proxies := fmt.Sprint(n, " proxies")
		if n == 1 {
			proxies = "1 proxy"
		}
		r.figure("new keys through "+proxies+" on one Redis", fmt.Sprintf("%.0f/s", rate))
	}
	nodes, err := s.cluster(ctx)
	if err != nil {
		return err
	}
	redis := s.redis
	s.redis = nodes[0]
	defer func() { s.redis = redis }()
	rate, err := s.instances(ctx, 3)
	if err != nil {
		return err
	}
	r.figure("new keys through 3 proxies on a Redis Cluster of 3 nodes", fmt.Sprintf("%.0f/s", rate))
	return nil
}

// instances attacks n proxies at once and adds their rates up.
func (s *stage) instances(ctx context.Context, n int) (float64, error) {
	var total float64
	var mu sync.Mutex
	var done sync.WaitGroup
	var errs []error
	for i := range n {
		c := find(onRedisTCP)
		if err := c.start(ctx, s); err != nil {
			return 0, err
		}
		defer c.stop()
		done.Go(func() {
			got, err := findWorkload(newKeys).wrk(ctx, c.addr, fmt.Sprintf("scale-%d-%x", i, time.Now().UnixNano()), 3*time.Second)
			mu.Lock()
			defer mu.Unlock()
			total += got.PerSecond
			errs = append(errs, err)
		})
	}
	done.Wait()
	return total, errors.Join(errs...)
}

// cluster starts a Redis Cluster of three nodes.
func (s *stage) cluster(ctx context.Context) (nodes []string, err error) {
	create := []string{"--cluster", "create", "--cluster-yes"}
	for i := range 3 {
		port, err := freePort()
		for err == nil && port > 55_000 { // a node's bus takes port + 10,000
			port, err = freePort()
		}
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("node%d", i)
		if _, err := s.run(ctx, "redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "",
			"--cluster-enabled", "yes", "--cluster-config-file", filepath.Join(s.dir, name+".conf"),
			"--logfile", filepath.Join(s.dir, name+".log")); err != nil {
			return nil, err
		}
		nodes = append(nodes, local(port))
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out, err := exec.CommandContext(ctx, "redis-cli", append(create, nodes...)...).CombinedOutput() //nolint:gosec // our own list
		if err == nil || strings.Contains(string(out), "is not empty") {
			break
		}
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		info, err := redisInfo(nodes[0], "cluster")
		if err != nil {
			return nil, err
		}
		//nolint:gosec // our own list
		slots, _ := exec.CommandContext(ctx, "redis-cli", "-p", nodes[0][len("127.0.0.1:"):], "cluster", "info").Output()
		if info["cluster_enabled"] == 1 && strings.Contains(string(slots), "cluster_state:ok") {
			return nodes, nil
		}
	}
	return nil, errors.New("the Redis Cluster does not come up")
}
