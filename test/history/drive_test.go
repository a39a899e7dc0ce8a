package history

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

// store is what the histories use.
type store interface {
	idem.Store
	idem.Inspector
}

// world is one history's surroundings.
type world struct {
	processes []store // that share their records
	// lag is how long a process may go on replaying from its memory what another
	// one purged: a push is on its way to it.
	lag time.Duration
	// lies: what is said to have certainly not been done may have been.
	lies bool
	// patient has clients rest, so that a history is longer than the lag, keep most of what
	// they complete for an hour, and be operators more often.
	patient bool
	wipes   *wipes // nil: nobody makes any
}

// sizes of a history.
const (
	clients = 4
	steps   = 90 // a client's; each is one to three operations
	keys    = 2
	ttl     = 8 * time.Millisecond
)

// within is how long after its call an acquire with a deadline may be granted.
const within = 300 * time.Millisecond

// recorder collects operations.
type recorder struct {
	begun   time.Time
	prefix  string
	owners  atomic.Int64
	serials atomic.Int64

	mu  sync.Mutex
	ops []porcupine.Operation // guarded by mu
}

func (r *recorder) add(client int, in asked, out told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, porcupine.Operation{
		ClientId: client, Input: in, Output: out, Call: int64(in.call), Return: int64(in.ret),
	})
}

// history is what was recorded, but for what came out of a process's memory
// while a purge was under way, or just after another process's: that is allowed
// to be stale, and says nothing.
func (r *recorder) history(lag time.Duration) (kept []porcupine.Operation) {
	stale := func(in asked) bool {
		for _, op := range r.ops {
			p := op.Input.(asked) //nolint:forcetypeassert // ours
			until := p.ret
			if op.Output.(told).failed { //nolint:forcetypeassert // ours
				until += inTransit
			}
			if p.process != in.process {
				until += lag
			}
			if (p.kind == purge || p.kind == wipe) && p.key == in.key && p.call <= in.ret && in.call <= until {
				return true
			}
		}
		return false
	}
	for _, op := range r.ops {
		if !op.Output.(told).local || !stale(op.Input.(asked)) { //nolint:forcetypeassert // ours
			kept = append(kept, op)
		}
	}
	return kept
}

func (r *recorder) since() time.Duration { return time.Since(r.begun) }

func (r *recorder) key(n int) idem.Key {
	k, err := idem.ParseKey(fmt.Sprintf("%s-%d", r.prefix, n))
	if err != nil {
		panic(err)
	}
	return k
}

// owner is a token that stands for a number.
func owner(n int) (o idem.Owner) {
	binary.BigEndian.PutUint64(o[:], uint64(n))
	return o
}

// number is what owner made the token of.
func number(o idem.Owner) int {
	return int(binary.BigEndian.Uint64(o[:]))
}

// run records a history.
func run(w world, seed uint64) []porcupine.Operation {
	history, _ := traced(w, seed)
	return history
}

// traced records a history, of clients that acquire, work, end or die, repeat what got
// lost, and act as operators, and what the stores were asked and answered in it.
func traced(w world, seed uint64) ([]porcupine.Operation, *tracetest.Recorder) {
	traces := tracetest.NewRecorder(w.lag)
	if w.lies {
		traces.Doubt()
	}
	processes := make([]store, len(w.processes))
	for i, s := range w.processes {
		processes[i] = traces.Wrap(s)
	}
	r := &recorder{begun: time.Now(), prefix: fmt.Sprintf("history-%d", seed)}
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			c := &actor{
				w: w, id: client, process: client % len(processes), r: r, store: processes[client%len(processes)],
				rand: rand.New(rand.NewPCG(seed, uint64(client))),
			}
			for range steps {
				c.step()
			}
		})
	}
	wg.Wait()
	r.wiped(w.wipes)
	return r.history(w.lag), traces
}

// actor is one goroutine's.
type actor struct {
	w           world
	id, process int
	r           *recorder
	store       store
	rand        *rand.Rand
	seen        [keys]idem.Owner // the last that was looked at of each
}

func (c *actor) step() {
	if c.rand.IntN(2) == 0 { // so that what has a time ends within the history
		c.work()
	}
	in := asked{key: c.rand.IntN(keys), process: c.process}
	of := 36
	if c.w.patient {
		of = 12
		c.rest()
	}
	switch c.rand.IntN(of) {
	case 0:
		c.purge(in)
	case 1, 2, 3:
		c.releaseFrom(in)
	case 4:
		c.resolve(in)
	case 5:
		c.list()
	default:
		c.attempt(in)
	}
}

// work lets some time pass, or none.
func (c *actor) work() {
	if c.rand.IntN(3) > 0 {
		time.Sleep(time.Duration(c.rand.IntN(3000)) * time.Microsecond)
	}
}

// rest lets much time pass now and then.
func (c *actor) rest() {
	if c.rand.IntN(10) == 0 {
		time.Sleep(time.Duration(c.rand.IntN(1000)) * time.Millisecond)
	}
}

// request is mostly the same one; else another payload, or the same to another host.
func (c *actor) request() request {
	switch c.rand.IntN(8) {
	case 0:
		return request{'x', 'b'}
	case 1:
		return request{'y', 'a'}
	}
	return request{'x', 'a'}
}

// attempt does what a proxy does with a request.
func (c *actor) attempt(claim asked) {
	claim.kind, claim.owner, claim.request, claim.ttl = acquire, int(c.r.owners.Add(1)), c.request(), ttl
	claim.recipe = idem.Recipe(c.rand.IntN(4) / 3)
	claim.holds = c.rand.IntN(6) == 0
	claim.retention, claim.remember = time.Hour, time.Hour
	if brief := c.rand.IntN(3) > 0; brief && (!c.w.patient || c.rand.IntN(6) == 0) {
		claim.retention = time.Duration(5+c.rand.IntN(10)) * time.Millisecond
		claim.remember = time.Duration(c.rand.IntN(3)*8) * time.Millisecond
	}
	if c.rand.IntN(2) == 0 {
		claim.within = within
	}
	out := c.claim(claim)
	for try := 0; try < 3 && out.verdict == idem.VerdictOtherRecipe && !out.failed; try++ {
		claim.recipe = out.recipe
		out = c.claim(claim)
	}
	switch {
	case out.failed:
	case out.verdict == idem.VerdictAcquired || out.verdict == idem.VerdictYours:
		c.work()
		c.finish(claim)
	case out.verdict == idem.VerdictUnknown && c.rand.IntN(6) == 0: // which an operator is told
		c.resolve(asked{key: claim.key, process: c.process})
	}
}

// claim acquires as the engine does, and asks again with the same owner.
func (c *actor) claim(in asked) told {
	out := c.acquire(in)
	for try := 0; out.failed && try < 3; try++ {
		out = c.acquire(in)
	}
	return out
}

func (c *actor) finish(end asked) {
	end.within = 0
	end.inherit = c.rand.IntN(2) == 0
	switch n := c.rand.IntN(20); {
	case n == 0: // dies: the lease lapses
		return
	case n == 1: // stops for longer than the lease, and goes on
		time.Sleep(ttl + 2*time.Millisecond)
		end.kind = []kind{complete, release, hold}[c.rand.IntN(3)]
	case n < 5:
		end.kind = release
	case n < 9:
		end.kind = hold
	default:
		end.kind = complete
	}
	end.serial = int(c.r.serials.Add(1))
	for try := 0; c.end(end).failed && try < 3; try++ { // as the watchdog does
	}
}

func (c *actor) acquire(in asked) told {
	in.call = c.r.since()
	made := byte(in.recipe) + 1
	got, err := c.store.Acquire(context.Background(), idem.Claim{
		Key: c.r.key(in.key), Owner: owner(in.owner), Recipe: in.recipe,
		Fingerprint: idem.Fingerprint{made, in.request.host, in.request.payload}, Binding: idem.Binding{made},
		TTL: in.ttl, Retention: in.retention, Remember: in.remember, HoldOnLapse: in.holds, Within: in.within,
	})
	in.ret = c.r.since()
	out := told{verdict: got.Kind, attempt: got.Attempt, recipe: got.Recipe, failed: err != nil, local: got.Local}
	if got.Response != nil {
		out.serial = got.Response.Status
	}
	c.r.add(c.id, in, out)
	return out
}

func (c *actor) end(in asked) told {
	lease := idem.Lease{Key: c.r.key(in.key), Owner: owner(in.owner), TTL: in.ttl, Retention: in.retention, Remember: in.remember}
	if in.inherit {
		lease.Retention, lease.Remember = 0, 0
	}
	ctx := context.Background()
	in.call = c.r.since()
	var err error
	switch in.kind {
	case complete:
		err = c.store.Complete(ctx, lease, &idem.Response{Status: in.serial})
	case hold:
		err = c.store.Hold(ctx, lease)
	default:
		err = c.store.Release(ctx, lease)
	}
	return c.ended(in, err)
}

// ended records what became of an ending or of an operator's act.
func (c *actor) ended(in asked, err error) told {
	in.ret = c.r.since()
	out := told{verdict: idem.VerdictOK}
	switch {
	case errors.Is(err, idem.ErrLeaseLost):
		out.verdict = idem.VerdictLost
	case errors.Is(err, idem.ErrNotUnknown):
		out.verdict = idem.VerdictNotUnknown
	case err != nil:
		out.failed = true
	}
	c.r.add(c.id, in, out)
	return out
}

func (c *actor) purge(in asked) {
	in.kind, in.call = purge, c.r.since()
	err := c.store.Purge(context.Background(), c.r.key(in.key))
	in.ret = c.r.since()
	absent := errors.Is(err, idem.ErrNotFound)
	c.r.add(c.id, in, told{absent: absent, failed: err != nil && !absent})
}

func (c *actor) resolve(in asked) {
	var response *idem.Response
	in.kind = resolveRetry
	if c.rand.IntN(3) > 0 {
		in.kind, in.serial = resolveComplete, int(c.r.serials.Add(1))
		response = &idem.Response{Status: in.serial}
	}
	var owner idem.Owner
	switch c.rand.IntN(3) { // the page and the commands resolve the attempt that was looked at
	case 0:
		if owner = c.looks(in); owner == (idem.Owner{}) {
			return
		}
		c.work()
	case 1:
		owner = c.seen[in.key] // long ago
	}
	in.owner, in.call = number(owner), c.r.since()
	c.ended(in, c.store.Resolve(context.Background(), c.r.key(in.key), owner, response))
}

// listFor bounds a listing, since the records of other histories are in it.
const listFor = 20 * time.Millisecond

// list shows the records, slowly, as an operator's bulk acts do: one operation for each key of
// this history, as it is shown.
func (c *actor) list() {
	numbers := map[idem.Key]int{}
	for n := range keys {
		numbers[c.r.key(n)] = n
	}
	shown := map[int]bool{}
	call := c.r.since()
	_ = c.store.List(context.Background(), func(r *idem.Record) bool { // an error says nothing of what was shown
		n, ours := numbers[r.Key]
		if ours {
			in := asked{kind: list, key: n, process: c.process, call: call, ret: c.r.since()}
			c.r.add(c.id, in, told{phase: r.State, owner: number(r.Owner), recipe: r.Recipe, attempt: r.Attempt, twice: shown[n]})
			shown[n] = true
			c.work()
		}
		return c.r.since()-call < listFor
	})
}

// releaseFrom does what Engine.ReleaseFrom has an operator do: look who has the
// key, think, and take it from that owner.
func (c *actor) releaseFrom(in asked) {
	owner := c.looks(in)
	if owner == (idem.Owner{}) {
		return
	}
	c.work()
	in.kind, in.owner, in.call = take, number(owner), c.r.since()
	c.ended(in, c.store.Take(context.Background(), c.r.key(in.key), owner))
}

// looks is the owner that stands in the record; zero if there is none.
func (c *actor) looks(in asked) idem.Owner {
	in.kind, in.call = look, c.r.since()
	r, err := c.store.Get(context.Background(), c.r.key(in.key))
	in.ret = c.r.since()
	out := told{phase: r.State, owner: number(r.Owner), recipe: r.Recipe, attempt: r.Attempt}
	switch {
	case errors.Is(err, idem.ErrNotFound):
		out = told{phase: idem.Absent}
	case err != nil:
		out.failed = true
	case r.Response != nil:
		out.serial = r.Response.Status
	}
	c.r.add(c.id, in, out)
	if out.failed {
		return idem.Owner{}
	}
	c.seen[in.key] = r.Owner
	return r.Owner
}
