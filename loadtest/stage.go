package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/internal/backend"
)

// stage is what is attacked.
type stage struct {
	target string
	count  func(key string) (int, error)
	close  func() error
	wires  []*wire
}

// startRedis runs a redis-server, which ends with this process.
func startRedis(dir string) (*exec.Cmd, string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("a port for Redis: %w", err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "") //nolint:gosec // ours
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, "", fmt.Errorf("starting Redis: %w", err)
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			return cmd, "redis://" + addr + "/0", nil
		}
	}
	return nil, "", errors.New("redis-server does not answer")
}

// configure is the configuration of the proxy to start, with the Redis and the
// wires that it names running.
func (s *stage) configure(sc scenario, store, dir, backend string) (c config.Config, redis *exec.Cmd, err error) {
	c = config.Default()
	c.Listen, c.Admin, c.Backends, c.Store = []string{"127.0.0.1:0"}, "", []string{"http://" + backend}, "embedded:"+dir
	if store == "redis" {
		if redis, c.Store, err = startRedis(dir); err != nil {
			return c, nil, err
		}
	} else if store != "" {
		c.Store = store
	}
	if sc.proxy != nil {
		sc.proxy(&c)
	}
	if sc.chaos {
		err = s.addChaos(&c)
	}
	return c, redis, err
}

// localStage starts a proxy and a demo backend in this process, with faults on
// the wires between them if chaos is asked for.
func localStage(store string, s scenario) (*stage, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("the demo backend: %w", err)
	}
	demo := backend.New()
	go func() { _ = demo.Serve(ln) }() // ends with its listener
	dir, err := os.MkdirTemp("", "idemproxy-loadtest")
	if err != nil {
		return nil, fmt.Errorf("a directory for the store: %w", err)
	}
	st := &stage{count: func(key string) (int, error) { return demo.Count(key).Started, nil }}
	c, redis, err := st.configure(s, store, dir, ln.Addr().String())
	if err != nil {
		return nil, err
	}
	a, err := app.New(c, zerolog.New(os.Stderr).Level(zerolog.ErrorLevel))
	if err != nil {
		return nil, fmt.Errorf("the proxy: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	st.target = a.URL()
	st.close = func() error {
		stop()
		err := <-done
		for _, w := range st.wires {
			w.proxy.Stop()
		}
		if redis != nil {
			_ = redis.Process.Kill()
			_ = redis.Wait()
		}
		_ = ln.Close()
		_ = os.RemoveAll(dir)
		return err
	}
	return st, nil
}
