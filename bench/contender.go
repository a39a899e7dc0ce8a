package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// contender is a process to be measured.
type contender struct {
	name    string
	needs   string // a program of the system's
	command func(s *stage, port int) []string
	cmd     *exec.Cmd
	addr    string
	missing bool
}

// stage is what the contenders share.
type stage struct {
	bin, dir, backend, redis, socket string
	children                         []*exec.Cmd
	behind                           *exec.Cmd // the backend
	stores                           int
	postgres                         string   // a URL, once somebody needed it: see postgresURL
	withStandby                      string   // likewise: see standbyURL
	redisFlushed                     string   // an address, likewise: see flushed
	closing                          []func() // last to first
}

func contenders() []*contender { //nolint:funlen // a table
	rival := func(kind string) func(*stage, int) []string {
		return func(s *stage, port int) []string {
			return []string{filepath.Join(s.bin, "rival"), kind, "-listen", local(port), "-backend", s.backend, "-redis", s.redis}
		}
	}
	of := func(build string, store func(*stage) string, extra ...string) func(*stage, int) []string {
		return func(s *stage, port int) []string {
			return append([]string{
				filepath.Join(s.bin, build), "--listen", local(port), "--admin", "", "--backend", "http://" + s.backend,
				"--store", store(s), "--log-level", "error",
			}, extra...)
		}
	}
	idemproxy := func(store func(*stage) string, extra ...string) func(*stage, int) []string {
		return of("idemproxy", store, extra...)
	}
	embedded := func(s *stage) string {
		s.stores++ // a fresh one each time
		return fmt.Sprintf("embedded:%s", filepath.Join(s.dir, fmt.Sprint("store", s.stores)))
	}
	onRedis := func(s *stage) string { return "redis://" + s.redis + "/0" }
	onFlushed := func(s *stage) string { return "redis://" + s.redisFlushed + "/0" }
	inPostgres := func(s *stage) string { return s.postgres }
	inPair := func(s *stage) string { return s.withStandby }
	static := func(size string) func(*stage, int) []string {
		return func(s *stage, port int) []string {
			return []string{filepath.Join(s.bin, "rival"), "static", "-listen", local(port), "-size", size}
		}
	}
	return []*contender{
		{name: "backend direct"},
		{name: "static answer", command: static("286")},
		{name: "static 16 KiB", command: static("16384")},
		{name: "static 256 KiB", command: static("262144")},
		{name: "nginx, 1 worker", needs: "nginx", command: nginx},
		{name: "haproxy, 1 thread", needs: "haproxy", command: haproxy},
		{name: bare, command: rival("bare")},
		{name: "httputil.ReverseProxy", command: rival("httputil")},
		{name: "textbook", command: rival("textbook")},
		{name: "fiber + idempotency", command: rival("fiber")},
		{name: floorRedis, command: rival("floor-redis")},
		{name: floorScripts, command: rival("floor-scripts")},
		{name: floorGet, command: rival("floor-get")},
		{name: floorDisk, command: func(s *stage, port int) []string {
			return append(rival("floor-disk")(s, port), "-dir", s.dir)
		}},
		{name: onRedisTCP, command: idemproxy(onRedis)},
		{name: onRedisUnix, command: idemproxy(func(s *stage) string { return "unix://" + s.socket })},
		{name: floorPostgres, needs: postgres, command: func(s *stage, port int) []string {
			return append(rival("floor-postgres")(s, port), "-postgres", s.postgres)
		}},
		{name: onPostgres, needs: postgres, command: idemproxy(inPostgres)},
		{name: onPair, needs: postgresPair, command: idemproxy(inPair)},
		{name: coldPair, needs: postgresPair, command: idemproxy(inPair, "--cache-size", "1B")},
		{name: onRedisAlways, needs: flushedRedis, command: idemproxy(onFlushed)},
		// A cache that holds nothing: every replay asks the store.
		{name: coldRedis, command: idemproxy(onRedis, "--cache-size", "1B")},
		{name: coldAlways, needs: flushedRedis, command: idemproxy(onFlushed, "--cache-size", "1B")},
		{name: coldPostgres, needs: postgres, command: idemproxy(inPostgres, "--cache-size", "1B")},
		{name: coldDisk, command: idemproxy(embedded, "--cache-size", "1B")},
		{name: onDisk, command: idemproxy(embedded)},
		{name: beforeOnRedis, needs: baseline, command: of(baseline, onRedis)},
		{name: beforeOnDisk, needs: baseline, command: of(baseline, embedded)},
	}
}

// Names of contenders that figures and goals are about. Those of an earlier build, of
// the commit in bench/baseline, run beside this one.
const (
	bare          = "bare fasthttp"
	floorRedis    = "floor: bare + two SETs"
	floorScripts  = "floor: bare + two SETs by script"
	floorGet      = "floor: one GET"
	floorDisk     = "floor: bare + two fdatasyncs"
	onRedisTCP    = "IdemProxy, Redis TCP"
	onRedisUnix   = "IdemProxy, Redis unix"
	onDisk        = "IdemProxy, embedded"
	floorPostgres = "floor: bare + two rows"
	onPostgres    = "IdemProxy, PostgreSQL"
	beforeOnRedis = "before: Redis TCP"
	beforeOnDisk  = "before: embedded"
	// baseline is the earlier build's program, beside this one's.
	baseline = "baseline/idemproxy"
	// postgres is a server that the stage starts.
	postgres = "PostgreSQL"
)

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// nginx works in the process that is started, and not in a child of it, which would
// outlive it when it is killed, and whose CPU time nobody would count.
func nginx(s *stage, port int) []string {
	conf := filepath.Join(s.dir, "nginx.conf")
	text := fmt.Sprintf(`master_process off; daemon off; pid %s/nginx.pid; error_log /dev/null crit;
events { worker_connections 8192; }
http { access_log off; client_body_temp_path %s; proxy_temp_path %s; keepalive_requests 1000000000;
  upstream b { server %s; keepalive 1024; keepalive_requests 1000000000; }
  server { listen %s; location / { proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ""; } } }
`, s.dir, s.dir, s.dir, s.backend, local(port))
	_ = os.WriteFile(conf, []byte(text), 0o600)
	return []string{"nginx", "-p", s.dir, "-c", conf}
}

func haproxy(s *stage, port int) []string {
	conf := filepath.Join(s.dir, "haproxy.cfg")
	text := fmt.Sprintf(`global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
listen l
  bind %s
  server b %s
`, local(port), s.backend)
	_ = os.WriteFile(conf, []byte(text), 0o600)
	return []string{"haproxy", "-db", "-f", conf}
}

// start runs the contender and waits until it answers.
func (c *contender) start(ctx context.Context, s *stage) error {
	if c.command == nil {
		c.addr = s.backend
		return nil
	}
	if err := c.find(ctx, s); err != nil || c.missing {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	c.addr = local(port)
	c.cmd, err = s.run(ctx, c.command(s, port)...)
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return answers(ctx, c.name, "http://"+c.addr+"/")
}

// find looks for what the contender needs, and starts it where it is a server of the stage.
// If it is missing, the contender's rows say "not installed".
func (c *contender) find(ctx context.Context, s *stage) error {
	switch c.needs {
	case "":
		return nil
	case flushedRedis:
		return s.flushed(ctx)
	case postgres, postgresPair:
		start := s.postgresURL
		if c.needs == postgresPair {
			start = s.standbyURL
		}
		_, err := start(ctx)
		if errors.Is(err, errNoPostgres) {
			c.missing, err = true, nil
		}
		return err
	}
	program := c.needs
	if program == baseline {
		program = filepath.Join(s.bin, baseline)
	}
	_, err := exec.LookPath(program)
	c.missing = err != nil
	return nil
}

func (c *contender) stop() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		c.cmd = nil
	}
}

// run starts a process that ends with this one.
func (s *stage) run(ctx context.Context, args ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // our own list
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", args[0], err)
	}
	s.children = append(s.children, cmd)
	return cmd, nil
}

func answers(ctx context.Context, name, url string) error {
	deadline := time.Now().Add(20 * time.Second)
	for ; time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			return nil
		}
	}
	return fmt.Errorf("%s does not answer", name)
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("a free port: %w", err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port, nil //nolint:forcetypeassert // of a TCP listener
}
