package test_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// TestClientHistories plays many clients, and operators, through one or two proxies on
// each store, with reloads, and checks what all were told: for each key there must be an
// order of all that happened, at the backend too, that the protocol allows. With faults,
// proxies are killed and links to the store are cut. HISTORIES multiplies the rounds;
// SEED repeats what was random.
func TestClientHistories(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"embedded", "redis", "postgres"} {
		for _, policy := range []string{"release", "hold", "settle"} {
			for _, faulty := range []bool{false, true} {
				name := kind + "/" + policy
				if faulty {
					name += "/faults"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					newEndRun(t, kind, policy, faulty).play()
				})
			}
		}
	}
}

func endSeed() uint64 {
	if seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		return seed
	}
	return rand.Uint64N(1 << 40)
}

func (r *endRun) play() {
	r.t.Helper()
	rounds := 8
	if times, err := strconv.Atoi(os.Getenv("HISTORIES")); err == nil {
		rounds *= times
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { defer close(ended); r.faults(done) }()
	var keys []string
	for round := range rounds {
		var some []string
		for i := range 6 {
			some = append(some, fmt.Sprintf("key-%d-%d", round, i))
		}
		keys = append(keys, some...)
		var clients sync.WaitGroup
		for i := range 16 {
			clients.Go(func() { r.client(some, uint64(1+round*100+i)) })
		}
		if len(r.builds) > 1 && round%2 == 1 { // whatever else happens: each proxy goes up and down
			clients.Go(func() { r.replace(r.proxies[round/2%len(r.proxies)]) })
		}
		clients.Wait()
		if !r.faulty && r.hasEnded() { // by itself: nobody kills one here
			break
		}
	}
	close(done)
	<-ended
	if r.t.Failed() {
		return
	}
	for _, key := range keys {
		if err := r.settle(key); err != nil {
			r.t.Errorf("%s: %v", key, err)
		}
	}
	r.check()
}

// hasEnded says, and reports, that a proxy is not there any more.
func (r *endRun) hasEnded() bool {
	for _, p := range r.proxies {
		select {
		case <-p.run.done:
			r.t.Errorf("the proxy at %s has ended", p.addr)
			return true
		default:
		}
	}
	return false
}

// history is all that happened, as operations of the model.
func (r *endRun) history() (all []porcupine.Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ops := r.acts
	for n := range int(r.serial.Load()) {
		if q := r.asked[n+1]; q != nil {
			ops = append(ops, r.operations(q)...)
		}
	}
	for i, op := range ops {
		if op.ret == 0 {
			op.ret = time.Hour
		}
		all = append(all, porcupine.Operation{ClientId: i, Input: op.endInput, Call: int64(op.call), Return: int64(op.ret)})
	}
	return all
}

// operations of a request.
func (r *endRun) operations(q *endRequest) []endOp {
	op := endOp{endInput: endInput{key: q.key, request: q.number, payload: q.payload, settles: r.policy == "settle"}, call: q.call, ret: q.ret}
	if q.arrived == 0 && q.tellsNothing() {
		return nil
	}
	if q.arrived == 0 {
		r.refused(q, &op)
		if op.act != endFailed && r.lostItsLease(q) {
			lost := op
			q.failed(&lost)
			return []endOp{lost, op}
		}
		return []endOp{op}
	}
	begin := op
	begin.act, begin.ret, begin.lapses = endBegin, q.arrived, q.proxy.lapsed(q.call, q.ret)
	op.act, op.call, op.moved = endFinish, q.arrived, strings.HasPrefix(q.act, "moved")
	ambiguous := r.ambiguous(q)
	switch {
	case whole(q.act):
		op.fates = fateDone
	case strings.HasPrefix(q.act, "busy"):
		op.fates = fateFree
	default:
		op.fates = ambiguous
	}
	accepted := q.status == http.StatusAccepted
	if q.left || accepted || q.proxy.troubled(q.call, q.ret) || q.proxy.delayed(q.call, q.ret) {
		op.ret = 0 // it goes on
	}
	if q.proxy.troubled(q.call, q.ret) || (q.left || accepted) && r.faulty { // of what goes on, the end is not known
		op.fates |= ambiguous
	}
	if !q.left && !accepted {
		r.executed(q)
	}
	return []endOp{begin, op}
}

// ambiguous is what becomes of a key when the proxy does not know the outcome. With
// receipts, it is what the backend did.
func (r *endRun) ambiguous(q *endRequest) endFate {
	switch {
	case r.policy == "hold":
		return fateHeld
	case r.policy == "settle" && q.done:
		return fateDone
	}
	return fateFree
}

// whole says that the backend sends its answer whole.
func whole(act string) bool {
	act, _, _ = strings.Cut(act, " ")
	return slices.Contains([]string{"ok", "pieces", "moved", "stream"}, act)
}

// tellsNothing says of a request which the backend did not get that it has no place in the
// history: it was not sent, or it joined or was replayed until that broke off.
func (q *endRequest) tellsNothing() bool { return q.unsent || q.left && q.status == http.StatusOK }

// executed checks what a client was told whose request the backend got.
func (r *endRun) executed(q *endRequest) {
	own := q.body == fmt.Sprint("request ", q.number) && !q.replayed
	ok := false
	switch act, _, _ := strings.Cut(q.act, " "); {
	case q.problem == "outcome-pending" && q.proxy.delayed(q.call, q.ret): // its question got lost
		ok = true
	case act == "busy":
		ok = own && q.status == http.StatusServiceUnavailable
	case act == "moved" && q.done:
		ok = own && q.status == http.StatusTemporaryRedirect
	case q.done && (whole(act) || r.policy == "settle"):
		ok = own && q.status == http.StatusOK
	default:
		want := map[string]string{"release": "backend-cut", "hold": "backend-outcome-unknown", "settle": "attempt-voided"}[r.policy]
		ok = q.status == http.StatusBadGateway && q.problem == want
	}
	if !ok {
		r.t.Errorf("request %d for %s was executed (%s), and its client was told %d %s %q (replayed: %v)",
			q.number, q.key, q.act, q.status, q.problem, q.body, q.replayed)
	}
}

// purgedLately says whether the key was purged, or may have been, so shortly before the
// request that its proxy may not have heard of it. r.mu is held.
func (r *endRun) purgedLately(q *endRequest) bool {
	return slices.ContainsFunc(r.acts, func(op endOp) bool {
		return op.act == endPurge && op.key == q.key && op.call <= q.ret && (op.ret == 0 || q.call <= op.ret+endLag)
	})
}

// lostItsLease says whether the request may have had a lease before it was refused: its proxy
// did not hear that the lease was granted, an operator took it, and the proxy asked once more.
// r.mu is held.
func (r *endRun) lostItsLease(q *endRequest) bool {
	return q.proxy.troubled(q.call, q.ret) && slices.ContainsFunc(r.acts, func(op endOp) bool {
		taken := op.act == endTake || op.act == endPurge
		return taken && op.key == q.key && op.call <= q.ret && (op.ret == 0 || q.call <= op.ret)
	})
}

// refused is the operation of a request that the backend did not get.
func (r *endRun) refused(q *endRequest, op *endOp) {
	switch {
	case q.left, q.problem == "store-unavailable" && r.faulty, q.problem == "lease-lost" && (r.faulty || q.ret-q.call >= endHeartbeat):
		q.failed(op)
	case q.replayed && (q.status == http.StatusOK || q.status == http.StatusTemporaryRedirect):
		op.act = endReplayed
		if _, err := fmt.Sscanf(q.body, "request %d", &op.told); err != nil {
			r.t.Errorf("request %d was given %q", q.number, q.body)
		}
		op.lagged = len(r.proxies) > 1 && r.purgedLately(q)
		if of := r.asked[op.told]; of != nil && of.proxy == q.proxy {
			op.joined, op.early = true, r.faulty && (q.proxy.troubled(of.call, q.ret) || q.proxy.delayed(of.call, q.ret))
		}
	case len(r.builds) > 1 && (q.problem == "recipe-unknown" || q.problem == "outcome-none"):
		q.failed(op) // the earlier build says so of settings that it has not read yet
	case q.status == http.StatusAccepted && r.faulty: // its proxy may have been killed before it forwarded
		q.failed(op)
	case q.problem == "in-progress", q.state == "in-progress":
		op.act = endProgress
		if q.waits && !r.faulty { // it was still so when the client's patience was over
			op.call = max(op.call, op.ret-endWoken)
		}
	case q.problem == "outcome-none":
		op.act = endNone
	case q.state == "executed":
		op.act = endExecuted
		op.lagged = len(r.proxies) > 1 && r.purgedLately(q)
	case q.problem == "outcome-unknown", q.problem == "outcome-pending", q.state == "unknown":
		op.act = endUnknown
	case q.problem == "key-reused" && !q.question:
		op.act = endReused
		op.lagged = len(r.proxies) > 1 && r.purgedLately(q)
	default:
		r.t.Errorf("request %d for %s, which the backend did not get, was told %d %s %q", q.number, q.key, q.status, q.problem, q.body)
		q.failed(op)
	}
}

// failed: from then on the request may have a lease. It gives that back, unless its proxy
// breaks before or the lease lapses.
func (q *endRequest) failed(op *endOp) {
	op.act, op.ret = endFailed, op.call
	until := q.ret + 2*endLease
	op.astray = q.proxy.troubled(q.call, until) || q.proxy.lapsed(q.call, until)
}

// check fails the test if there is no order that is allowed, and draws it.
func (r *endRun) check() {
	r.t.Helper()
	r.calls.check()
	history := r.history()
	begun := map[endAct]int{}
	for _, op := range history {
		begun[op.Input.(endInput).act]++ //nolint:forcetypeassert // ours
	}
	r.t.Logf("figure: %d operations, %d requests of %d executed, seed %d", len(history), begun[endBegin], len(r.asked), r.seed)
	switch porcupine.CheckOperationsTimeout(endModel(), history, time.Minute) {
	case porcupine.Ok:
		return
	case porcupine.Unknown:
		r.t.Errorf("seed %d: UNDECIDED, which is no violation", r.seed)
	case porcupine.Illegal:
		r.explain(history)
	}
}

func (r *endRun) explain(history []porcupine.Operation) {
	model := endModel()
	for _, part := range model.Partition(history) {
		if porcupine.CheckOperations(model, part) {
			continue
		}
		r.t.Logf("the key %s:", part[0].Input.(endInput).key) //nolint:forcetypeassert // ours
		for _, op := range part {
			r.t.Logf("%7d to %7d us: %s", op.Call/1000, op.Return/1000, model.DescribeOperation(op.Input, nil))
		}
	}
	_, info := porcupine.CheckOperationsVerbose(model, history, time.Minute)
	file := filepath.Join(os.TempDir(), fmt.Sprintf("idemproxy-ends-%d.html", r.seed))
	if err := porcupine.VisualizePath(model, info, file); err != nil {
		r.t.Error(err)
	}
	r.t.Errorf("seed %d: no order of these %d operations is allowed; drawn in %s", r.seed, len(history), file)
}
