package rstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// What a stranger is told of a key does not depend on the response that is kept
// under it: neither in what it says nor in how many bytes Redis has to read and
// send for it, and so in how long it takes.
func TestMismatchTellsNothing(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	s := open(t, rstore.Config{URL: redis.URL()})
	ctx := context.Background()
	sent := func() (n int) {
		m := redis.Do("INFO", "stats")
		text, _ := m.ToString()
		_, rest, _ := strings.Cut(text, "total_net_output_bytes:")
		if _, err := fmt.Sscan(rest, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	var said [2]idem.Outcome
	var bytes [2]int
	for i, size := range []int{1, 1 << 20} {
		c := claim(fmt.Sprint("key-", i))
		if _, err := s.Acquire(ctx, c); err != nil {
			t.Fatal(err)
		}
		if err := s.Complete(ctx, c.Lease(), &idem.Response{Status: 200, Body: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
		stranger := c
		stranger.Owner, stranger.Binding = idem.NewOwner(), idem.Binding{1}
		before := sent()
		out, err := s.Acquire(ctx, stranger)
		if err != nil {
			t.Fatal(err)
		}
		bytes[i], said[i] = sent()-before, out
	}
	if said[0] != said[1] || said[0].Kind != idem.VerdictMismatch || said[0].Response != nil {
		t.Errorf("%+v and %+v", said[0], said[1])
	}
	// INFO's own answer is in both, and differs by some digits.
	if d := bytes[1] - bytes[0]; d > 64 || d < -64 {
		t.Errorf("%d bytes for a response of 1 byte, %d for one of 1 MiB", bytes[0], bytes[1])
	}
}
