package test_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestFaults: whatever breaks, a client that goes on asking with its key gets the
// one answer, and the operation runs no more often than the policy allows.
//
// FAULTS multiplies how many, SEED repeats which; REPORT names a file for the
// table.
func TestFaults(t *testing.T) { //nolint:tparallel // the report comes after all of them
	t.Parallel()
	seed := rand.Uint64N(1 << 40)
	if s, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = s
	}
	times := 1
	if n, err := strconv.Atoi(os.Getenv("FAULTS")); err == nil {
		times = n
	}
	report := &faultReport{rows: map[string]*faultRow{}}
	t.Run("rigs", func(t *testing.T) {
		for i, c := range []struct {
			kind, policy string
			n            int
		}{
			{"redis", "release", 44},
			{"redis", "hold", 44},
			{"embedded", "release", 20},
			{"embedded", "hold", 20},
			{"clock", "release", 4},
			{"clock", "hold", 4},
			{"sentinel", "hold", 10},
			{"cluster", "release", 14},
			{"postgres", "release", 40},
			{"postgres", "hold", 40},
			{"postgres-clock", "hold", 4},
			{"postgres-disk", "release", 3},
			{"postgres-disk", "hold", 3},
			{"postgres-few", "release", 3},
			{"postgres-few", "hold", 3},
			{"postgres-wal", "release", 3},
			{"postgres-wal", "hold", 3},
			{"postgres-pair", "release", 5},
			{"postgres-pair", "hold", 5},
		} {
			t.Run(c.kind+"/"+c.policy, func(t *testing.T) {
				t.Parallel()
				n := c.n * times
				if testing.Short() {
					n = 3
				}
				r := newFaultRig(t, c.kind, c.policy)
				own := seed + uint64(i)
				t.Logf("%d faults, SEED=%d", n, seed)
				r.campaign(own, n, c.kind, report)
				r.calls.check()
			})
		}
	})
	text := report.String()
	t.Logf("SEED=%d\n%s", seed, text)
	if file := os.Getenv("REPORT"); file != "" {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// card is one fault at one moment.
type card struct {
	fault *fault
	when  moment
}

// deck is every card of a kind of rig.
func deck(kind string) []card {
	var cards []card
	all := faults()
	for i := range all {
		if slices.Contains(all[i].on, kind) {
			for _, when := range all[i].when {
				cards = append(cards, card{&all[i], when})
			}
		}
	}
	return cards
}

// campaign plays n cards, every one before any comes twice.
func (r *faultRig) campaign(seed uint64, n int, kind string, report *faultReport) {
	rng := rand.New(rand.NewPCG(seed, 0))
	cards := deck(kind)
	for i := range n {
		if i%len(cards) == 0 {
			rng.Shuffle(len(cards), func(a, b int) { cards[a], cards[b] = cards[b], cards[a] })
		}
		c := cards[i%len(cards)]
		e := &episode{
			rig: r, fault: c.fault, when: c.when, key: fmt.Sprintf("%s-%s-%d", kind, r.policy, i), rng: rng,
			answered: make(chan struct{}), goOn: make(chan struct{}), finished: make(chan struct{}),
			gate: &gate{arrived: make(chan struct{}), open: make(chan struct{})},
		}
		e.play()
		e.judge()
		report.add(e)
		if r.t.Failed() {
			r.t.Logf("episode %d: %v", i, e)
			return
		}
	}
}

// episode is one fault during one operation, and what became of it.
type episode struct {
	rig   *faultRig
	fault *fault
	when  moment
	key   string
	rng   *rand.Rand
	gate  *gate

	answered, goOn, finished chan struct{} // of the client

	mu    sync.Mutex
	heard []heard // guarded by mu

	executions int
	lost       int
	unknown    bool
}

func (e *episode) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprintf("%s, %s %s, policy %s: %d executions, the client heard %v",
		e.key, e.fault.name, e.when, e.rig.policy, e.executions, e.heard)
}

const (
	patience = 5 * time.Minute // of a client, while a disk is being filled, too; nothing here takes that long
	pause    = 25 * time.Millisecond
)

func (e *episode) play() {
	r := e.rig
	r.gates.Store(e.key, e.gate)
	defer r.gates.Delete(e.key)
	defer e.gate.release() // also when it breaks off: the backend would wait for ever
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	mend := nothing
	if e.when == before {
		mend = e.inject()
	}
	// The gate may stay closed until the fault is over: the backend works on.
	late := e.when == working && e.fault.lasts < 1600*time.Millisecond && e.rng.IntN(2) == 0
	if e.when != working {
		e.gate.release()
	}
	go e.client(ctx)
	if e.when == working {
		select {
		case <-e.gate.arrived:
		case <-ctx.Done():
			r.t.Errorf("the request does not reach the backend: %v", e)
		}
		mend = e.inject()
	}
	if !late {
		e.gate.release()
	}
	if e.when == after {
		<-e.answered
		mend = e.inject()
		close(e.goOn)
	}
	time.Sleep(max(e.fault.lasts, 2*pause)) // that long it is broken
	mend()
	e.gate.release()
	<-e.finished
	e.again(ctx)
}

// inject has the fault happen.
func (e *episode) inject() (mend func()) {
	r := e.rig
	if !e.fault.loses || r.calls == nil {
		return e.fault.inject(r, e.rng)
	}
	r.calls.loses(func() { mend = e.fault.inject(r, e.rng) })
	return mend
}

// client asks until it knows: through the first proxy, then through all in turn.
func (e *episode) client(ctx context.Context) {
	defer close(e.finished)
	r := e.rig
	h := e.ask(ctx, r.proxies[0])
	if e.when == after {
		close(e.answered)
		<-e.goOn
	}
	for i := 1; !h.known() || e.when == after && i == 1; i++ {
		if ctx.Err() != nil {
			return
		}
		time.Sleep(pause)
		h = e.ask(ctx, r.proxies[i%len(r.proxies)])
	}
}

// known: the client need not ask again.
func (h heard) known() bool {
	return h.err == nil && (h.status == 200 || h.status == 422 || h.problem == "outcome-unknown")
}

func (e *episode) ask(ctx context.Context, p *faultProxy) heard {
	h := p.ask(ctx, e.key)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, h)
	return h
}

// again asks every proxy once more when all is well, until they agree. A proxy
// whose ending is still on its way to the store may make an unknown key complete
// meanwhile, so they may take a moment to. So must they about the keys of
// earlier episodes.
func (e *episode) again(ctx context.Context) {
	r := e.rig
	var first *heard
	for deadline := time.Now().Add(inVain); ; time.Sleep(pause) { // a database may crash once more meanwhile, and recover
		first = e.agreed(ctx)
		if first != nil {
			break
		}
		if time.Now().After(deadline) {
			r.t.Errorf("the proxies do not agree, or do not answer: %v", e)
			break
		}
	}
	e.unknown = first != nil && first.problem == "outcome-unknown"
	var kept []bystander
	for _, b := range r.bystands {
		if r.replays(ctx, b) {
			kept = append(kept, b)
		} else {
			e.lost++
		}
	}
	r.bystands = kept
	if first != nil && first.status == 200 {
		r.bystands = append(r.bystands[max(0, len(r.bystands)-3):], bystander{e.key, first.body})
	}
}

// agreed asks every proxy; nil if they say different things, or one does not
// know.
func (e *episode) agreed(ctx context.Context) *heard {
	var first *heard
	for _, p := range e.rig.proxies {
		h := e.ask(ctx, p)
		switch {
		case !h.known():
			return nil
		case first == nil:
			first = &h
		case h.status != first.status || h.problem != first.problem || h.problem == "" && h.body != first.body:
			return nil
		}
	}
	if first.problem == "outcome-unknown" && e.wasAnswered() {
		return nil // what was answered is on its way to the store
	}
	return first
}

func (e *episode) wasAnswered() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.ContainsFunc(e.heard, func(h heard) bool { return h.err == nil && h.status == 200 })
}

func (r *faultRig) replays(ctx context.Context, b bystander) bool {
	for _, p := range r.proxies {
		h := p.ask(ctx, b.key)
		for (h.err != nil || h.status >= 500) && ctx.Err() == nil {
			time.Sleep(pause)
			h = p.ask(ctx, b.key)
		}
		if h.status != 200 || !h.replayed || h.body != b.body {
			return false
		}
	}
	return true
}

// judge says what must not be.
func (e *episode) judge() {
	t := e.rig.t
	e.executions = e.rig.backend.Executions(e.key)
	e.mu.Lock()
	bodies, doubtful, freed := map[string]bool{}, 0, 0
	for _, h := range e.heard {
		if h.problem == "backend-cut" || h.problem == "backend-timeout" {
			freed++ // as it says, whatever the fault: a machine that is too busy has a backend time out
		}
		switch {
		case h.err != nil, h.status == 502, h.status == 504:
			doubtful++
		case h.status == 200:
			bodies[h.body] = true
		case h.status == 409 || h.status == 500 || h.status == 503:
		default:
			defer t.Errorf("an answer that nothing explains, %v: %v", h, e)
		}
	}
	e.mu.Unlock()
	most := 1
	if e.rig.policy == "release" {
		most += freed
	}
	if e.fault.ambiguous && e.rig.policy == "release" || e.fault.loses {
		most += doubtful + 1 // and one for a lease that lapsed unseen
	}
	switch {
	case e.executions > most:
		t.Errorf("%d executions, at most %d are allowed: %v", e.executions, most, e)
	case len(bodies) > e.executions:
		t.Errorf("%d different answers: %v", len(bodies), e)
	case e.unknown && (e.rig.policy != "hold" || !e.fault.ambiguous):
		t.Errorf("the outcome is unknown though nothing was ambiguous: %v", e)
	case e.lost > 0 && !e.fault.loses:
		t.Errorf("%d answers given earlier are lost: %v", e.lost, e)
	}
}

// faultReport counts by fault.
type faultReport struct {
	mu   sync.Mutex
	rows map[string]*faultRow // guarded by mu
}

type faultRow struct {
	times   map[string]int // by policy
	again   map[string]int // executed more than once, by policy
	unknown int
	lost    int
	heard   map[string]int
}

func (f *faultReport) add(e *episode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	row := f.rows[e.fault.name]
	if row == nil {
		row = &faultRow{times: map[string]int{}, again: map[string]int{}, heard: map[string]int{}}
		f.rows[e.fault.name] = row
	}
	policy := e.rig.policy
	row.times[policy]++
	if e.executions > 1 {
		row.again[policy]++
	}
	if e.unknown {
		row.unknown++
	}
	row.lost += e.lost
	for _, h := range e.heard {
		row.heard[h.String()]++
	}
}

// String is a table in Markdown.
func (f *faultReport) String() string {
	var b strings.Builder
	b.WriteString("| fault | release: times | executed again | hold: times | executed again | unknown | answers lost | clients heard |\n" +
		"| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	total := &faultRow{times: map[string]int{}, again: map[string]int{}}
	names := make([]string, 0, len(f.rows))
	for name := range f.rows {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		row := f.rows[name]
		said := make([]string, 0, len(row.heard))
		for what, n := range row.heard {
			said = append(said, fmt.Sprintf("%s ×%d", what, n))
		}
		slices.Sort(said)
		row.write(&b, name, strings.Join(said, ", "))
		for _, policy := range []string{"release", "hold"} {
			total.times[policy] += row.times[policy]
			total.again[policy] += row.again[policy]
		}
		total.unknown += row.unknown
		total.lost += row.lost
	}
	total.write(&b, "all", "")
	return b.String()
}

func (row *faultRow) write(b *strings.Builder, name, said string) {
	fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d | %d | %s |\n", name, row.times["release"], row.again["release"],
		row.times["hold"], row.again["hold"], row.unknown, row.lost, said)
}
