package rstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// A store that was closed holds none of the server's connections, whatever it did before: a
// process that is asked to end, or that changes its store, leaves them to others.
func TestCloseLeavesNoConnection(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	redistest.Replica(t, primary)
	for name, c := range map[string]rstore.Config{
		"alone": {URL: primary.URL()}, "with replicas": {URL: primary.URL(), WaitReplicas: 1},
	} {
		before := clients(t, primary)
		s, err := rstore.New(c)
		if err != nil {
			t.Fatal(err)
		}
		awaitReady(t, s)
		claim := claim(name)
		done(t, s, claim, &idem.Response{Status: 200})
		if n := clients(t, primary); n <= before {
			t.Errorf("%s: %d connections while it is used, %d before", name, n, before)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); clients(t, primary) > before; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d connections after Close, %d before", name, clients(t, primary), before)
			}
		}
	}
}

// clients are how many connections a server has, but for those of replicas.
func clients(t *testing.T, server *redistest.Server) int {
	t.Helper()
	m := server.Do("CLIENT", "LIST", "TYPE", "NORMAL")
	text, err := m.ToString()
	if err != nil {
		t.Fatal(err)
	}
	m = server.Do("CLIENT", "LIST", "TYPE", "PUBSUB")
	more, err := m.ToString()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(text, "\n") + strings.Count(more, "\n")
}
