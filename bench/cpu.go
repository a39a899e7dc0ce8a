package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// meter reads CPU time: of a contender's process, and of Redis if it is among those that
// use it.
type meter struct {
	pid   int
	redis string // address; empty: not asked
}

// usage is CPU time in seconds.
type usage struct{ own, redis float64 }

func (s *stage) meter(c *contender) meter {
	m := meter{}
	if c.cmd != nil {
		m.pid = c.cmd.Process.Pid
	}
	switch c.name {
	case floorRedis, floorScripts, floorGet, "textbook", onRedisTCP, onRedisUnix, coldRedis, beforeOnRedis:
		m.redis = s.redis
	}
	return m
}

func (m meter) read() (u usage, err error) {
	if m.pid > 0 {
		if u.own, err = cpuOf(m.pid); err != nil {
			return u, err
		}
	}
	if m.redis != "" {
		cpu, err := redisInfo(m.redis, "cpu")
		if err != nil {
			return u, err
		}
		u.redis = cpu["used_cpu_user"] + cpu["used_cpu_sys"]
	}
	return u, nil
}

// per has the sample say what each of its requests took.
func (s *sample) per(before, after usage) {
	if s.Requests > 0 {
		s.CPU = (after.own - before.own) / float64(s.Requests)
		s.Redis = (after.redis - before.redis) / float64(s.Requests)
	}
}

// ticks a second, of every Linux that Go runs on.
const ticks = 100

// cpuOf is a process's CPU time, user and system (proc(5): fields 14 and 15 of stat,
// counted behind the name, which may have spaces).
func cpuOf(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("CPU time: %w", err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("CPU time: /proc/%d/stat has %d fields", pid, len(fields))
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / ticks, errors.Join(err1, err2)
}
