package rstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// asserts says whether a command is assert.lua's: two keys, sixteen arguments.
func asserts(command []string) bool { return len(command) == 21 && command[2] == "2" }

// The next primary, or what stands between, answers oddly to some of what it is told: they are
// told again before a key is taken. What is refused for good keeps nobody from using it.
func TestWhatIsAnsweredOddlyIsToldAgain(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{"+OK\r\n", "$-1\r\n", "*0\r\n", "-ERR what is this?\r\n", "-NOPERM not you\r\n"} {
		t.Run(fmt.Sprintf("%.4q", reply), func(t *testing.T) {
			t.Parallel()
			const keys = 20
			var lies atomic.Int64
			lies.Store(keys / 4)
			first, second := redistest.Start(t), redistest.Start(t)
			liar := redistest.NewLiar(t, first.Addr, func(command []string) (lie redistest.Lie) {
				if asserts(command) && lies.Add(-1) >= 0 {
					lie.Instead = []byte(reply)
				}
				return lie
			})
			var log lines
			s := open(t, rstore.Config{URL: "redis://" + liar.Addr + "/0", Logger: zerolog.New(&log)})
			var all []idem.Claim
			for i := range keys {
				all = append(all, completed(t, s, fmt.Sprint("key ", i)))
			}
			liar.Lead(second.Addr)
			log.await(t, fmt.Sprintf(`"restored":%d,"advanced":0,"conflicts":0,"failed":0`, keys))
			elsewhere := open(t, rstore.Config{URL: second.URL()})
			for _, c := range all {
				acquire(t, elsewhere, c, idem.VerdictCompleted)
			}

			lies.Store(1 << 30)
			liar.Lead(first.Addr)
			log.await(t, fmt.Sprintf(`"failed":%d`, keys))
			awaitReady(t, s)
		})
	}
}
