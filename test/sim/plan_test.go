package sim_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// waiting is what becomes of a request whose key is in progress.
type waiting uint8

const (
	rejects waiting = iota
	waits
	joins
)

var waitings = [...]string{"reject", "wait", "join"}

// plan is all that is done in an episode. It is made of a seed, and can be made shorter.
type plan struct {
	seed    uint64
	store   string
	proxies int
	policy  idem.Ambiguity
	waiting waiting
	recipes []int // that processes start with
	acts    []act
	still   time.Duration // after the last act, until all is healed
}

// act is one thing that is done, some time after the one before it.
type act struct {
	after    time.Duration
	kind     kind
	key      int
	payload  int
	proxy    int
	end      ending
	delay    time.Duration
	wait     time.Duration
	patience time.Duration
	way      way
	part     part
	weather  weather
	waiting  waiting
	server   server
	recipe   int
	registry registry
	blind    bool // of an operator: whichever attempt it is
	tries    int  // of a client
	crowd    int  // how many clients do so
	gap      time.Duration
	upon     moment // of the key, which it is done at
	// An operator hesitates until a moment between a look and an act, and is away between the
	// two steps of the act itself.
	hesitates, away moment
	hurried         bool // nothing else keeps an operator from acting
}

// server is what is done to Redis.
type server uint8

const (
	served server = iota // it is as it should be
	readOnly
	full
	restarted
	forgetful // of scripts
	flushed
	later // its clock is set forward by a minute
	earlier
)

var servers = [...]string{"works", "takes no writes", "is full", "is restarted", "forgets its scripts", "is flushed", "is set forward", "is set back"}

type kind uint8

const (
	sends kind = iota
	asks
	takes    // an operator releases the key
	retries  // an operator resolves the key: not executed
	answered // an operator resolves the key with a response
	purges
	kills
	stops // as by SIGTERM
	reloads
	storeIs
	backendIs
	mutes  // the receipts' endpoint fails, or answers again
	linkIs // of a proxy to Redis
	redisIs
	registryIs
)

var kindNames = [...]string{"sends", "asks", "takes", "resolves: retry", "resolves: response", "purges", "kills", "stops", "reloads", "store is", "backend is", "receipts", "Redis link is", "Redis", "registry"}

func (a act) String() string {
	text := fmt.Sprintf("+%v %s", a.after, kindNames[a.kind])
	if a.upon != anytime {
		text = fmt.Sprintf("%s of k%d, %s", moments[a.upon], a.key, text)
	}
	switch a.kind {
	case sends:
		text += fmt.Sprintf(" k%d to p%d, payload %d, wait %v, patience %v, %d times, %d of them %v apart; %s after %v",
			a.key, a.proxy, a.payload, a.wait, a.patience, a.tries, a.crowd, a.gap, endings[a.end], a.delay)
	case asks:
		text += fmt.Sprintf(" k%d at p%d, %d times", a.key, a.proxy, a.tries)
	case takes, retries, answered, purges:
		text += fmt.Sprintf(" k%d at p%d, blind %v, after %v, hesitates: %s, is away: %s",
			a.key, a.proxy, a.blind, a.delay, moments[a.hesitates], moments[a.away])
	case storeIs:
		text += fmt.Sprintf(" %s%s for p%d", ways[a.way], parts[a.part], a.proxy)
	case registryIs:
		text += fmt.Sprintf(" %s for p%d", registries[a.registry], a.proxy)
	case redisIs:
		text += " " + servers[a.server]
	case backendIs, linkIs:
		text += fmt.Sprintf(" %d for p%d", a.weather, a.proxy)
	case reloads:
		text += fmt.Sprintf(" p%d to %s, recipe %d", a.proxy, waitings[a.waiting], a.recipe)
	default:
		text += fmt.Sprintf(" p%d", a.proxy)
	}
	return text
}

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "store %s, %d proxies, on_ambiguous %v, in_progress %s, recipes %v, still for %v\n",
		p.store, p.proxies, p.policy, waitings[p.waiting], p.recipes, p.still)
	for _, a := range p.acts {
		fmt.Fprintf(&b, "  %v\n", a)
	}
	return b.String()
}

// oneOf picks one; those that are given twice are picked twice as often.
func oneOf[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

// newPlan makes the plan of a seed.
func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := &plan{
		seed: seed, store: oneOf(r, "memory", "embedded", "redis", "redis"), proxies: 1,
		policy:  oneOf(r, idem.AmbiguousRelease, idem.AmbiguousHold, idem.AmbiguousSettle),
		waiting: oneOf(r, rejects, waits, waits, joins),
		still:   oneOf(r, 0, 0, 5*time.Second, 40*time.Second, 90*time.Second),
		recipes: []int{r.IntN(recipeCount), r.IntN(recipeCount)},
	}
	if r.IntN(2) == 0 {
		p.tell(r)
		return p
	}
	if p.store != "embedded" {
		p.proxies = oneOf(r, 1, 2, 2)
	}
	// What breaks in an episode: nothing, one kind of thing, or anything. What does not break much
	// is judged more strictly.
	all := []kind{
		kills, kills, stops, storeIs, backendIs, linkIs, redisIs, mutes, reloads, registryIs,
		takes, retries, answered, purges,
	}
	var breaks []kind
	switch r.IntN(4) {
	case 0:
	case 1, 2:
		breaks = []kind{oneOf(r, all...), oneOf(r, all...)}
	default:
		breaks = all
	}
	p.improvise(r, 3+r.IntN(18), breaks)
	return p
}

// improvise appends acts that know nothing of each other.
func (p *plan) improvise(r *rand.Rand, n int, breaks []kind) {
	calm := r.IntN(3) == 0 // all backends answer
	pace := oneOf(r, leisurely, leisurely, brisk)
	crowded := r.IntN(2) == 0 // all of it is about one key
	for range n {
		a := randomAct(r, p, calm)
		a.after = oneOf(r, pace...)
		if crowded {
			a.key = 0
		}
		if len(breaks) > 0 && r.IntN(3) == 0 {
			a.kind = oneOf(r, breaks...)
		} else if r.IntN(5) == 0 {
			a.kind = asks
		}
		p.acts = append(p.acts, a)
	}
}

// Times between two acts.
var (
	leisurely = []time.Duration{0, 0, time.Millisecond, 100 * time.Millisecond, time.Second, 4 * time.Second, 12 * time.Second, 45 * time.Second}
	brisk     = []time.Duration{0, 0, 20 * time.Microsecond, time.Millisecond, 50 * time.Millisecond, time.Second, 5 * time.Second}
)

func randomAct(r *rand.Rand, p *plan, calm bool) act {
	a := act{
		key: oneOf(r, 0, 0, 0, 1, 1, 1, 2, 3), proxy: r.IntN(p.proxies),
		end:      oneOf(r, answers, answers, answers, pieces, pieces, cuts, halves, isBusy, isSilent),
		delay:    oneOf(r, 0, 0, 50*time.Millisecond, 2*time.Second, 15*time.Second, 35*time.Second),
		wait:     oneOf(r, -1, -1, 0, time.Second, 20*time.Second, 60*time.Second),
		patience: oneOf(r, longestPatience, longestPatience, longestPatience, 10*time.Millisecond, time.Second, 10*time.Second),
		way:      oneOf(r, open, open, shut, lost, deaf, lately), weather: oneOf(r, fair, down, silent),
		part:     oneOf(r, all, all, writes, grants, endingsOf, responses, renewals, reads),
		waiting:  oneOf(r, rejects, waits, joins),
		recipe:   r.IntN(recipeCount),
		registry: oneOf(r, read, unread, slow, unheard),
		blind:    r.IntN(4) == 0,
		hurried:  r.IntN(2) == 0,
		tries:    oneOf(r, 1, 1, 3),
		crowd:    oneOf(r, 1, 1, 1, 1, 1, 3),
		gap:      oneOf(r, 0, 0, time.Millisecond, 300*time.Millisecond),
		server:   oneOf(r, served, served, readOnly, full, restarted, forgetful, flushed, later, earlier),
	}
	if r.IntN(8) == 0 {
		a.payload = 1 + r.IntN(2)
	}
	if r.IntN(4) == 0 {
		a.upon, a.hesitates, a.away = anyMoment(r), anyMoment(r), anyMoment(r)
	}
	if calm && a.end != pieces {
		a.end = answers
	}
	return a
}

// without is the plan without some of its acts.
func (p *plan) without(from, n int) *plan {
	fewer := *p
	fewer.acts = slices.Delete(slices.Clone(p.acts), from, min(from+n, len(p.acts)))
	return &fewer
}
