package rstore_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

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
