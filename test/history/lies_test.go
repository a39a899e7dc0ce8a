package history

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// lieTimeout is for how long a store waits for a Redis that lies.
const lieTimeout = 200 * time.Millisecond

// readOnly is what a replica answers to a script that writes.
const readOnly = "-READONLY You can't write against a read only replica.\r\n"

// lies draws what a Redis does about the commands of the stores. Which of them it is lied to
// depends on how they come, so that a seed does not repeat a run to the letter.
type lies struct {
	mu   sync.Mutex
	rand *rand.Rand     // guarded by mu
	one  int            // of so many commands is lied to; 0: none. Guarded by mu
	told map[string]int // guarded by mu
	// renewals has the lies be about renewals too, which the stores believe.
	renewals bool
}

func newLies(seed uint64, one int) *lies {
	return &lies{rand: rand.New(rand.NewPCG(seed, 0)), one: one, told: map[string]int{}}
}

// lie is asked by the liar. A connection's greeting is another matter: see redistest.Liar.Pose.
func (l *lies) lie(command []string) redistest.Lie {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := strings.ToUpper(command[0])
	if l.renewals && renews(command) && l.one > 0 && l.rand.IntN(10) == 0 {
		l.told["renewals that were not done"]++
		return redistest.Lie{Instead: []byte(":6\r\n")}
	}
	if name != "EVALSHA" && name != "EVAL" && name != "MGET" || l.one == 0 || l.rand.IntN(l.one) > 0 {
		return redistest.Lie{}
	}
	kind, lie := l.draw()
	l.told[kind]++
	return lie
}

func (l *lies) draw() (kind string, lie redistest.Lie) {
	switch l.rand.IntN(6) {
	case 0:
		return "replies after the time-out", redistest.Lie{Late: lieTimeout + time.Duration(l.rand.IntN(100))*time.Millisecond}
	case 1:
		return "late replies", redistest.Lie{Late: time.Duration(l.rand.IntN(int(lieTimeout)))}
	case 2:
		return "replies that were cut", redistest.Lie{Cut: 1 + l.rand.IntN(200)}
	case 3:
		return "READONLY, and it was done", redistest.Lie{Says: []byte(readOnly)}
	case 4:
		odd := [...]string{"+OK\r\n", "$-1\r\n", "$2\r\nOK\r\n", "*0\r\n", "-ERR what is this?\r\n", "-NOSCRIPT There is none.\r\n"}
		return "replies of another kind", redistest.Lie{Instead: []byte(odd[l.rand.IntN(len(odd))])}
	default:
		return "READONLY", redistest.Lie{Instead: []byte(readOnly)}
	}
}

// renews says whether a command is settle.lua's for a renewal: one key, six arguments.
func renews(command []string) bool {
	return len(command) == 10 && command[2] == "1" && command[4] == "1"
}

// figures logs how often each lie was told, and fails for one that was not, unless the test is a
// short one.
func (l *lies) figures(t *testing.T, want ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range want {
		if l.told[kind] == 0 && !testing.Short() {
			t.Errorf("no %s: the lies did not come through", kind)
		}
	}
	t.Logf("figure: lies: %v", l.told)
}

// allLies are those of histories, in which nobody renews.
func allLies() []string {
	return []string{
		"replies after the time-out", "late replies", "replies that were cut", "READONLY, and it was done", "READONLY",
		"replies of another kind",
	}
}

func lyingStore(t *testing.T, liar *redistest.Liar) *rstore.Store {
	t.Helper()
	s, err := rstore.New(rstore.Config{URL: "redis://" + liar.Addr + "/0", Timeout: lieTimeout, Journal: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s)
	return s
}

// Two proxies, each with a Redis that lies to it: whatever they are told, it is what the state
// machine allows, or an error.
func TestLyingRedis(t *testing.T) {
	t.Parallel()
	server, seed := redistest.Start(t, "--appendfsync", "no"), firstSeed()
	t.Logf("the lies' seed is %d", seed)
	l := newLies(seed, 150)
	var all []store
	var liars []*redistest.Liar
	for range 2 {
		liars = append(liars, redistest.NewLiar(t, server.Addr, l.lie))
		all = append(all, lyingStore(t, liars[len(liars)-1]))
	}
	for round := range uint64(3) {
		historiesFrom(t, seed+round<<20, count(20), world{processes: all, lag: time.Second, lies: true})
		for _, liar := range liars { // while nobody asks anything: see docs/redis.md
			liar.Unasked("+OK\r\n")
		}
		for _, s := range all {
			awaitReady(t, s)
		}
	}
	l.figures(t, allLies()...)
}
