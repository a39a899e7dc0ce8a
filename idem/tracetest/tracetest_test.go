package tracetest_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

const (
	ms        = time.Millisecond
	ttl       = 100 * ms
	retention = 200 * ms
	remember  = 300 * ms
)

// one and two are two attempts' tokens.
var one, two = idem.Owner{1}, idem.Owner{2}

// event is of a moment, unless a test says otherwise.
func event(at time.Duration, kind idem.Event, owner idem.Owner, told idem.Verdict) tracetest.Event {
	e := tracetest.Event{
		Kind: tracetest.Kind(kind), Owner: owner, Verdict: told, TTL: ttl, Retention: retention, Remember: remember, Call: at, Ret: at,
	}
	if told == idem.VerdictAcquired || told == idem.VerdictYours {
		e.Attempt = 1
	}
	return e
}

// with is the event, changed.
func with(e tracetest.Event, change func(*tracetest.Event)) tracetest.Event {
	change(&e)
	return e
}

func held(e *tracetest.Event)   { e.HoldOnLapse = true }
func second(e *tracetest.Event) { e.Attempt = 2 }

// lost has no answer, and may take effect until 500 ms after it.
func lost(e *tracetest.Event) { e.Failed = true }

// until has the call last.
func until(ret time.Duration) func(*tracetest.Event) {
	return func(e *tracetest.Event) { e.Ret = ret }
}

func TestCheck(t *testing.T) {
	t.Parallel()
	acquired := event(0, idem.EventAcquire, one, idem.VerdictAcquired)
	completed := event(10*ms, idem.EventComplete, one, idem.VerdictOK)
	loss := tracetest.Event{Kind: tracetest.Purge, Failed: true, Call: 30 * ms, Ret: 31 * ms}
	type trace = []tracetest.Event
	for name, c := range map[string]struct {
		trace trace
		path  bool
	}{
		"executed, and replayed": {trace{acquired, completed, event(20*ms, idem.EventAcquire, two, idem.VerdictCompleted)}, true},
		"granted to two":         {trace{acquired, with(event(20*ms, idem.EventAcquire, two, idem.VerdictAcquired), second)}, false},
		"granted after a lapse":  {trace{acquired, with(event(101*ms, idem.EventAcquire, two, idem.VerdictAcquired), second)}, true},
		"granted before the lease ends, which was renewed": {trace{
			acquired, event(50*ms, idem.EventRenew, one, idem.VerdictOK),
			with(event(120*ms, idem.EventAcquire, two, idem.VerdictAcquired), second),
		}, false},
		"the count begins again":      {trace{acquired, event(101*ms, idem.EventAcquire, two, idem.VerdictAcquired)}, false},
		"counted on after a loss":     {trace{acquired, completed, loss, with(event(40*ms, idem.EventAcquire, two, idem.VerdictAcquired), second)}, true},
		"what a loss took comes back": {trace{acquired, completed, loss, event(40*ms, idem.EventAcquire, two, idem.VerdictCompleted)}, true},
		"an earlier attempt comes back": {trace{
			with(acquired, held), event(15*ms, idem.EventTake, one, idem.VerdictOK),
			with(event(20*ms, idem.EventAcquire, two, idem.VerdictAcquired), second), loss,
			event(115*ms, idem.EventRelease, one, idem.VerdictOK),
		}, true},
		"what was never there does not come back": {trace{acquired, loss, event(40*ms, idem.EventAcquire, two, idem.VerdictCompleted)}, false},
		"counted on without a loss":               {trace{acquired, completed, with(event(40*ms, idem.EventAcquire, two, idem.VerdictAcquired), second)}, false},
		"a lapse that frees what is held":         {trace{with(acquired, held), with(event(101*ms, idem.EventAcquire, two, idem.VerdictAcquired), second)}, false},
		"a lapse that holds":                      {trace{with(acquired, held), event(101*ms, idem.EventAcquire, two, idem.VerdictUnknown)}, true},
		"a lapse that holds, too early":           {trace{with(acquired, held), event(50*ms, idem.EventAcquire, two, idem.VerdictUnknown)}, false},
		"an ending by somebody else":              {trace{acquired, event(10*ms, idem.EventComplete, two, idem.VerdictOK)}, false},
		"a late ending":                           {trace{acquired, event(150*ms, idem.EventComplete, one, idem.VerdictOK)}, true},
		"a late ending after another one":         {trace{acquired, with(event(120*ms, idem.EventAcquire, two, idem.VerdictAcquired), second), event(150*ms, idem.EventComplete, one, idem.VerdictOK)}, false},
		"a release of what is completed":          {trace{acquired, completed, event(20*ms, idem.EventRelease, one, idem.VerdictOK)}, false},
		"expired":                                 {trace{acquired, completed, event(215*ms, idem.EventAcquire, two, idem.VerdictExpired)}, true},
		"expired too early":                       {trace{acquired, completed, event(150*ms, idem.EventAcquire, two, idem.VerdictExpired)}, false},
		"forgotten when it is expired":            {trace{acquired, completed, event(215*ms, idem.EventAcquire, two, idem.VerdictAcquired)}, false},
		"forgotten at its end":                    {trace{acquired, completed, event(515*ms, idem.EventAcquire, two, idem.VerdictAcquired)}, true},
		"a response that came back":               {trace{acquired, completed, event(215*ms, idem.EventAcquire, two, idem.VerdictExpired), event(216*ms, idem.EventAcquire, two, idem.VerdictCompleted)}, false},
		"released, and granted again":             {trace{acquired, event(10*ms, idem.EventRelease, one, idem.VerdictOK), with(event(20*ms, idem.EventAcquire, two, idem.VerdictAcquired), second)}, true},
		"an operator's take":                      {trace{acquired, event(10*ms, idem.EventTake, one, idem.VerdictOK), event(20*ms, idem.EventComplete, one, idem.VerdictLost)}, true},
		"a take of what is held":                  {trace{acquired, event(10*ms, idem.EventHold, one, idem.VerdictOK), event(20*ms, idem.EventTake, one, idem.VerdictOK)}, false},
		"resolved by whom it may concern":         {trace{acquired, event(10*ms, idem.EventHold, one, idem.VerdictOK), event(20*ms, idem.EventResolveRetry, idem.Owner{}, idem.VerdictOK)}, true},
		"resolved of another attempt":             {trace{acquired, event(10*ms, idem.EventHold, one, idem.VerdictOK), event(20*ms, idem.EventResolveRetry, two, idem.VerdictOK)}, false},
		"overlapping, in either order":            {trace{with(acquired, until(30*ms)), with(event(5*ms, idem.EventAcquire, two, idem.VerdictInProgress), until(20*ms))}, true},
		"not overlapping, in wrong order":         {trace{with(acquired, func(e *tracetest.Event) { e.Call, e.Ret = 30*ms, 30*ms }), with(event(5*ms, idem.EventAcquire, two, idem.VerdictInProgress), until(20*ms))}, false},
		"no answer, and it was done":              {trace{with(acquired, lost), event(20*ms, idem.EventAcquire, two, idem.VerdictInProgress)}, true},
		"no answer, and it was not done":          {trace{with(acquired, lost), event(20*ms, idem.EventAcquire, two, idem.VerdictAcquired)}, true},
		"no answer, and it was done late":         {trace{with(acquired, lost), event(20*ms, idem.EventRelease, one, idem.VerdictLost), event(400*ms, idem.EventAcquire, two, idem.VerdictInProgress)}, true},
		"no answer, and it was done twice":        {trace{with(acquired, lost), event(20*ms, idem.EventRelease, one, idem.VerdictOK), event(40*ms, idem.EventAcquire, two, idem.VerdictInProgress)}, false},
		"done and seen after it was over":         {trace{with(with(acquired, lost), held), event(700*ms, idem.EventAcquire, two, idem.VerdictUnknown)}, true},
		"purged":                                  {trace{acquired, completed, with(event(20*ms, 0, idem.Owner{}, 0), func(e *tracetest.Event) { e.Kind, e.Seen = tracetest.Purge, idem.Completed }), event(30*ms, idem.EventAcquire, two, idem.VerdictAcquired)}, true},
		"a look":                                  {trace{acquired, with(event(20*ms, 0, one, 0), func(e *tracetest.Event) { e.Kind, e.Seen, e.Attempt = tracetest.Look, idem.InProgress, 1 })}, true},
		"a look at what is not so":                {trace{acquired, with(event(20*ms, 0, one, 0), func(e *tracetest.Event) { e.Kind, e.Seen, e.Attempt = tracetest.Look, idem.Unknown, 1 })}, false},
		"another response": {trace{
			acquired, with(completed, func(e *tracetest.Event) { e.Response = 7 }),
			with(event(20*ms, idem.EventAcquire, two, idem.VerdictCompleted), func(e *tracetest.Event) { e.Response = 8 }),
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tracetest.Check(c.trace)
			var no *tracetest.NoPathError
			if path := err == nil; path != c.path || !path && !errors.As(err, &no) {
				t.Errorf("a path: %v, want %v: %v", path, c.path, err)
			}
		})
	}
}

func TestCheckCallers(t *testing.T) {
	t.Parallel()
	const acquire, renew, complete, release, hold = idem.EventAcquire, idem.EventRenew, idem.EventComplete, idem.EventRelease, idem.EventHold
	type call struct {
		kind idem.Event
		told string // as a verdict says, or nothing
	}
	for name, c := range map[string]struct {
		calls []call
		want  string // the line that the model has not; none if it is empty
	}{
		"executed":                         {[]call{{acquire, "acquired"}, {renew, "ok"}, {complete, "ok"}}, ""},
		"a renewal after the end":          {[]call{{acquire, "acquired"}, {complete, ""}, {renew, "ok"}, {complete, "ok"}}, ""},
		"not answered":                     {[]call{{acquire, ""}, {acquire, ""}, {release, ""}, {release, "ok"}}, ""},
		"not heard, then refused":          {[]call{{acquire, ""}, {acquire, "mismatch"}, {release, "lost"}}, ""},
		"refused, and given back":          {[]call{{acquire, "mismatch"}, {release, "lost"}}, "acquire, mismatch -> release"},
		"another recipe":                   {[]call{{acquire, "other-recipe"}, {acquire, "acquired"}, {hold, "ok"}}, ""},
		"held, and settled":                {[]call{{acquire, "acquired"}, {hold, "ok"}, {complete, "ok"}}, ""},
		"held, settled, and held again":    {[]call{{acquire, "acquired"}, {hold, ""}, {complete, "ok"}, {hold, "lost"}}, ""},
		"settled, and held":                {[]call{{acquire, "acquired"}, {complete, "ok"}, {hold, "lost"}}, "complete, ok -> hold"},
		"a renewal of nothing":             {[]call{{renew, "lost"}}, "begin, nothing -> renew"},
		"a renewal of somebody else's":     {[]call{{acquire, "in-progress"}, {renew, "lost"}}, "acquire, in-progress -> renew"},
		"executed without a lease":         {[]call{{acquire, ""}, {complete, "ok"}}, "acquire, nothing -> complete"},
		"executed although it is unknown":  {[]call{{acquire, "unknown"}, {complete, "ok"}}, "acquire, unknown -> complete"},
		"acquired although it is acquired": {[]call{{acquire, "acquired"}, {acquire, "yours"}}, "acquire, acquired -> acquire"},
		"acquired again after the end":     {[]call{{acquire, "acquired"}, {release, "ok"}, {acquire, "acquired"}}, "release, ok -> acquire"},
		"ended in two ways":                {[]call{{acquire, "acquired"}, {complete, "ok"}, {release, "lost"}}, "complete, ok -> release"},
		"held, though it was completed":    {[]call{{acquire, "acquired"}, {complete, "lost"}, {hold, "ok"}}, "complete, lost -> hold"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var trace []tracetest.Event
			for i, call := range c.calls {
				e := event(time.Duration(i)*ms, call.kind, one, 0)
				for e.Verdict.String() != call.told && call.told != "" {
					e.Verdict++
				}
				e.Failed = call.told == ""
				trace = append(trace, e)
			}
			err := tracetest.CheckCallers(trace)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
