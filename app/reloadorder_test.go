package app_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// reloadOp is a reload to the settings of a number, or a request and the number of the
// settings by which it was treated.
type reloadOp struct {
	reload bool
	number int
}

// reloadModel: a request is treated by the settings of the last reload that succeeded.
func reloadModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, in, _ any) (bool, any) {
			op := in.(reloadOp) //nolint:forcetypeassert // ours
			if op.reload {
				return true, op.number
			}
			return op.number == state, state
		},
	}
}

// reloadRun is a proxy whose settings change all the time. Those of a number send all
// requests to the backend of that number.
type reloadRun struct {
	t        *testing.T
	app      *app.App
	settings []config.Config
	begun    time.Time
	left     atomic.Int64 // reloads that are to come

	mu  sync.Mutex
	ops []porcupine.Operation // guarded by mu
}

// note does one thing, and notes it if it took place.
func (r *reloadRun) note(client int, do func() (op reloadOp, done bool)) {
	call := time.Since(r.begun)
	op, done := do()
	ret := time.Since(r.begun)
	if !done {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, porcupine.Operation{ClientId: client, Input: op, Call: int64(call), Return: int64(ret)})
}

// reload takes other settings into force. Some of them are refused.
func (r *reloadRun) reload(rng *rand.Rand) (op reloadOp, done bool) {
	op = reloadOp{reload: true, number: rng.IntN(len(r.settings))}
	c := r.settings[op.number]
	bad := rng.IntN(4) == 0
	if bad {
		c.Namespace = "other" // which needs a restart
	}
	if err := r.app.Reload(c); (err != nil) != bad {
		r.t.Errorf("a reload, bad=%v: %v", bad, err)
	}
	return op, !bad
}

func (r *reloadRun) request() (op reloadOp, done bool) {
	_, body, err := get(r.t, "tcp", strings.TrimPrefix(r.app.URL(), "http://"), "")
	if err != nil {
		r.t.Error(err)
		return op, false
	}
	if op.number, err = strconv.Atoi(body); err != nil {
		r.t.Error(err)
	}
	return op, err == nil
}

// TestReloadsHaveAnOrder: several reload to other settings at a time, good ones and bad
// ones, and what the store says of its records is taken over meanwhile. For the requests
// there must be an order of all that, in which each was treated by the settings of the last
// reload that succeeded. SEED repeats what was random.
func TestReloadsHaveAnOrder(t *testing.T) {
	t.Parallel()
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64N(1 << 40)
	}
	r := &reloadRun{t: t, begun: time.Now()}
	for i := range 4 {
		backend := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { c.Answer(200, fmt.Sprint(i)) })
		c := settings(t, "", backend.URL())
		if i > 0 {
			c.Store, c.Listen, c.Admin = r.settings[0].Store, r.settings[0].Listen, r.settings[0].Admin
		} else {
			c.Store = "embedded:" + t.TempDir()
		}
		r.settings = append(r.settings, c)
	}
	r.app, _, _ = process(t, r.settings[0])
	r.left.Store(60)
	var work sync.WaitGroup
	for client := range 4 {
		rng := rand.New(rand.NewPCG(seed, uint64(client)))
		work.Go(func() {
			for r.left.Load() > 0 {
				if client < 2 && rng.IntN(3) == 0 {
					r.left.Add(-1)
					r.note(client, func() (reloadOp, bool) { return r.reload(rng) })
				}
				r.note(client, r.request)
			}
		})
	}
	for range 2 {
		work.Go(func() {
			for r.left.Load() > 0 {
				r.app.Remake()
			}
		})
	}
	work.Wait()
	r.note(0, r.request)
	r.check(seed)
}

func (r *reloadRun) check(seed uint64) {
	r.t.Helper()
	switch porcupine.CheckOperationsTimeout(reloadModel(), r.ops, time.Minute) {
	case porcupine.Ok:
	case porcupine.Unknown:
		r.t.Errorf("seed %d: undecided, which is no violation", seed)
	case porcupine.Illegal:
		slices.SortFunc(r.ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		for _, op := range r.ops {
			r.t.Logf("client %d, %6d to %6d us: %+v", op.ClientId, op.Call/1000, op.Return/1000, op.Input)
		}
		r.t.Errorf("seed %d: these %d reloads and requests have no order: a reload was undone", seed, len(r.ops))
	}
}
