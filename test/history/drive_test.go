package history

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

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
	history, _, _ := record(w, seed)
	return history
}

// record records a history: clients that acquire, work, end or die, repeat what got
// lost, and act as operators; and what the stores were asked and answered in it.
func record(w world, seed uint64) (history []porcupine.Operation, begun time.Time, traces *tracetest.Recorder) {
	traces = tracetest.NewRecorder(w.lag)
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
	for _, one := range w.watches {
		one.settle()
	}
	r.wiped(w.wipes)
	return r.history(w), r.begun, traces
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
	switch n := c.rand.IntN(of); {
	case n == 0 && !c.w.replicated:
		c.purge(in)
	case n < 4:
		c.releaseFrom(in)
	case n == 4:
		c.resolve(in)
	case n == 5:
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

// backOff waits after a call that failed, in a patient history: where a store is away for long,
// the checker would not come to an end with all that may have happened or not.
func (c *actor) backOff() {
	if c.w.patient {
		time.Sleep(time.Duration(50+c.rand.IntN(150)) * time.Millisecond)
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
	claim.kind, claim.owner, claim.request, claim.ttl = acquire, int(c.r.owners.Add(1)), c.request(), c.w.lease()
	claim.recipe = idem.Recipe(c.rand.IntN(4) / 3)
	claim.holds = c.rand.IntN(6) == 0
	claim.retention, claim.remember = time.Hour, time.Hour
	if c.w.replicated { // nobody purges: keys are free again when they have ended
		claim.retention, claim.remember = time.Duration(50+c.rand.IntN(250))*time.Millisecond, 0
	}
	if brief := c.rand.IntN(3) > 0; brief && !c.w.lasting && (!c.w.patient || c.rand.IntN(6) == 0) {
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
		drop := c.guard(claim)
		c.work()
		if c.rand.IntN(2) == 0 { // otherwise it is renewed while it ends
			drop()
		}
		c.finish(claim)
		drop()
	case out.verdict == idem.VerdictUnknown && c.rand.IntN(6) == 0: // which an operator is told
		c.resolve(asked{key: claim.key, process: c.process})
	}
}

// claim acquires as the engine does, and asks again with the same owner.
func (c *actor) claim(in asked) told {
	out := c.acquire(in)
	for try := 0; out.failed && try < 3; try++ {
		c.backOff()
		out = c.acquire(in)
	}
	if out.failed {
		c.backOff()
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
		time.Sleep(end.ttl + 2*time.Millisecond)
		end.kind = []kind{complete, hold, release}[c.rand.IntN(c.w.endings())]
	case n < 5 && !c.w.replicated:
		end.kind = release
	case n < 9:
		end.kind = hold
	default:
		end.kind = complete
	}
	end.serial = int(c.r.serials.Add(1))
	for try := 0; c.end(end).failed && try < 3; try++ { // as the watchdog does
		c.backOff()
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

// lease is a claim's.
func (c *actor) lease(in asked) idem.Lease {
	return idem.Lease{Key: c.r.key(in.key), Owner: owner(in.owner), TTL: in.ttl, Retention: in.retention, Remember: in.remember}
}

func (c *actor) end(in asked) told {
	lease := c.lease(in)
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
