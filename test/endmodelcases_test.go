package test_test

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// The model of TestClientHistories refuses what the protocol forbids, and no more.
func TestEndModel(t *testing.T) {
	t.Parallel()
	begin := func(n int) endInput { return endInput{act: endBegin, request: n} }
	finish := func(n int, fate endFate) endInput { return endInput{act: endFinish, request: n, fates: fate} }
	lapsing := func(n int) endInput { return endInput{act: endBegin, request: n, lapses: true} }
	fails := func(astray bool) endInput { return endInput{act: endFailed, request: 1, astray: astray} }
	act := func(a endAct) endInput { return endInput{act: a, request: -1} }
	of := func(a endAct, owner string) endInput { return endInput{act: a, request: -1, owner: owner} }
	replay := func(of int) endInput { return endInput{act: endReplayed, told: of} }
	moved := endInput{act: endFinish, request: 1, fates: fateDone, moved: true}
	follow := func(in endInput) endInput { in.payload = followed; return in }
	for name, c := range map[string]struct {
		ops  []endInput
		want porcupine.CheckResult
	}{
		"a replay":                      {[]endInput{begin(1), finish(1, fateDone), replay(1)}, porcupine.Ok},
		"another's response":            {[]endInput{begin(1), finish(1, fateDone), replay(2)}, porcupine.Illegal},
		"executed again when completed": {[]endInput{begin(1), finish(1, fateDone), begin(2)}, porcupine.Illegal},
		"executed again when held":      {[]endInput{begin(1), finish(1, fateHeld), begin(2)}, porcupine.Illegal},
		"executed again when free":      {[]endInput{begin(1), finish(1, fateFree), begin(2)}, porcupine.Ok},
		"two at once":                   {[]endInput{begin(1), begin(2)}, porcupine.Illegal},
		"a purge, then executed":        {[]endInput{begin(1), finish(1, fateDone), act(endPurge), begin(2)}, porcupine.Ok},
		"a lease taken, then executed":  {[]endInput{begin(1), act(endTake), begin(2), finish(1, fateDone), finish(2, fateDone), replay(2)}, porcupine.Ok},
		"a lease taken, late response":  {[]endInput{begin(1), act(endTake), begin(2), finish(1, fateDone), finish(2, fateDone), replay(1)}, porcupine.Illegal},
		"a lease taken twice":           {[]endInput{begin(1), act(endTake), act(endTake), begin(2)}, porcupine.Ok},
		"a new key taken":               {[]endInput{act(endTake)}, porcupine.Illegal},
		"an unknown key taken":          {[]endInput{begin(1), finish(1, fateHeld), act(endTake)}, porcupine.Illegal},
		"an unknown key resolved":       {[]endInput{begin(1), finish(1, fateHeld), act(endComplete), replay(-1)}, porcupine.Ok},
		"a running key resolved":        {[]endInput{begin(1), act(endRetry)}, porcupine.Illegal},
		"a held attempt resolved":       {[]endInput{begin(1), finish(1, fateHeld), of(endLook, "x"), of(endRetry, "x"), begin(2)}, porcupine.Ok},
		"a later attempt resolved": {[]endInput{
			begin(1), finish(1, fateHeld), of(endLook, "x"), act(endRetry), begin(2), finish(2, fateHeld), of(endRetry, "x"),
		}, porcupine.Illegal},
		"resolved twice": {[]endInput{begin(1), finish(1, fateHeld), of(endLook, "x"), of(endRetry, "x"), of(endRetry, "x"), begin(2)}, porcupine.Ok},
		"a later attempt seen": {[]endInput{
			begin(1), finish(1, fateHeld), of(endLook, "x"), act(endRetry), begin(2), finish(2, fateHeld), of(endLook, "y"), of(endRetry, "y"),
		}, porcupine.Ok},
		"joined, and then taken":          {[]endInput{begin(1), act(endTake), {act: endReplayed, told: 1, joined: true}, begin(2)}, porcupine.Ok},
		"replayed, and it was taken":      {[]endInput{begin(1), act(endTake), finish(1, fateDone), {act: endReplayed, told: 1, joined: true}}, porcupine.Illegal},
		"a redirect is followed":          {[]endInput{begin(1), moved, follow(begin(2)), follow(finish(2, fateDone)), replay(1), follow(replay(2))}, porcupine.Ok},
		"followed, and executed twice":    {[]endInput{begin(1), moved, follow(begin(2)), follow(finish(2, fateDone)), follow(begin(3))}, porcupine.Illegal},
		"followed without a redirect":     {[]endInput{begin(1), finish(1, fateDone), follow(begin(2))}, porcupine.Illegal},
		"unknown while it runs":           {[]endInput{begin(1), act(endUnknown)}, porcupine.Illegal},
		"unknown after a lapse":           {[]endInput{lapsing(1), act(endUnknown), finish(1, fateDone), replay(1)}, porcupine.Ok},
		"executed again after a lapse":    {[]endInput{lapsing(1), act(endUnknown), begin(2)}, porcupine.Illegal},
		"unknown after it finished":       {[]endInput{lapsing(1), finish(1, fateDone), act(endUnknown)}, porcupine.Illegal},
		"resolved after a lapse":          {[]endInput{lapsing(1), act(endRetry), begin(2), finish(1, fateDone), finish(2, fateDone), replay(2)}, porcupine.Ok},
		"resolved, and done all the same": {[]endInput{lapsing(1), act(endComplete), finish(1, fateDone), replay(1)}, porcupine.Illegal},
		"a lease that is given back":      {[]endInput{fails(false), act(endProgress), begin(2)}, porcupine.Ok},
		"a lease that is not":             {[]endInput{fails(false), act(endUnknown)}, porcupine.Illegal},
		"a lease of who died":             {[]endInput{fails(true), act(endUnknown)}, porcupine.Ok},
		"a lease unheard of, and taken":   {[]endInput{fails(false), act(endProgress), act(endTake), begin(2), finish(2, fateDone), replay(2)}, porcupine.Ok},
		"in progress, and nobody is":      {[]endInput{act(endProgress)}, porcupine.Illegal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var history []porcupine.Operation
			for i, in := range c.ops {
				history = append(history, porcupine.Operation{Input: in, Call: int64(2 * i), Return: int64(2*i + 1)})
			}
			if got := porcupine.CheckOperationsTimeout(endModel(), history, 0); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
