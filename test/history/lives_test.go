package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// life is one process under a Redis that lies: who asks, and what was executed.
type life struct {
	t      *testing.T
	engine *idem.Engine
	policy idem.Policy
	prefix string
	begun  time.Time

	mu       sync.Mutex
	executed map[string]int      // by key; guarded by mu
	answered map[string]string   // the response of that execution, once it is offered; guarded by mu
	outcomes map[string]int      // guarded by mu
	story    map[string][]string // what happened to each key, for who looks for a fault; guarded by mu
}

// endures is for how long the keys of a life are asked for: 8 s, which HISTORIES multiplies.
func endures() time.Duration {
	return max(3*time.Second, time.Duration(count(80))*100*time.Millisecond)
}

// One process, whose Redis also tells it that keys are renewed which are not, that it is a replica,
// and that leads it to another, empty server and back. No key is executed twice where what may
// have been executed is held, and every replay is the response of its key.
func TestLyingRedisUnderAnEngine(t *testing.T) {
	t.Parallel()
	servers := []*redistest.Server{redistest.Start(t, "--appendfsync", "no"), redistest.Start(t, "--appendfsync", "no")}
	seed := firstSeed()
	t.Logf("the seed is %d", seed)
	l := newLies(seed, 40)
	l.renewals = true
	liar := redistest.NewLiar(t, servers[0].Addr, l.lie)
	store := lyingStore(t, liar)
	traces := tracetest.NewRecorder(0)
	run := &life{
		t: t, prefix: fmt.Sprint(seed), begun: time.Now(), executed: map[string]int{}, answered: map[string]string{},
		outcomes: map[string]int{}, story: map[string][]string{}, engine: idem.NewEngine(idem.Config{Store: traces.Wrap(store), AcquireWithin: time.Second}),
		policy: idem.Policy{
			TTL: 400 * time.Millisecond, Heartbeat: 50 * time.Millisecond, Retention: time.Hour, Remember: time.Hour,
			OnAmbiguous: idem.AmbiguousHold,
		},
	}
	ctx, stop := context.WithTimeout(t.Context(), endures())
	defer stop()
	var asking sync.WaitGroup
	for client := range 6 {
		asking.Go(func() { run.ask(ctx, rand.New(rand.NewPCG(seed, uint64(client)+1))) })
	}
	run.mislead(ctx, liar, servers, rand.New(rand.NewPCG(seed, 100)))
	asking.Wait()
	l.set(0) // the truth from here on
	run.ends(store)
	l.figures(t, append(allLies(), "renewals that were not done")...)
	// The store is several servers, one after the other: what it did is no path of one.
	if err := traces.CheckCallers(); err != nil {
		t.Error(err)
	}
}

// mislead has the liar pose as a replica, be deaf, and lead elsewhere, until ctx ends.
func (l *life) mislead(ctx context.Context, liar *redistest.Liar, servers []*redistest.Server, r *rand.Rand) {
	defer liar.Pose(false)
	at := 0
	for ctx.Err() == nil {
		switch r.IntN(4) {
		case 0:
			liar.Pose(true)
		case 1:
			at = 1 - at
			l.tell("", "led to server %d", at)
			liar.Lead(servers[at].Addr)
		case 2:
			liar.Deaf(true)
		default:
			liar.Break()
		}
		pause(ctx, time.Duration(50+r.IntN(150))*time.Millisecond)
		liar.Pose(false)
		liar.Deaf(false)
		pause(ctx, time.Duration(300+r.IntN(1200))*time.Millisecond)
	}
}

// tell writes down what happened to a key, or to all.
func (l *life) tell(name, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.story[name] = append(l.story[name], fmt.Sprintf("%6d ms: ", time.Since(l.begun).Milliseconds())+fmt.Sprintf(format, args...))
}

// fail says what is wrong with a key, and what happened to it.
func (l *life) fail(name, format string, args ...any) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	story := append(slices.Clone(l.story[""]), l.story[name]...)
	slices.Sort(story)
	l.t.Errorf("key %s: %s\n%s", name, fmt.Sprintf(format, args...), strings.Join(story, "\n"))
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// ask is a client, of whose keys new ones come all the time.
func (l *life) ask(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		name := fmt.Sprintf("%s-%d", l.prefix, int(time.Since(l.begun)/(50*time.Millisecond))+r.IntN(8))
		l.request(name, r)
		pause(ctx, time.Duration(r.IntN(5))*time.Millisecond)
	}
}

// request is what a proxy does with one.
func (l *life) request(name string, r *rand.Rand) {
	key, err := idem.ParseKey(name)
	if err != nil {
		l.t.Error(err)
		return
	}
	out, attempt, err := l.engine.Begin(context.Background(), idem.Request{Key: key, Policy: &l.policy})
	switch {
	case err != nil:
		l.note("an error")
		if !errors.Is(err, idem.ErrRefused) {
			l.tell(name, "acquire: %v", err)
		}
		if !errors.Is(err, idem.ErrUnavailable) {
			l.t.Errorf("%s: %v", name, err)
		}
		return
	case attempt == nil:
		l.note(out.Kind.String())
		if out.Kind == idem.VerdictCompleted {
			l.replayed(name, out.Response)
		}
		return
	}
	l.note("an attempt")
	l.tell(name, "%v, attempt %d of %x", out.Kind, attempt.Number(), attempt.Owner())
	if r.IntN(4) == 0 || attempt.Confirm(context.Background()) != nil {
		l.tell(name, "nothing sent, attempt %d: %v", attempt.Number(), attempt.Finish(idem.NothingSent, nil))
		return
	}
	text := l.execute(name, attempt.Number())
	work := time.Duration(r.IntN(20)) * time.Millisecond
	if r.IntN(6) == 0 {
		work = 2 * l.policy.TTL
	}
	time.Sleep(work)
	if r.IntN(8) == 0 {
		l.tell(name, "held, attempt %d: %v", attempt.Number(), attempt.Finish(idem.MayHaveExecuted, nil))
		return
	}
	end := attempt.Finish(idem.Answered, &idem.Response{Status: 200, Body: []byte(text)})
	l.tell(name, "answered, attempt %d: %v", attempt.Number(), end)
}

// execute is the operation.
func (l *life) execute(name string, attempt uint32) string {
	l.mu.Lock()
	l.executed[name]++
	n := l.executed[name]
	text := fmt.Sprintf("execution %d of %s by attempt %d", n, name, attempt)
	l.answered[name] = text
	l.mu.Unlock()
	l.tell(name, "executed by attempt %d", attempt)
	if n > 1 {
		l.fail(name, "executed %d times", n)
	}
	return text
}

func (l *life) replayed(name string, response *idem.Response) {
	l.mu.Lock()
	want := l.answered[name]
	l.mu.Unlock()
	if response == nil || string(response.Body) != want || response.Status != 200 {
		l.fail(name, "replays %v, want %q", response, want)
	}
}

func (l *life) note(outcome string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes[outcome]++
}

// ends looks at what became of every key, once Redis tells the truth.
func (l *life) ends(s store) {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); s.Ping(context.Background()) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatal("the store does not become ready again")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l.engine.Close(ctx)
	states := map[string]int{}
	for name := range l.executed { // nobody asks any more
		key, err := idem.ParseKey(name)
		if err != nil {
			l.t.Fatal(err)
		}
		r, err := s.Get(context.Background(), key)
		if err != nil {
			l.fail(name, "it was executed, and is not known: %v", err)
			continue
		}
		states[r.State.String()]++
		switch r.State {
		case idem.Completed:
			l.replayed(name, r.Response)
		case idem.Unknown:
		default:
			l.fail(name, "it was executed, and is %v", r.State)
		}
	}
	l.t.Logf("figure: %d keys executed, of which %v; outcomes %v", len(l.executed), states, l.outcomes)
	if states[idem.Completed.String()] < 10 || l.outcomes[idem.VerdictCompleted.String()] < 10 {
		l.t.Error("hardly anything was executed and replayed: the lies are too many")
	}
}

// set has one command of so many be lied to.
func (l *lies) set(one int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.one = one
}
