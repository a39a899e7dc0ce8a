package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// latency is an open loop at a fixed rate.
type latency struct {
	Name    string        `json:"name"`
	Rate    int           `json:"rate"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
	P999    time.Duration `json:"p999"`
	Success float64       `json:"success"`
	// Cores are how many cores each process kept busy meanwhile.
	Cores []share `json:"cores"`
}

// share is the part of the machine that a process took.
type share struct {
	Process string  `json:"process"`
	Cores   float64 `json:"cores"`
}

// latencies compares new keys with the bare proxy at a third of the bare proxy's
// peak, but at most mostRate: the generator shares the machine.
func (r *results) latencies(ctx context.Context, s *stage, o options) error {
	const mostRate = 4000
	rate := mostRate
	if peak := r.median(newKeys, bare); peak > 0 {
		rate = min(rate, int(peak/3))
	}
	fmt.Printf("latency, open loop, %d requests a second\n", rate)
	for _, c := range contenders() {
		switch c.name {
		case bare, floorRedis, floorDisk, onRedisTCP, onRedisUnix, onDisk, beforeOnRedis, beforeOnDisk:
		default:
			continue
		}
		if err := c.start(ctx, s); err != nil {
			return err
		}
		if c.missing {
			r.Missing[c.name] = true
			continue
		}
		l, err := s.attacked(c, rate, time.Duration(o.rounds)*o.duration)
		c.stop()
		if err != nil {
			return err
		}
		fmt.Printf("  %-28s p50 %v, p99 %v\n", c.name, l.P50, l.P99)
		r.Latencies = append(r.Latencies, l)
	}
	var err1, err2 error
	r.RedisRTT, err1 = roundTrip(s.redis)
	r.Fsync, err2 = fdatasync(s.dir)
	return errors.Join(err1, err2)
}

// fdatasync is the median of one after a write of 512 bytes into an allocated file, on
// an idle machine.
func fdatasync(dir string) (time.Duration, error) {
	file, err := os.CreateTemp(dir, "fsync")
	if err != nil {
		return 0, fmt.Errorf("timing an fdatasync: %w", err)
	}
	defer func() { _ = file.Close() }()
	all := make([]time.Duration, 500)
	if err := syscall.Fallocate(int(file.Fd()), 0, 0, int64(len(all))<<9); err != nil {
		return 0, fmt.Errorf("timing an fdatasync: %w", err)
	}
	for i := range all {
		start := time.Now()
		if _, err := file.Write(make([]byte, 1<<9)); err != nil {
			return 0, fmt.Errorf("timing an fdatasync: %w", err)
		}
		if err := syscall.Fdatasync(int(file.Fd())); err != nil {
			return 0, fmt.Errorf("timing an fdatasync: %w", err)
		}
		all[i] = time.Since(start)
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

// attacked is an attack, and who of those that share the machine used it meanwhile.
func (s *stage) attacked(c *contender, rate int, d time.Duration) (latency, error) {
	m, backend, load := s.meter(c), meter{pid: s.behind.Process.Pid}, meter{pid: os.Getpid()}
	read := func() (all [3]usage, err error) {
		for i, one := range []meter{load, backend, m} {
			if all[i], err = one.read(); err != nil {
				return all, err
			}
		}
		return all, nil
	}
	before, err := read()
	if err != nil {
		return latency{}, err
	}
	start := time.Now()
	l := attack(c, rate, d)
	took := time.Since(start).Seconds()
	after, err := read()
	if err != nil {
		return latency{}, err
	}
	for i, name := range []string{"the load", "the backend", c.name} {
		l.Cores = append(l.Cores, share{name, (after[i].own - before[i].own) / took})
	}
	if m.redis != "" {
		l.Cores = append(l.Cores, share{"Redis", (after[2].redis - before[2].redis) / took})
	}
	return l, nil
}

// busy says of each process how many cores it kept busy.
func (l *latency) busy() string {
	if len(l.Cores) == 0 {
		return ""
	}
	all, sum := make([]string, 0, len(l.Cores)), 0.0
	for _, one := range l.Cores {
		all = append(all, fmt.Sprintf("%s %.2f", one.Process, one.Cores))
		sum += one.Cores
	}
	return fmt.Sprintf("at %d/s, %.2f of %d cores are busy: %s", l.Rate, sum, runtime.NumCPU(), strings.Join(all, ", "))
}

func attack(c *contender, rate int, d time.Duration) latency {
	var n atomic.Int64
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	targeter := func(t *vegeta.Target) error {
		t.Method, t.URL, t.Body = http.MethodPost, "http://"+c.addr+"/", []byte("amount=5")
		t.Header = http.Header{"Idempotency-Key": {run + "-" + strconv.FormatInt(n.Add(1), 10)}}
		return nil
	}
	attacker := vegeta.NewAttacker(vegeta.Workers(32), vegeta.MaxWorkers(2000), vegeta.Connections(2000))
	var m vegeta.Metrics
	for result := range attacker.Attack(targeter, vegeta.Rate{Freq: rate, Per: time.Second}, d, c.name) {
		m.Add(result)
	}
	m.Close()
	return latency{
		Name: c.name, Rate: rate, P50: m.Latencies.P50, P99: m.Latencies.P99,
		P999: m.Latencies.Quantile(0.999), Success: m.Success,
	}
}

// roundTrip is the median of a PING to Redis on an idle machine.
func roundTrip(addr string) (time.Duration, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, fmt.Errorf("pinging Redis: %w", err)
	}
	defer func() { _ = conn.Close() }()
	br := bufio.NewReader(conn)
	all := make([]time.Duration, 2000)
	for i := range all {
		start := time.Now()
		if _, err := conn.Write([]byte("PING\r\n")); err != nil {
			return 0, fmt.Errorf("pinging Redis: %w", err)
		}
		if _, err := br.ReadString('\n'); err != nil {
			return 0, fmt.Errorf("pinging Redis: %w", err)
		}
		all[i] = time.Since(start)
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}
