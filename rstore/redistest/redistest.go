// Package redistest starts real redis-servers for tests: on a free port of
// loopback, in a directory of their own, ended with the test.
package redistest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// Server is one redis-server process.
type Server struct {
	// Addr is its host:port, the same after a restart.
	Addr string

	tb   testing.TB
	dir  string
	args []string
	env  []string

	sentinel bool
	cmd      *exec.Cmd
	done     chan struct{}
}

// Start runs a redis-server; args are added to its command line. It appends to
// a file and syncs each write, so that a killed server comes back with all it
// had acknowledged.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	return StartEnv(tb, nil, args...)
}

// StartEnv is Start with variables added to the server's environment.
func StartEnv(tb testing.TB, env []string, args ...string) *Server {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		tb.Fatal("these tests need a redis-server on PATH: `make test` installs one, or apt-get install redis-server")
	}
	s := &Server{Addr: fmt.Sprintf("127.0.0.1:%d", FreePort(tb)), tb: tb, dir: tb.TempDir(), args: args, env: env}
	s.Restart()
	tb.Cleanup(s.Kill)
	return s
}

// FreePort is a port of loopback that nobody listens on. The system gives out those from 32768
// to whoever wants any: one of them may be somebody else's before it is listened on. So it is
// one below, also with the 10000 that a cluster's bus adds.
func FreePort(tb testing.TB) int {
	tb.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(12000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	tb.Fatal("no port is free")
	return 0
}

// URL is the server's for rstore.Config.
func (s *Server) URL() string { return "redis://" + s.Addr + "/0" }

// Restart runs the server, again perhaps, on the same port and data.
func (s *Server) Restart() {
	s.tb.Helper()
	_, port, _ := net.SplitHostPort(s.Addr)
	log := filepath.Join(s.dir, "redis.log")
	args := append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--logfile", log,
		"--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no",
		"--enable-debug-command", "yes",
	}, s.args...)
	if s.sentinel {
		args = []string{filepath.Join(s.dir, "sentinel.conf"), "--sentinel"}
	}
	s.cmd = exec.Command("redis-server", args...)
	s.cmd.Env = append(os.Environ(), s.env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	s.done = make(chan struct{})
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if s.ping() {
			return
		}
		select {
		case <-s.done:
		default:
			if time.Now().Before(deadline) {
				continue
			}
		}
		text, _ := os.ReadFile(log)
		s.tb.Fatalf("redis-server does not answer: %s", text)
	}
}

func (s *Server) ping() bool {
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 5)
	_, err = conn.Write([]byte("PING\r\n"))
	if err == nil {
		_, err = conn.Read(buf)
	}
	return err == nil && strings.HasPrefix(string(buf), "+PONG")
}

// Kill ends the server at once (SIGKILL) and waits until it is gone. It may be
// repeated.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// Wipe takes away what a killed server has on its disk: it comes back empty.
func (s *Server) Wipe() {
	s.tb.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "appendonlydir")); err != nil {
		s.tb.Fatal(err)
	}
}

// Stall stops the process without ending it (SIGSTOP) until resume is called.
func (s *Server) Stall() (resume func()) {
	_ = s.cmd.Process.Signal(syscall.SIGSTOP)
	return func() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }
}

// IsPrimary says whether the server takes writes; one that does not answer does
// not.
func (s *Server) IsPrimary() bool { return s.ping() && s.replication()["role"] == "master" }

// HasReplica says whether a replica is in step with the server.
func (s *Server) HasReplica() bool {
	return strings.Contains(s.replication()["slave0"], "state=online")
}

// Replicates says whether s is a replica of primary.
func (s *Server) Replicates(primary *Server) bool {
	_, port, _ := net.SplitHostPort(primary.Addr)
	return s.replication()["master_port"] == port
}

func (s *Server) replication() map[string]string {
	fields := map[string]string{}
	m, err := s.ask([]string{"INFO", "replication"})
	if err != nil {
		return fields // a server that changes its role breaks connections
	}
	text, _ := m.ToString()
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		fields[name] = value
	}
	return fields
}

// Do sends one command over a connection of its own; an error ends the test.
func (s *Server) Do(args ...string) rueidis.RedisMessage {
	s.tb.Helper()
	m, err := s.ask(args)
	if err != nil {
		s.tb.Fatalf("%v: %v", args, err)
	}
	return m
}

// Try is Do for a command that may fail.
func (s *Server) Try(args ...string) error {
	_, err := s.ask(args)
	return err
}

func (s *Server) ask(args []string) (m rueidis.RedisMessage, err error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{s.Addr}, ForceSingleClient: true, DisableCache: true, DisableRetry: true,
	})
	if err != nil {
		return m, fmt.Errorf("connecting: %w", err)
	}
	defer client.Close()
	m, err = client.Do(context.Background(), client.B().Arbitrary(args...).Build()).ToMessage()
	if rueidis.IsRedisNil(err) {
		err = nil
	}
	return m, err
}

// Calls is how often each command was called by clients, from INFO
// commandstats. Commands that scripts call are counted under their own names.
func (s *Server) Calls() map[string]int {
	s.tb.Helper()
	message := s.Do("INFO", "commandstats")
	text, err := message.ToString()
	if err != nil {
		s.tb.Fatal(err)
	}
	calls := map[string]int{}
	for line := range strings.Lines(text) {
		var n int
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if !ok {
			continue
		}
		if _, err := fmt.Sscanf(rest, "calls=%d,", &n); err == nil {
			calls[name] = n
		}
	}
	return calls
}

// Clients is how many connections the server has, that of this question included.
func (s *Server) Clients() (n int) {
	s.tb.Helper()
	m := s.Do("INFO", "clients")
	text, _ := m.ToString()
	for line := range strings.Lines(text) {
		if count, ok := strings.CutPrefix(line, "connected_clients:"); ok {
			_, _ = fmt.Sscan(count, &n)
		}
	}
	return n
}

// CPU is the CPU time that the server has used.
func (s *Server) CPU() time.Duration {
	s.tb.Helper()
	message := s.Do("INFO", "cpu")
	text, err := message.ToString()
	if err != nil {
		s.tb.Fatal(err)
	}
	var total float64
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		var v float64
		if _, err := fmt.Sscan(value, &v); err == nil && (name == "used_cpu_user" || name == "used_cpu_sys") {
			total += v
		}
	}
	return time.Duration(total * float64(time.Second))
}

// Cluster starts n nodes as one Redis Cluster without replicas and returns a
// URL for them.
func Cluster(tb testing.TB, n int) (url string, nodes []*Server) {
	tb.Helper()
	url, nodes, _ = ClusterWith(tb, n, 0)
	return url, nodes
}

// ClusterWith is Cluster with so many replicas of each node.
func ClusterWith(tb testing.TB, n, each int) (url string, nodes, replicas []*Server) {
	tb.Helper()
	args := []string{"--cluster", "create", "--cluster-yes", "--cluster-replicas", strconv.Itoa(each)}
	for range n * (1 + each) {
		node := Start(tb, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		nodes = append(nodes, node)
		args = append(args, node.Addr)
	}
	out, err := exec.Command("redis-cli", args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("making the cluster: %v: %s", err, out)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if clusterReady(nodes) {
			break
		}
		if time.Now().After(deadline) {
			tb.Fatal("the cluster does not come up")
		}
	}
	nodes, replicas = nodes[:n], nodes[n:] // as redis-cli has it
	for _, node := range nodes {
		for deadline := time.Now().Add(20 * time.Second); each > 0 && !node.HasReplica(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				tb.Fatal("a node of the cluster has no replica")
			}
		}
	}
	url = "redis://" + nodes[0].Addr + "?"
	for _, node := range nodes[1:] {
		url += "addr=" + node.Addr + "&"
	}
	return strings.TrimSuffix(url, "&"), nodes, replicas
}

// Replica starts a server that replicates primary, and returns once it is in
// step.
func Replica(tb testing.TB, primary *Server, args ...string) *Server {
	tb.Helper()
	_, port, _ := net.SplitHostPort(primary.Addr)
	replica := Start(tb, append(args, "--replicaof", "127.0.0.1 "+port)...)
	_, own, _ := net.SplitHostPort(replica.Addr)
	says := func(s *Server, words ...string) bool {
		m := s.Do("INFO", "replication")
		text, err := m.ToString()
		for _, word := range words {
			if err != nil || !strings.Contains(text, word) {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		// The primary hears of it a moment after the replica does.
		if says(replica, "master_link_status:up") && says(primary, "port="+own+",state=online") {
			return replica
		}
		if time.Now().After(deadline) {
			tb.Fatal("the replica does not get in step")
		}
	}
}

func clusterReady(nodes []*Server) bool {
	for _, node := range nodes {
		message := node.Do("CLUSTER", "INFO")
		text, err := message.ToString()
		if err != nil || !strings.Contains(text, "cluster_state:ok") {
			return false
		}
	}
	return true
}
