package history

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/idemproxy/idemproxy/idem"
)

// inTransit is for how long what failed may still happen: its packets may still be
// on their way.
const inTransit = 500 * time.Millisecond

// windows are what decide tries for inTransit. What failed overlaps with all that
// comes in its window, and the time that a search takes grows exponentially with
// how much overlaps: half a second can take longer than anybody waits. But an
// order that is allowed if what failed happened soon or never, is allowed.
var windows = [...]time.Duration{0, 2 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, inTransit}

// patience is how long the last window may be searched; a tenth of that, each of
// the others.
const patience = time.Minute

// late is a history in which what failed may have happened until a window after
// it, but for an acquire with a deadline: later the store must not grant it.
func late(history []porcupine.Operation, window time.Duration) (ops []porcupine.Operation) {
	for _, op := range history {
		in, out := op.Input.(asked), op.Output.(told) //nolint:forcetypeassert // ours
		if out.failed {
			until := in.ret + window
			if in.within != 0 {
				until = max(in.ret, min(until, in.call+in.within))
			}
			in.ret = until
			op.Input, op.Return = in, int64(until)
		}
		ops = append(ops, op)
	}
	return ops
}

// decide says whether some order of the history is allowed; Unknown if that was
// not found out in time, which says nothing about the store. none is the longest
// window for which there is no order, negative if there is one for each.
func decide(history []porcupine.Operation, patience time.Duration) (result porcupine.CheckResult, none time.Duration) {
	none = -1
	for _, window := range windows {
		limit := patience
		if window != inTransit {
			limit /= 10
		}
		result = porcupine.CheckOperationsTimeout(model(), late(history, window), limit)
		switch result {
		case porcupine.Ok:
			return result, none
		case porcupine.Illegal:
			none = window
		case porcupine.Unknown: // a longer one may be easier
		}
	}
	return result, none
}

// check fails the test if no order of the history is allowed, and draws it. It
// also does if it cannot decide within patience, and says that it is this.
func check(t *testing.T, seed uint64, history []porcupine.Operation, within time.Duration) (decided bool) {
	t.Helper()
	result, none := decide(history, within)
	switch result {
	case porcupine.Ok:
		return true
	case porcupine.Unknown:
		tell := t.Errorf
		if within < patience { // a long history on a busy machine: it says nothing, and that is told
			tell = t.Logf
		}
		tell("seed %d: UNDECIDED, which is no violation: of these %d operations no order was found within %v, nor that there"+
			" is none; there is none if what failed happened within %v", seed, len(history), within, none)
		return false
	case porcupine.Illegal:
	}
	history = late(history, inTransit)
	end := time.Now().Add(within / 2)
	for _, part := range model().Partition(history) {
		for _, op := range shortest(part, end) {
			t.Logf("client %d, %6d to %6d us: %s", op.ClientId, op.Call/1000, op.Return/1000,
				model().DescribeOperation(op.Input, op.Output))
		}
	}
	_, info := porcupine.CheckOperationsVerbose(model(), history, within/2)
	file := filepath.Join(os.TempDir(), fmt.Sprintf("idemproxy-history-%d.html", seed))
	if err := porcupine.VisualizePath(model(), info, file); err != nil {
		t.Error(err)
	}
	t.Errorf("seed %d: no order of these %d operations is allowed; drawn in %s", seed, len(history), file)
	return true
}

// shortest is the shortest beginning of a key's history that is known not to be
// allowed, or its last part; nil if there is none. What was under way at its end
// may or may not have happened.
func shortest(part []porcupine.Operation, end time.Time) []porcupine.Operation {
	if !impossible(part, max(time.Until(end), time.Second)) {
		return nil
	}
	slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	for _, last := range part {
		if time.Now().After(end) {
			break
		}
		var begun []porcupine.Operation
		for _, op := range part {
			if op.Return > last.Return {
				out := op.Output.(told) //nolint:forcetypeassert // ours
				out.failed = true
				op.Output = out
			}
			if op.Call <= last.Return {
				begun = append(begun, op)
			}
		}
		if impossible(begun, time.Second) {
			return begun[max(0, len(begun)-25):]
		}
	}
	return part[max(0, len(part)-100):]
}

// impossible says that no order of the operations is allowed. A search that was
// given up does not say that.
func impossible(ops []porcupine.Operation, limit time.Duration) bool {
	return porcupine.CheckOperationsTimeout(model(), ops, limit) == porcupine.Illegal
}

// at is an operation of a made history.
func at(call, ret time.Duration, in asked, out told) porcupine.Operation {
	in.ttl, in.retention, in.call, in.ret = ttl, time.Hour, call, ret
	return porcupine.Operation{Input: in, Output: out, Call: int64(call), Return: int64(ret)}
}

// What failed may happen until its time is over, and not after; a search that is
// given up is not a violation.
func TestDecide(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	seen := told{phase: idem.InProgress, owner: 1, attempt: 1}
	for name, c := range map[string]struct {
		within, seen time.Duration
		patience     time.Duration
		want         porcupine.CheckResult
	}{
		"at once":                      {seen: ms, patience: patience, want: porcupine.Ok},
		"later":                        {seen: 30 * ms, patience: patience, want: porcupine.Ok},
		"much later":                   {seen: 400 * ms, patience: patience, want: porcupine.Ok},
		"too late":                     {seen: 600 * ms, patience: patience, want: porcupine.Illegal},
		"before its deadline":          {within: within, seen: 250 * ms, patience: patience, want: porcupine.Ok},
		"after its deadline":           {within: within, seen: 350 * ms, patience: patience, want: porcupine.Illegal},
		"nobody waits for the checker": {seen: 600 * ms, patience: 1, want: porcupine.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			history := []porcupine.Operation{
				at(0, ms, asked{kind: acquire, owner: 1, within: c.within}, told{failed: true}),
				at(c.seen, c.seen, asked{kind: purge}, told{absent: true}), // so it had not happened, or has lapsed
				at(c.seen+1, c.seen+1, asked{kind: look}, seen),
			}
			if got, _ := decide(history, c.patience); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
