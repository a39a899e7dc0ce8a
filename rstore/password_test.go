package rstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// A Redis that only asks for a password (requirepass) is served, on every connection that
// there is to it; without the right one it is refused, and no password is shown.
func TestAPasswordWithoutAUser(t *testing.T) {
	t.Parallel()
	const password = "hunter2"
	server := redistest.Start(t)
	if err := server.Try("CONFIG", "SET", "requirepass", password); err != nil {
		t.Fatal(err)
	}
	s := open(t, rstore.Config{URL: "redis://:" + password + "@" + server.Addr + "/0"})
	awaitReady(t, s)
	c := claim("k")
	done(t, s, c, &idem.Response{Status: 200})
	acquire(t, s, c, idem.VerdictCompleted)
	for name, user := range map[string]string{"none": "", "another": ":hunter3@", "a user's": "somebody:hunter2@"} {
		var log lines
		s := open(t, rstore.Config{URL: "redis://" + user + server.Addr + "/0", Timeout: time.Second, Logger: zerolog.New(&log)})
		log.await(t, `"event":"store_unreachable"`)
		_, err := s.Acquire(t.Context(), claim("refused"))
		if !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) {
			t.Errorf("%s: %v, want it to be refused", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter") || log.count("hunter") != 0 {
			t.Errorf("%s: a password is shown: %v", name, err)
		}
	}
}

// A Redis that refuses this process has no connection of it for each try: it would run out
// of them, for everybody.
func TestRefusedConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	before, taken := clients(t, server), accepted(t, server)
	var log lines
	s, err := rstore.New(rstore.Config{URL: "redis://nobody:x@" + server.Addr + "/0", Timeout: time.Second, Logger: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); accepted(t, server) < taken+5; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not tried again")
		}
	}
	if n := clients(t, server); n > before+1 { // one is being tried
		t.Errorf("%d connections after five tries, %d before", n, before)
	}
	if n := log.count(`"event":"store_unreachable"`); n < 1 || n > 4 {
		t.Errorf("%d lines of the log say so, want fewer than tries", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// accepted is how many connections the server has ever taken.
func accepted(t *testing.T, server *redistest.Server) (n int) {
	t.Helper()
	m := server.Do("INFO", "stats")
	text, err := m.ToString()
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = strings.Cut(text, "total_connections_received:")
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
