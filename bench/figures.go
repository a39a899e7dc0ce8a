package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// figures are what is measured once: start, size, memory.
func (r *results) figures(ctx context.Context, s *stage, o options) error {
	fmt.Println("figures")
	info, err := os.Stat(filepath.Join(s.bin, "idemproxy"))
	if err != nil {
		return fmt.Errorf("the binary: %w", err)
	}
	r.Numbers[binarySize] = float64(info.Size()) / (1 << 20)
	r.figure(binarySize, fmt.Sprintf("%.1f MiB", r.Numbers[binarySize]))
	for _, c := range contenders() {
		if c.name != bare && c.name != onRedisTCP && c.name != onDisk {
			continue
		}
		if err := r.memory(ctx, s, c); err != nil {
			return err
		}
	}
	if r.Missing["wrk"] {
		return nil
	}
	return errors.Join(r.costs(ctx, s), r.scaling(ctx, s, o))
}

// memory measures how soon a contender answers, and its memory at rest and with idle connections.
func (r *results) memory(ctx context.Context, s *stage, c *contender) error {
	admin, err := "", error(nil)
	if c.name != bare {
		if admin, err = c.administered(); err != nil {
			return err
		}
	}
	start := time.Now()
	if err := c.start(ctx, s); err != nil {
		return err
	}
	defer c.stop()
	r.figure(c.name+": first answer after", time.Since(start).Round(time.Millisecond).String())
	before, err1 := rss(c.cmd.Process.Pid)
	conns, err2 := idle(c.addr, idleConnections)
	after, err3 := rss(c.cmd.Process.Pid)
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	r.figure(c.name+": RSS at rest", fmt.Sprintf("%d MiB", before>>20))
	r.figure(idleOf(c.name), fmt.Sprintf("%d MiB", after>>20))
	r.Numbers[idleOf(c.name)] = float64(after) / (1 << 20)
	if admin == "" {
		return nil
	}
	of, err := madeOf(ctx, admin)
	r.figure(idleParts(c.name), fmt.Sprintf("at rest: %d MiB; for each connection: %.1f KiB; %s",
		before>>20, float64(after-before)/1024/idleConnections, of))
	return err
}

const idleConnections = 10_000

func (r *results) figure(name, value string) {
	fmt.Printf("  %s: %s\n", name, value)
	r.Figures = append(r.Figures, [2]string{name, value})
}

// idle opens connections, each of which has made one request.
func idle(addr string, n int) (conns []net.Conn, err error) {
	buf := make([]byte, 4096)
	for range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return conns, fmt.Errorf("connection %d: %w (is the limit of open files high enough?)", len(conns), err)
		}
		conns = append(conns, conn)
		if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: bench\r\n\r\n")); err != nil {
			return conns, fmt.Errorf("connection %d: %w", len(conns), err)
		}
		if _, err := conn.Read(buf); err != nil {
			return conns, fmt.Errorf("connection %d: %w", len(conns), err)
		}
	}
	return conns, nil
}

// rss is a process's resident memory in bytes.
func rss(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	fields := strings.Fields(string(text))
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	return pages * int64(os.Getpagesize()), nil
}
