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

// A reply that comes twice costs the connection, and not the process. What was asked over it
// fails, or is known: nothing is executed twice.
func TestAReplyThatComesTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		replicas int
	}{{"EVALSHA", 0}, {"EVALSHA", 1}, {"WAIT", 1}, {"INFO", 0}} {
		t.Run(fmt.Sprintf("%s with %d replicas", c.name, c.replicas), func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			if c.replicas > 0 {
				redistest.Replica(t, server)
			}
			var twice atomic.Bool
			var connected atomic.Int64
			liar := redistest.NewLiar(t, server.Addr, func(command []string) redistest.Lie {
				if strings.EqualFold(command[0], "HELLO") && command[1] == "3" { // the client library's
					connected.Add(1)
				}
				return redistest.Lie{Twice: strings.EqualFold(command[0], c.name) && twice.CompareAndSwap(true, false)}
			})
			s := open(t, rstore.Config{URL: "redis://" + liar.Addr + "/0", WaitReplicas: c.replicas})
			other := open(t, rstore.Config{URL: server.URL()})
			completed(t, s, "warm-up") // loads the scripts
			before, doubted := connected.Load(), claim("doubted")
			twice.Store(true)
			// Something else may have been under way, and have got a reply of this, or this of it.
			if _, err := s.Acquire(t.Context(), doubted); err != nil &&
				(!errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused)) {
				t.Errorf("%v, want it to be in doubt", err)
			}
			// A reply too many is seen once nothing is under way: hence the pauses.
			for i, deadline := 0, time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
				i++
				fresh := claim(fmt.Sprint("fresh", i))
				out, err := s.Acquire(t.Context(), fresh)
				if err == nil && !twice.Load() && connected.Load() > before {
					if out.Kind != idem.VerdictAcquired {
						t.Errorf("over the next connection: %v", out.Kind)
					}
					acquire(t, other, fresh, idem.VerdictInProgress)
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%v, %d connections made, %d before: it goes on with the one that gave a reply twice", err, connected.Load(), before)
				}
			}
			acquire(t, other, doubted, idem.VerdictInProgress)
		})
	}
}
