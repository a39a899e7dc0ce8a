package sim_test

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

func TestMain(m *testing.M) {
	// fasthttp starts a goroutine that lives for ever at the first use of a response's header;
	// started here it stays out of the bubbles.
	var r fasthttp.Response
	r.Header.Header()
	os.Exit(m.Run())
}

// Whatever clients and operators do, whatever breaks, and in whichever order packets arrive:
// what executes, what clients are told and what a process does are as they should be.
//
// SEED=N plays one episode and prints what happened; EPISODES=n plays so many; KEEP=1 goes on
// after one that fails, and prints no more of it than its seed.
func TestSimulation(t *testing.T) {
	t.Parallel()
	if seed := number(t, "SEED", 0); seed != 0 {
		p := newPlan(seed)
		wrong, log := play(t, p)
		t.Logf("%v\n%s", p, strings.Join(log, "\n"))
		report(t, p, wrong)
		return
	}
	n, first := number(t, "EPISODES", 100), newSeed()
	var next atomic.Uint64
	t.Cleanup(func() { t.Logf("figure: %d episodes, first seed %d", min(next.Load(), n), first) })
	for i := range runtime.GOMAXPROCS(0) {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			for k := next.Add(1) - 1; k < n && !t.Failed(); k = next.Add(1) - 1 {
				p := newPlan(first + k)
				if wrong, _ := play(t, p); len(wrong) > 0 && os.Getenv("KEEP") != "" {
					t.Logf("%d %s", p.seed, wrong[0])
				} else {
					report(t, p, wrong)
				}
			}
		})
	}
}

// number is a variable of the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// report makes a plan that fails as short as it can be, and prints it.
func report(t *testing.T, p *plan, wrong []string) {
	if len(wrong) == 0 {
		return
	}
	short := shrunk(t, p)
	_, log := play(t, short)
	t.Errorf("SEED=%d go test -run TestSimulation ./test/sim\n%s\nthe shortest plan that fails:\n%v%s",
		p.seed, strings.Join(wrong, "\n"), short, strings.Join(log, "\n"))
}

// shrunk leaves out what a plan does not need to fail: halves first, then single acts.
func shrunk(t *testing.T, p *plan) *plan {
	for n := max(len(p.acts)/2, 1); n > 0; n /= 2 {
		for i := 0; i < len(p.acts); {
			fewer := p.without(i, n)
			if wrong, _ := play(t, fewer); len(wrong) > 0 {
				p = fewer
			} else {
				i += n
			}
		}
	}
	return p
}

// A seed gives the same run: the same things happen at the same times. Rarely it does not:
// which of two goroutines that are woken at one instant is the first, nobody can say.
func TestSeedGivesTheSameRun(t *testing.T) {
	t.Parallel()
	first, seeds, differ := newSeed(), uint64(20), 0
	for i := range seeds {
		p := newPlan(first + i)
		_, one := play(t, p)
		_, two := play(t, p)
		slices.Sort(one) // what happens at one instant, at different ends, has no order
		slices.Sort(two)
		if k := differsAt(one, two); k >= 0 {
			differ++
			t.Logf("SEED=%d (%s): two runs differ at line %d:\n%s\n%s", p.seed, p.store, k, line(one, k), line(two, k))
		}
	}
	t.Logf("figure: %d of %d seeds gave two runs that differ", differ, seeds)
	if differ > int(seeds)/4 {
		t.Errorf("%d of %d seeds gave two runs that differ", differ, seeds)
	}
}

func differsAt(one, two []string) int {
	for k := range max(len(one), len(two)) {
		if line(one, k) != line(two, k) {
			return k
		}
	}
	return -1
}

func line(log []string, k int) string {
	if k < len(log) {
		return log[k]
	}
	return "-"
}

// newSeed is a number that a person can type.
func newSeed() uint64 { return uint64(time.Now().UnixMicro() % 1e12) }
