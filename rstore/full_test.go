package rstore_test

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// A Redis that has as many clients as it may have says so to the next one, and hangs up: its
// user reads that, and not that a connection ended.
func TestARedisThatHangsUpSaysWhy(t *testing.T) {
	t.Parallel()
	const most = 5
	server := redistest.Start(t, "--maxclients", strconv.Itoa(most))
	for range most {
		conn, err := net.Dial("tcp", server.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	s := open(t, rstore.Config{URL: server.URL(), Timeout: 10 * time.Second})
	if err := s.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "max number of clients") {
		t.Error(err)
	}
}

// So does a server of a Cluster, which is connected to by its slots.
func TestAClusterOfWhichOneHangsUpSaysWhy(t *testing.T) {
	t.Parallel()
	url, nodes := redistest.Cluster(t, 3)
	full := nodes[1]
	full.Do("CONFIG", "SET", "maxclients", strconv.Itoa(full.Clients()+3))
	for range 10 {
		conn, err := net.Dial("tcp", full.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	s := open(t, rstore.Config{URL: url, Timeout: 10 * time.Second})
	if err := s.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "max number of clients") {
		t.Error(err)
	}
}
