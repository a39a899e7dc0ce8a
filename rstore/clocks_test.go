package rstore_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// A replica whose clock differs from its primary's is told of, and nothing is told of one that
// cannot be asked: it may be for nobody but its primary.
func TestReplicasWhoseClocksDiffer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	shows := func(ahead time.Duration) func([]string) redistest.Lie {
		return func(command []string) (lie redistest.Lie) {
			if len(command) == 1 && strings.EqualFold(command[0], "TIME") {
				seconds := fmt.Sprint(time.Now().Add(ahead).Unix())
				lie.Instead = fmt.Appendf(nil, "*2\r\n$%d\r\n%s\r\n$1\r\n0\r\n", len(seconds), seconds)
			}
			return lie
		}
	}
	nonsense := func(command []string) (lie redistest.Lie) {
		if len(command) == 1 && strings.EqualFold(command[0], "TIME") {
			lie.Instead = []byte("+soon\r\n")
		}
		return lie
	}
	deaf := fmt.Sprint("127.0.0.1:", redistest.FreePort(t))
	ahead, behind := redistest.NewLiar(t, server.Addr, shows(time.Hour)), redistest.NewLiar(t, server.Addr, shows(-time.Hour))
	replicas := []string{deaf, redistest.NewLiar(t, server.Addr, nonsense).Addr, server.Addr, ahead.Addr, behind.Addr}
	var info strings.Builder
	_, _ = fmt.Fprintf(&info, "role:master\r\nconnected_slaves:%d\r\n", len(replicas))
	for i, addr := range replicas {
		host, port, _ := net.SplitHostPort(addr)
		_, _ = fmt.Fprintf(&info, "slave%d:ip=%s,port=%s,state=online,offset=1,lag=0\r\n", i, host, port)
	}
	primary := redistest.NewLiar(t, server.Addr, func(command []string) (lie redistest.Lie) {
		if len(command) == 2 && strings.EqualFold(command[0], "INFO") && strings.EqualFold(command[1], "replication") {
			lie.Instead = fmt.Appendf(nil, "$%d\r\n%s\r\n", info.Len(), info.String())
		}
		return lie
	})
	var log lines
	open(t, rstore.Config{URL: "redis://" + primary.Addr + "/0", Logger: zerolog.New(&log)})
	log.await(t, `"setting":"connected_slaves"`) // which is told after the clocks
	if n := log.count(`"event":"store_clock"`); n != 2 {
		t.Errorf("%d clocks are told, want two", n)
	}
	for _, replica := range []*redistest.Liar{ahead, behind} {
		if n := log.count(`"replica":"` + replica.Addr + `"`); n != 1 {
			t.Errorf("%s is told %d times", replica.Addr, n)
		}
	}
}
