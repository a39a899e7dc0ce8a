package sim_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
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
// SEED=N plays one episode and prints what happened; EPISODES=n plays so many.
func TestSimulation(t *testing.T) {
	if text := os.Getenv("SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		p := newPlan(seed)
		wrong, log := play(t, p)
		t.Logf("%v\n%s", p, strings.Join(log, "\n"))
		report(t, p, wrong)
		return
	}
	n := 100
	if text := os.Getenv("EPISODES"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	first := newSeed()
	t.Logf("first seed %d", first)
	for i := range n {
		p := newPlan(first + uint64(i))
		wrong, _ := play(t, p)
		if len(wrong) > 0 && os.Getenv("KEEP") != "" {
			t.Logf("%d %s", p.seed, wrong[0])
			continue
		}
		if len(wrong) > 0 {
			report(t, p, wrong)
			return
		}
	}
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

// A seed gives the same run: the same things happen at the same times.
func TestSeedGivesTheSameRun(t *testing.T) {
	t.Parallel()
	first := newSeed()
	for i := range uint64(20) {
		p := newPlan(first + i)
		_, one := play(t, p)
		_, two := play(t, p)
		slices.Sort(one) // what happens at one instant, at different ends, has no order
		slices.Sort(two)
		for k := range min(len(one), len(two)) {
			if one[k] != two[k] {
				t.Errorf("SEED=%d (%s): two runs differ at line %d:\n%s\n%s", p.seed, p.store, k, one[k], two[k])
				break
			}
		}
	}
}

// newSeed is a number that a person can type.
func newSeed() uint64 { return uint64(time.Now().UnixMicro() % 1e12) }
