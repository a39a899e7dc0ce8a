package redistest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Group is a primary with its replicas, and the Sentinels that watch them.
type Group struct {
	// URL asks the Sentinels.
	URL string
	// Servers are the primary, at first, and its replicas; Sentinels are three.
	Servers, Sentinels []*Server
}

// Sentinels starts a primary with a replica and three Sentinels that watch them,
// and returns a URL that asks the Sentinels.
func Sentinels(tb testing.TB) (url string, primary, replica *Server) {
	tb.Helper()
	g := SentinelGroup(tb, 1)
	return g.URL, g.Servers[0], g.Servers[1]
}

// SentinelGroup is Sentinels with n replicas. args are added to the servers'.
func SentinelGroup(tb testing.TB, n int, args ...string) *Group {
	tb.Helper()
	g := &Group{Servers: []*Server{Start(tb, args...)}}
	for range n {
		g.Servers = append(g.Servers, Replica(tb, g.Servers[0], args...))
	}
	_, port, _ := net.SplitHostPort(g.Servers[0].Addr)
	for range 3 {
		s := &Server{Addr: fmt.Sprintf("127.0.0.1:%d", FreePort(tb)), tb: tb, dir: tb.TempDir(), sentinel: true}
		_, own, _ := net.SplitHostPort(s.Addr)
		conf := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nlogfile %s/redis.log\nsentinel monitor it 127.0.0.1 %s 2\n"+
			"sentinel down-after-milliseconds it 1000\nsentinel failover-timeout it 5000\n", own, s.dir, s.dir, port)
		if err := os.WriteFile(filepath.Join(s.dir, "sentinel.conf"), []byte(conf), 0o600); err != nil {
			tb.Fatal(err)
		}
		s.Restart()
		tb.Cleanup(s.Kill)
		g.Sentinels = append(g.Sentinels, s)
	}
	g.AwaitWhole()
	s := g.Sentinels
	g.URL = "redis://" + s[0].Addr + "/0?master_set=it&addr=" + s[1].Addr + "&addr=" + s[2].Addr
	return g
}

// Primary is the server that the first Sentinel names.
func (g *Group) Primary() *Server {
	m := g.Sentinels[0].Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "it")
	parts, err := m.AsStrSlice()
	if err != nil || len(parts) != 2 {
		g.Servers[0].tb.Fatalf("asking for the primary: %v, %v", parts, err)
	}
	for _, s := range g.Servers {
		if s.Addr == net.JoinHostPort(parts[0], parts[1]) {
			return s
		}
	}
	g.Servers[0].tb.Fatalf("the Sentinels name %v", parts)
	return nil
}

// AwaitWhole waits until every Sentinel knows the others and all replicas, and
// these are in step with the primary: until a failover can happen.
func (g *Group) AwaitWhole() {
	tb := g.Servers[0].tb
	tb.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if g.whole() {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal("the Sentinels, the primary and its replicas do not find each other")
		}
	}
}

func (g *Group) whole() bool {
	replicas := strconv.Itoa(len(g.Servers) - 1)
	for _, s := range g.Sentinels {
		m := s.Do("SENTINEL", "MASTER", "it")
		fields, err := m.AsStrMap()
		if err != nil || fields["num-slaves"] != replicas || fields["num-other-sentinels"] != "2" || fields["flags"] != "master" {
			return false
		}
	}
	primary, online := 0, 0
	for _, s := range g.Servers {
		fields := s.replication()
		if fields["role"] != "master" {
			continue
		}
		primary++
		for name, value := range fields {
			if strings.HasPrefix(name, "slave") && strings.Contains(value, "state=online") {
				online++
			}
		}
	}
	return primary == 1 && online == len(g.Servers)-1
}
