package proxy_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// asyncRig is a rig whose backend answers when it is let.
type asyncRig struct {
	*rig

	arrived chan *backendtest.Request // what the backend got
	let     chan string               // the body that it answers with; "cut" breaks off
	ended   chan proxy.Report
}

func newAsyncRig(t *testing.T, change ...func(*proxy.Config)) *asyncRig {
	t.Helper()
	a := &asyncRig{
		arrived: make(chan *backendtest.Request, 16), let: make(chan string, 16), ended: make(chan proxy.Report, 16),
	}
	a.rig = newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/at-once" {
			c.Answer(http.StatusOK, "")
			return
		}
		a.arrived <- q
		switch body := <-a.let; body {
		case "cut":
			c.Reset()
		default:
			c.Answer(http.StatusCreated, body, "X-Made: here")
		}
	}, append([]func(*proxy.Config){func(c *proxy.Config) {
		c.RespondAsync, c.MaxWait = true, time.Minute
		c.Trace.Ended = func(r *proxy.Report) { a.ended <- *r }
	}}, change...)...)
	return a
}

const preferAsync = "Prefer: respond-async"

// accepted posts, and gives where to ask.
func (a *asyncRig) accepted(key, body string, header ...string) (where string) {
	a.t.Helper()
	got := a.post(key, body, append([]string{preferAsync}, header...)...)
	where = got.Header.Get("Location")
	if got.StatusCode != http.StatusAccepted || where == "" || got.Header.Get("Preference-Applied") != "respond-async" ||
		got.Header.Get("Retry-After") != "1" {
		a.t.Fatalf("%d %v %q", got.StatusCode, got.Header, got.body)
	}
	return where
}

// outcomeTold is what an outcome resource says.
type outcomeTold struct {
	Key        string `json:"idempotency_key"`
	State      string
	Attempt    int
	Status     int
	Replayable *bool
	Until      string `json:"replayable_until"`
	Response   string
}

func (a *asyncRig) ask(where string, header ...string) (outcomeTold, answer) {
	a.t.Helper()
	got := a.do(http.MethodGet, where, "", "", header...)
	var d outcomeTold
	if err := json.Unmarshal([]byte(got.body), &d); err != nil || got.StatusCode != http.StatusOK {
		a.t.Fatalf("%d %q: %v", got.StatusCode, got.body, err)
	}
	return d, got
}

// A client that prefers it is answered at once, and learns what became of its request
// without sending it again.
func TestAsync(t *testing.T) {
	t.Parallel()
	r := newAsyncRig(t)
	where := r.accepted("k/1 +", "amount=5", "X-Order: 1", "Prefer: handling=lenient")
	seen := <-r.arrived
	if got := seen.Header.Values("Prefer"); !slices.Equal(got, []string{"handling=lenient"}) || seen.Header.Get("X-Order") != "1" ||
		string(seen.Payload) != "amount=5" || seen.Header.Get("X-Request-Id") == "" {
		t.Errorf("the backend got %v %q", seen.Header, seen.Payload)
	}
	if d, got := r.ask(where); d.State != "in-progress" || d.Key != "k/1 +" || d.Attempt != 1 || got.Header.Get("Retry-After") != "1" {
		t.Errorf("in progress: %+v %v", d, got.Header)
	}
	r.isProblem(r.do(http.MethodGet, where+"&show=response", "", ""), 409, "in-progress")
	if again := r.accepted("k/1 +", "amount=5"); again != where { // the first 202 may have got lost
		t.Errorf("another place: %s, %s", again, where)
	}
	r.isProblem(r.post("k/1 +", "amount=5"), 409, "in-progress")
	r.let <- "made"
	if end := <-r.ended; end.Outcome != proxy.Executed || end.Ending != idem.Stored || end.Status != 201 || end.Attempt != 1 {
		t.Errorf("ended as %+v", end)
	}
	d, _ := r.ask(where)
	until, err := time.Parse(time.RFC3339, d.Until)
	if d.State != "executed" || d.Status != 201 || d.Replayable == nil || !*d.Replayable || err != nil || until.Before(time.Now()) {
		t.Errorf("executed: %+v", d)
	}
	got := r.do(http.MethodGet, d.Response, "", "")
	if got.StatusCode != 201 || got.body != "made" || got.Header.Get("X-Made") != "here" || got.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%d %v %q", got.StatusCode, got.Header, got.body)
	}
	if got := r.post("k/1 +", "amount=5", preferAsync); got.StatusCode != 201 || got.body != "made" {
		t.Errorf("a retry got %d %q", got.StatusCode, got.body)
	}
	r.executions("k/1 +", 1)
	r.outcome(proxy.Accepted, 2)
	r.outcome(proxy.OutcomeAsked, 2)
}

// A client may say how long it would rather wait.
func TestAsyncAfterWaiting(t *testing.T) {
	t.Parallel()
	r := newAsyncRig(t)
	r.let <- "made"
	if got := r.post("k", "x", "Prefer: respond-async, wait=50"); got.StatusCode != 201 || got.body != "made" ||
		got.Header.Get("X-Request-Id") == "" {
		t.Errorf("%d %v %q", got.StatusCode, got.Header, got.body)
	}
	if got := r.post("late", "x", "Prefer: respond-async, wait=1"); got.StatusCode != 202 {
		t.Errorf("after its patience: %d %q", got.StatusCode, got.body)
	}
	r.let <- "made"
	<-r.ended
	r.isProblem(r.post("k", "other", "Prefer: respond-async, wait=50"), 422, "key-reused")
	r.isProblem(r.post("k", "other", preferAsync), 422, "key-reused")
	r.outcome(proxy.Executed, 1)
}

// Without the route's leave, the backend is asked for it.
func TestAsyncIsTheBackendsAffair(t *testing.T) {
	t.Parallel()
	r := newAsyncRig(t, func(c *proxy.Config) { c.RespondAsync = false })
	r.let <- "made"
	if got := r.post("k", "x", preferAsync); got.StatusCode != 201 {
		t.Errorf("%d %q", got.StatusCode, got.body)
	}
	if seen := <-r.arrived; seen.Header.Get("Prefer") != "respond-async" {
		t.Errorf("the backend got %v", seen.Header)
	}
	r.let <- "the backend's own"
	if got := r.do(http.MethodGet, "/.idemproxy/outcomes?key=k", "", ""); got.body != "the backend's own" {
		t.Errorf("%d %q", got.StatusCode, got.body)
	}
}

// What a caller may not see is not there.
func TestOutcomesAreTheCallers(t *testing.T) {
	t.Parallel()
	r := newAsyncRig(t, func(c *proxy.Config) { c.RespondAsync, c.Outcomes = false, true })
	const at = "/.idemproxy/outcomes?key="
	alice, bob := "Authorization: Bearer alice", "Authorization: Bearer bob"
	r.let <- "a"
	r.let <- "b"
	r.post("hers", "x", alice)
	r.post("nobodys", "x")
	none := r.do(http.MethodGet, at+"never", "", "", alice)
	r.isProblem(none, 404, "outcome-none")
	for name, got := range map[string]answer{
		"another's": r.do(http.MethodGet, at+"hers", "", "", bob), "another's response": r.do(http.MethodGet, at+"hers&show=response", "", "", bob),
		"without credentials": r.do(http.MethodGet, at+"hers", "", ""), "nobody's without proof": r.do(http.MethodGet, at+"nobodys", "", ""),
		"nobody's by somebody": r.do(http.MethodGet, at+"nobodys", "", "", alice),
		"a wrong proof":        r.do(http.MethodGet, at+"nobodys&proof=00112233445566778899aabbccddeeff", "", ""),
	} {
		if got.StatusCode != 404 || got.body != none.body {
			t.Errorf("%s: %d %q", name, got.StatusCode, got.body)
		}
	}
	if d, _ := r.ask(at+"hers", alice); d.State != "executed" {
		t.Errorf("hers: %+v", d)
	}
	r.isProblem(r.do(http.MethodPost, at+"hers", "", "x", alice), 405, "outcome-method")
	r.isProblem(r.do(http.MethodGet, "/.idemproxy/outcomes", "", ""), 400, "key-invalid")
	r.isProblem(r.do(http.MethodGet, at+"hers&key=never", "", "", alice), 400, "key-invalid")
	if d, _ := r.ask(at+"hers&key=hers", alice); d.State != "executed" {
		t.Errorf("hers, twice: %+v", d)
	}
	if n := r.backend.Total(); n != 2 {
		t.Errorf("the backend got %d requests", n)
	}
}

// Keys are looked up in the caller's scope, under the names of earlier settings, too.
func TestOutcomesInScopes(t *testing.T) {
	t.Parallel()
	r := newAsyncRig(t, func(c *proxy.Config) {
		var err error
		if c.Scope, err = caller.ParseScope([]string{"header:X-Account"}); err != nil {
			t.Fatal(err)
		}
		if c.EarlierScopes, err = caller.ParseEarlierScopes([]string{"header:X-Old"}); err != nil {
			t.Fatal(err)
		}
	})
	where := r.accepted("k", "x", "X-Account: 7", "X-Old: 1")
	r.let <- "made"
	<-r.ended
	for _, scope := range []string{"X-Account: 7", "X-Old: 1"} {
		if d, _ := r.ask(where, scope); d.State != "executed" {
			t.Errorf("%s: %+v", scope, d)
		}
	}
	r.isProblem(r.do(http.MethodGet, where, "", "", "X-Account: 8"), 404, "outcome-none")
	r.isProblem(r.do(http.MethodGet, where, "", ""), 404, "outcome-none")
}

// What fails after a 202 frees the key, or leaves it unknown, as ever; who asks learns
// which.
func TestAsyncFailures(t *testing.T) {
	t.Parallel()
	for name, on := range map[string]idem.Ambiguity{"released": idem.AmbiguousRelease, "held": idem.AmbiguousHold} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newAsyncRig(t, func(c *proxy.Config) { c.Policy.OnAmbiguous = on })
			where := r.accepted("k", "x")
			r.let <- "cut"
			if end := <-r.ended; end.Outcome != proxy.BackendCut || end.Ending.String() != name {
				t.Errorf("ended as %v, %v", end.Outcome, end.Ending)
			}
			if on == idem.AmbiguousHold {
				if d, _ := r.ask(where); d.State != "unknown" {
					t.Errorf("%+v", d)
				}
				r.isProblem(r.do(http.MethodGet, where+"&show=response", "", ""), 409, "outcome-unknown")
				return
			}
			r.isProblem(r.do(http.MethodGet, where, "", ""), 404, "outcome-none")
			if again := r.accepted("k", "x"); again != where {
				t.Errorf("another place: %s", again)
			}
			r.let <- "made"
			<-r.ended
			if d, _ := r.ask(where); d.State != "executed" || d.Attempt != 2 {
				t.Errorf("%+v", d)
			}
		})
	}
}

// A response that is too large to keep is read to its end all the same.
func TestAsyncTooLarge(t *testing.T) {
	t.Parallel()
	r := newAsyncRig(t, func(c *proxy.Config) { c.MaxResponseBody = 10 })
	where := r.accepted("k", "x")
	r.let <- strings.Repeat("x", 100_000)
	if end := <-r.ended; end.Outcome != proxy.Executed {
		t.Errorf("ended as %v", end.Outcome)
	}
	if d, _ := r.ask(where); d.State != "executed" || d.Replayable == nil || *d.Replayable || d.Response != "" {
		t.Errorf("%+v", d)
	}
	r.isProblem(r.do(http.MethodGet, where+"&show=response", "", ""), 409, "response-not-kept")
}

// What goes on without its client counts as under way: for the bounds of its route, and
// for a shutdown, which waits for it.
func TestAsyncIsUnderWay(t *testing.T) {
	t.Parallel()
	r := newAsyncRig(t, func(c *proxy.Config) { c.MaxPerKey = 1 })
	r.accepted("k", "x")
	<-r.arrived
	r.isProblem(r.post("k", "x"), 429, "too-many-with-key")
	if n := r.server.UnderWay(); n != 1 {
		t.Errorf("%d under way", n)
	}
	r.client.CloseIdleConnections()
	down := make(chan error, 1)
	go func() { down <- r.server.Shutdown(context.Background()) }()
	for {
		if _, err := r.try(http.MethodGet, "/at-once", "", ""); err != nil {
			break // nobody listens any more
		}
	}
	select {
	case err := <-down:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	r.let <- "made"
	end := <-r.ended
	if err := <-down; err != nil || end.Outcome != proxy.Executed || end.Ending != idem.Stored {
		t.Errorf("%v, %v %v", err, end.Outcome, end.Ending)
	}
	if n, held := r.server.UnderWay(), r.server.Buffered(); n != 0 || held != 0 {
		t.Errorf("%d under way, %d bytes", n, held)
	}
}

// When it has ended, there is room for another one.
func TestAsyncMakesRoom(t *testing.T) {
	t.Parallel()
	r := newAsyncRig(t, func(c *proxy.Config) { c.MaxPerKey = 1 })
	r.accepted("k", "x")
	r.let <- "made"
	<-r.ended
	if a := r.post("k", "x"); a.StatusCode != 201 || a.body != "made" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
}

// The first answer says what it promises, and what is stored of it does not.
func TestExpose(t *testing.T) {
	t.Parallel()
	r := newAsyncRig(t, func(c *proxy.Config) {
		c.Expose, c.MaxResponseBody = true, 10
		c.Policy.Retention = time.Hour
	})
	r.let <- "made"
	begun := time.Now()
	got := r.post("k", "x")
	until, err := http.ParseTime(got.Header.Get("Idempotency-Replay-Until"))
	if got.Header.Get("Idempotent-Replayed") != "false" || got.Header.Get("Idempotency-Attempt") != "1" || err != nil ||
		until.Sub(begun) < time.Hour-time.Second || until.Sub(begun) > 2*time.Hour {
		t.Errorf("%v", got.Header)
	}
	got = r.post("k", "x")
	if got.Header.Get("Idempotent-Replayed") != "true" || got.Header.Get("Idempotency-Attempt") != "" ||
		got.Header.Get("Idempotency-Replay-Until") != "" {
		t.Errorf("a replay says %v", got.Header)
	}
	r.let <- "too large to be kept"
	if got := r.post("large", "x"); got.Header.Get("Idempotency-Replay-Until") != "" || got.Header.Get("Idempotent-Replayed") != "false" {
		t.Errorf("what is not kept promises %v", got.Header)
	}
}

// A key in the body is the copy's, too, and counts for its bound.
func TestAsyncWithTheKeyInTheBody(t *testing.T) {
	t.Parallel()
	r := newAsyncRig(t, keysIn(t, "json:/id"), func(c *proxy.Config) { c.MaxPerKey = 1 })
	one := r.accepted("", `{"id":"one"}`, isJSON)
	other := r.accepted("", `{"id":"other"}`, isJSON)
	<-r.arrived
	<-r.arrived
	r.isProblem(r.post("", `{"id":"one"}`, isJSON), 429, "too-many-with-key")
	r.let <- "made"
	r.let <- "made"
	<-r.ended
	<-r.ended
	for key, where := range map[string]string{"one": one, "other": other} {
		if d, _ := r.ask(where); d.State != "executed" || d.Key != key || !strings.Contains(where, "key="+key) {
			t.Errorf("%s: %+v at %s", key, d, where)
		}
	}
	if a := r.post("", `{"id":"one"}`, isJSON); a.body != "made" || a.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
}
