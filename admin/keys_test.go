package admin_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

// operator asks the admin API of a store of his own.
type operator struct {
	t      *testing.T
	server *admin.Server
	engine *idem.Engine
}

func newOperator(t *testing.T, watched interface {
	tracetest.Store
	tracetest.Watched
},
) *operator {
	t.Helper()
	store := tracetest.Watch(t, watched, watched)
	e := idem.NewEngine(idem.Config{Store: store})
	t.Cleanup(func() { e.Close(context.Background()) })
	return &operator{t, admin.New(admin.Config{
		Metrics: http.NotFoundHandler(),
		Keys:    &admin.Keys{Store: store, Release: e.ReleaseFrom, Audit: func(string, string, idem.Key, error) {}},
	}), e}
}

func (o *operator) ask(method, path, body string) (status int, text string) {
	o.t.Helper()
	r := httptest.NewRequestWithContext(o.t.Context(), method, path, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:1234", "127.0.0.1"
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	o.server.Handler().ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func (o *operator) begin(key idem.Key, change ...func(*idem.Policy)) (idem.Outcome, *idem.Attempt) {
	o.t.Helper()
	p := idem.DefaultPolicy()
	for _, f := range change {
		f(&p)
	}
	out, a, err := o.engine.Begin(o.t.Context(), idem.Request{Key: key, Policy: &p})
	if err != nil {
		o.t.Fatal(err)
	}
	return out, a
}

func key(t *testing.T, value string) idem.Key {
	t.Helper()
	k, err := idem.ParseKey(value)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// meddled is a store in which something happens after each look at a record.
type meddled struct {
	*storetest.Memory
	after func()
}

func (m *meddled) Get(ctx context.Context, k idem.Key) (idem.Record, error) {
	r, err := m.Memory.Get(ctx, k)
	if m.after != nil {
		m.after()
	}
	return r, err
}

// A release frees the attempt that was looked at, and the next one knows that
// there was one before.
func TestReleaseCountsOn(t *testing.T) {
	t.Parallel()
	o := newOperator(t, storetest.NewMemory())
	_, first := o.begin(key(t, "k"))
	if status, text := o.ask(http.MethodPost, "/keys/release", `{"key":"k","confirm":true}`); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	out, second := o.begin(key(t, "k"))
	if out.Kind != idem.VerdictAcquired || second.Number() != 2 {
		t.Errorf("after a release the next is %v, attempt %d; want acquired, 2", out.Kind, out.Attempt)
	}
	if end := first.Finish(idem.Answered, &idem.Response{Status: 200}); end != idem.Lost {
		t.Errorf("the one that was released: %v", end)
	}
	if end := second.Finish(idem.Answered, &idem.Response{Status: 200}); end != idem.Stored {
		t.Errorf("the second: %v", end)
	}
}

// A body that no retry would get is refused, and the key stays held.
func TestResolveWithABodyThatHasNoPlace(t *testing.T) {
	t.Parallel()
	o := newOperator(t, storetest.NewMemory())
	_, a := o.begin(key(t, "k"), func(p *idem.Policy) { p.OnAmbiguous = idem.AmbiguousHold })
	a.Finish(idem.MayHaveExecuted, nil)
	ask := func(body string) int {
		status, _ := o.ask(http.MethodPost, "/keys/resolve", `{"key":"k","confirm":true,"action":"complete","status":204`+body+`}`)
		return status
	}
	if status := ask(`,"body":"eA=="`); status != http.StatusBadRequest {
		t.Errorf("a 204 with a body: %d, want 400", status)
	}
	if status := ask(""); status != http.StatusOK {
		t.Errorf("a 204 without one: %d, want 200", status)
	}
}

// A response without a body can be replayed; one that was too large to keep cannot, and is not said to be.
func TestShownResponses(t *testing.T) {
	t.Parallel()
	o := newOperator(t, storetest.NewMemory())
	for name, response := range map[string]*idem.Response{"empty": {Status: 204}, "omitted": {Status: 201, BodyOmitted: true}} {
		_, a := o.begin(key(t, name))
		if end := a.Finish(idem.Answered, response); end != idem.Stored {
			t.Fatalf("%s: %v", name, end)
		}
		_, text := o.ask(http.MethodGet, "/keys?key="+name, "")
		var got admin.Record
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if got.Status != response.Status || got.BodyOmitted != response.BodyOmitted || (got.ReplayMS > 0) == response.BodyOmitted {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// What completes, or changes hands, between the look and the release stays as it
// is, and the operator is told.
func TestReleaseForgetsNoCompletion(t *testing.T) {
	t.Parallel()
	m := &meddled{Memory: storetest.NewMemory()}
	o := newOperator(t, m)
	_, running := o.begin(key(t, "done"))
	m.after = func() { running.Finish(idem.Answered, &idem.Response{Status: 201}) }
	status, text := o.ask(http.MethodPost, "/keys/release", `{"key":"done","confirm":true}`)
	if status != http.StatusConflict || !strings.Contains(text, "changed since it was looked at: nothing was done") {
		t.Errorf("completed in between: %d %s", status, text)
	}
	if out, _ := o.begin(key(t, "done")); out.Kind != idem.VerdictCompleted || out.Response.Status != 201 {
		t.Errorf("what completed in between is %v", out.Kind)
	}

	_, running = o.begin(key(t, "next"))
	var next *idem.Attempt
	m.after = func() {
		running.Finish(idem.NothingSent, nil)
		_, next = o.begin(key(t, "next"))
	}
	if status, text := o.ask(http.MethodPost, "/keys/release", `{"key":"next","confirm":true}`); status != http.StatusConflict {
		t.Errorf("begun anew in between: %d %s", status, text)
	}
	if end := next.Finish(idem.Answered, &idem.Response{Status: 201}); end != idem.Stored {
		t.Errorf("who began in between: %v", end)
	}
}

// The owner that a person saw is the one that is released.
func TestReleaseOfTheOwnerSeen(t *testing.T) {
	t.Parallel()
	o := newOperator(t, storetest.NewMemory())
	_, running := o.begin(key(t, "k"))
	defer running.Finish(idem.NothingSent, nil)
	_, text := o.ask(http.MethodGet, "/keys?key=k", "")
	var seen admin.Record
	if err := json.Unmarshal([]byte(text), &seen); err != nil || len(seen.Owner) != 8 {
		t.Fatalf("%v: %s", err, text)
	}
	other := strings.Map(func(r rune) rune {
		if r == 'a' {
			return 'b'
		}
		return 'a'
	}, seen.Owner)
	for owner, want := range map[string]int{other: http.StatusConflict, seen.Owner[:4]: http.StatusConflict} {
		if status, text := o.ask(http.MethodPost, "/keys/release", `{"key":"k","owner":"`+owner+`","confirm":true}`); status != want {
			t.Errorf("%s: %d %s", owner, status, text)
		}
	}
	if status, text := o.ask(http.MethodPost, "/keys/release", `{"key":"k","owner":"`+seen.Owner+`","confirm":true}`); status != 200 {
		t.Errorf("%d %s", status, text)
	}
}

// What is not there is not said to be gone now.
func TestPurgeOfNothing(t *testing.T) {
	t.Parallel()
	o := newOperator(t, storetest.NewMemory())
	for _, path := range []string{"/keys/purge", "/keys/release"} {
		status, text := o.ask(http.MethodPost, path, `{"key":"never","confirm":true}`)
		if status != http.StatusNotFound || !strings.Contains(text, "no record of this key in this scope: nothing was done") {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	for _, value := range []string{"a", "b"} {
		_, a := o.begin(key(t, value).InScope("acct"))
		a.Finish(idem.Answered, &idem.Response{Status: 200})
	}
	_, a := o.begin(key(t, "c").InScope("header:x=1\x1fhost=a"))
	a.Finish(idem.Answered, &idem.Response{Status: 200})
	if status, text := o.ask(http.MethodPost, "/keys/purge", `{"key":"c","scope":"header:x=1\thost=a","confirm":true}`); status != 200 {
		t.Errorf("a scope of two sources: %d %s", status, text)
	}
	for _, want := range []string{`"keys":2`, `"keys":0`} {
		if status, text := o.ask(http.MethodPost, "/keys/purge", `{"scope":"acct","confirm":true}`); status != 200 || !strings.Contains(text, want) {
			t.Errorf("%d %s, want %s", status, text, want)
		}
	}
}

// A response given by hand is kept as long as the key's route said, and a key is
// shown with what it was promised.
func TestResolveKeepsTheRetention(t *testing.T) {
	t.Parallel()
	o := newOperator(t, storetest.NewMemory())
	_, a := o.begin(key(t, "k"), func(p *idem.Policy) {
		p.Retention, p.Remember, p.OnAmbiguous = 720*time.Hour, time.Hour, idem.AmbiguousHold
	})
	if end := a.Finish(idem.MayHaveExecuted, nil); end != idem.Held {
		t.Fatal(end)
	}
	shown := func() (r admin.Record) {
		t.Helper()
		if _, text := o.ask(http.MethodGet, "/keys?key=k", ""); json.Unmarshal([]byte(text), &r) != nil {
			t.Fatal(text)
		}
		return r
	}
	if r := shown(); r.State != "unknown" || r.ExpiresInMS != 0 || r.RetentionMS != (720*time.Hour).Milliseconds() || r.RememberMS != time.Hour.Milliseconds() {
		t.Errorf("held: %+v", r)
	}
	if status, text := o.ask(http.MethodPost, "/keys/resolve", `{"key":"k","confirm":true,"action":"complete","status":201}`); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	r := shown()
	if r.State != "completed" || !r.Resolved || r.ReplayMS <= (719*time.Hour).Milliseconds() || r.ExpiresInMS != r.ReplayMS+r.RememberMS {
		t.Errorf("resolved: %+v", r)
	}
}

// A key that was looked at while one attempt was held is not resolved once it is another one
// that is: what the operator knows is about the first.
func TestResolveOfTheAttemptSeen(t *testing.T) {
	t.Parallel()
	o := newOperator(t, storetest.NewMemory())
	hold := func() (owner string) {
		t.Helper()
		_, a := o.begin(key(t, "k"), func(p *idem.Policy) { p.OnAmbiguous = idem.AmbiguousHold })
		if end := a.Finish(idem.MayHaveExecuted, nil); end != idem.Held {
			t.Fatal(end)
		}
		_, text := o.ask(http.MethodGet, "/keys/list?state=unknown", "")
		var seen admin.Listing
		if err := json.Unmarshal([]byte(text), &seen); err != nil || len(seen.Keys) != 1 || len(seen.Keys[0].Owner) != 8 {
			t.Fatalf("%s: %v", text, err)
		}
		return seen.Keys[0].Owner
	}
	resolve := func(action, owner string, want int) {
		t.Helper()
		status, text := o.ask(http.MethodPost, "/keys/resolve", `{"key":"k","action":`+action+`,"owner":"`+owner+`","confirm":true}`)
		if status != want {
			t.Errorf("%s of %s: %d %s, want %d", action, owner, status, text, want)
		}
	}
	first := hold()
	resolve(`"retry"`, first, http.StatusOK)
	second := hold()
	resolve(`"retry"`, first, http.StatusConflict)
	resolve(`"complete","status":200`, first, http.StatusConflict)
	if out, _ := o.begin(key(t, "k")); out.Kind != idem.VerdictUnknown {
		t.Fatalf("after what was said of another attempt: %v", out.Kind)
	}
	resolve(`"complete","status":200`, second, http.StatusOK)
	resolve(`"retry"`, second, http.StatusConflict)
}

// Nor if the later one is held between the look of the API itself and the resolve.
func TestResolveWhileAnotherIsHeld(t *testing.T) {
	t.Parallel()
	for name, inProgress := range map[string]bool{"in progress at the look": true, "not there at the look": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &meddled{Memory: storetest.NewMemory()}
			o := newOperator(t, store)
			begin := func() *idem.Attempt {
				_, a := o.begin(key(t, "k"), func(p *idem.Policy) { p.OnAmbiguous = idem.AmbiguousHold })
				return a
			}
			seen := begin()
			seen.Finish(idem.MayHaveExecuted, nil)
			owner := seen.Owner()
			var later *idem.Attempt
			free := func() {
				if err := o.engine.Settle(t.Context(), key(t, "k"), owner, nil); err != nil {
					t.Error(err)
				}
				later = begin()
			}
			if inProgress {
				free()
			}
			store.after = func() {
				if !inProgress {
					free()
				}
				later.Finish(idem.MayHaveExecuted, nil)
			}
			body := fmt.Sprintf(`{"key":"k","action":"retry","owner":"%x","confirm":true}`, owner[:4])
			status, text := o.ask(http.MethodPost, "/keys/resolve", body)
			store.after = nil
			if out, _ := o.begin(key(t, "k")); status != http.StatusConflict || out.Kind != idem.VerdictUnknown {
				t.Errorf("%d %s, and then %v; want 409, and unknown", status, text, out.Kind)
			}
		})
	}
}

// Nor is it when that comes to be between the look and the act.
func TestResolveIsOneStep(t *testing.T) {
	t.Parallel()
	for _, action := range []string{`"retry"`, `"complete","status":200`} {
		store := &meddled{Memory: storetest.NewMemory()}
		o := newOperator(t, store)
		k := key(t, "k")
		hold := func() {
			_, a := o.begin(k, func(p *idem.Policy) { p.OnAmbiguous = idem.AmbiguousHold })
			if end := a.Finish(idem.MayHaveExecuted, nil); end != idem.Held {
				t.Error(end)
			}
		}
		hold()
		seen, err := store.Memory.Get(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		store.after = func() {
			store.after = nil
			if err := store.Resolve(t.Context(), k, idem.Owner{}, nil); err != nil {
				t.Error(err)
			}
			hold()
		}
		status, text := o.ask(http.MethodPost, "/keys/resolve",
			`{"key":"k","action":`+action+`,"owner":"`+hex.EncodeToString(seen.Owner[:4])+`","confirm":true}`)
		if status != http.StatusConflict || !strings.Contains(text, "look again") {
			t.Errorf("%s: %d %s, want 409", action, status, text)
		}
		if out, _ := o.begin(k); out.Kind != idem.VerdictUnknown {
			t.Errorf("%s of an attempt that was replaced meanwhile: the key is %v", action, out.Kind)
		}
	}
}

// What the API answers and takes is what its description says, field by field.
func TestDescribedFields(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("page/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var api struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Enum []string }
			}
		}
	}
	if err := json.Unmarshal(text, &api); err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]any{
		"Record": admin.Record{}, "Listing": admin.Listing{}, "Change": admin.Change{}, "Changed": admin.Changed{}, "Event": admin.Event{},
		"Requests": admin.Requests{},
	} {
		var described, there []string
		for field := range api.Components.Schemas[name].Properties {
			described = append(described, field)
		}
		for i := range reflect.TypeOf(of).NumField() {
			field, _, _ := strings.Cut(reflect.TypeOf(of).Field(i).Tag.Get("json"), ",")
			there = append(there, field)
		}
		slices.Sort(described)
		slices.Sort(there)
		if !slices.Equal(described, there) {
			t.Errorf("%s: described are %v, there are %v", name, described, there)
		}
	}
	o := newOperator(t, storetest.NewMemory())
	for _, state := range api.Components.Schemas["Record"].Properties["state"].Enum {
		if status, text := o.ask(http.MethodGet, "/keys/list?state="+state, ""); status != 200 {
			t.Errorf("%s: %d %s", state, status, text)
		}
	}
	if states := api.Components.Schemas["Record"].Properties["state"].Enum; len(states) != 4 {
		t.Errorf("%v", states)
	}
}
