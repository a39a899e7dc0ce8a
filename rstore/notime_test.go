package rstore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// What is no time is not taken for one, and ends nothing but the question: whoever needs the
// server's clock is told that the store is not there.
func TestWhatIsNoTimeIsRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var said atomic.Value
	said.Store("")
	liar := redistest.NewLiar(t, server.Addr, func(command []string) (lie redistest.Lie) {
		if instead, _ := said.Load().(string); instead != "" && strings.EqualFold(command[0], "TIME") {
			lie.Instead = []byte(instead)
		}
		return lie
	})
	s := open(t, rstore.Config{URL: "redis://" + liar.Addr + "/0"})
	completed(t, s, "k")
	for _, instead := range []string{
		"*0\r\n", "*1\r\n$1\r\n1\r\n", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n", "*2\r\n$4\r\nsoon\r\n$1\r\n0\r\n",
		"*2\r\n$1\r\n1\r\n$4\r\nlate\r\n", "-ERR no\r\n", "+OK\r\n",
	} {
		said.Store(instead)
		if _, err := s.Entries(t.Context()); !errors.Is(err, idem.ErrUnavailable) {
			t.Errorf("entries, at %q: %v", instead, err)
		}
		if err := s.List(t.Context(), func(*idem.Record) bool { return true }); !errors.Is(err, idem.ErrUnavailable) {
			t.Errorf("a list, at %q: %v", instead, err)
		}
	}
	said.Store("")
	if _, err := s.Entries(t.Context()); err != nil {
		t.Error(err)
	}
}

// What has ended is told by the server's clock, not by this process's: that of an entry of the
// registry, and that of a lease in a list.
func TestTheServersClockTellsWhatHasEnded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var ahead atomic.Int64
	liar := redistest.NewLiar(t, server.Addr, func(command []string) (lie redistest.Lie) {
		if strings.EqualFold(command[0], "TIME") {
			seconds := fmt.Sprint(time.Now().Add(time.Duration(ahead.Load())).Unix())
			lie.Instead = fmt.Appendf(nil, "*2\r\n$%d\r\n%s\r\n$6\r\n123456\r\n", len(seconds), seconds)
		}
		return lie
	})
	s := open(t, rstore.Config{URL: "redis://" + liar.Addr + "/0"})
	if err := errors.Join(s.Enter(t.Context(), "short", "x", time.Minute), s.Enter(t.Context(), "long", "x", 24*time.Hour),
		s.Enter(t.Context(), "for ever", "x", 0)); err != nil {
		t.Fatal(err)
	}
	running := claim("running")
	running.TTL, running.HoldOnLapse = time.Minute, true
	must(t, s, running)
	for _, by := range []time.Duration{0, time.Hour} {
		ahead.Store(int64(by))
		entries, err := s.Entries(t.Context())
		if err != nil || len(entries) != 3 {
			t.Fatalf("%v, %v", entries, err)
		}
		for _, e := range entries {
			if want := by > 0 && e.Name == "short"; e.Ended != want {
				t.Errorf("%v later: %s has ended: %v", by, e.Name, e.Ended)
			}
		}
		want := map[time.Duration]idem.State{0: idem.InProgress, time.Hour: idem.Unknown}[by]
		var states []idem.State
		if err := s.List(t.Context(), func(r *idem.Record) bool { states = append(states, r.State); return true }); err != nil ||
			len(states) != 1 || states[0] != want {
			t.Errorf("%v later the list has %v, want %v; %v", by, states, want, err)
		}
	}
}
