package cli_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// operated is a proxy with one key in each state: "done", "held" and "running",
// which goes on until proceed is closed; held has a scope.
func operated(t *testing.T) (a *app.App, logged *log, proceed chan struct{}) {
	t.Helper()
	entered := make(chan struct{}, 1)
	proceed = make(chan struct{})
	b := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		switch q.URL.Path {
		case "/cut":
			_ = c.Close()
			return
		case "/slow":
			entered <- struct{}{}
			<-proceed
		}
		c.Answer(201, "made", "X-Charge: 7")
	})
	a, logged = run(t, b.URL(), func(c *config.Config) {
		c.OnAmbiguous, c.Scope = idem.AmbiguousHold, []string{"header:X-Account"}
	})
	ask := func(path, key, account string) {
		req, err := http.NewRequest(http.MethodPost, a.URL()+path, strings.NewReader("x")) //nolint:noctx // a test
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Idempotency-Key", key)
		req.Header.Set("X-Account", account)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	ask("/", "done", "acct")
	ask("/cut", "held", "acct")
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		ask("/slow", "running", "other")
	}()
	t.Cleanup(func() { <-finished })
	<-entered
	return a, logged, proceed
}

// An operator lists, looks at, releases and forgets keys; each change is in the
// log, and none is made unconfirmed.
func TestOperate(t *testing.T) {
	t.Parallel()
	a, logged, proceed := operated(t)
	defer close(proceed)
	at := strings.TrimPrefix(a.AdminURL(), "http://")
	do := func(wantCode int, want string, args ...string) {
		t.Helper()
		if code, out := command(t, append(args, "--admin", at)...); code != wantCode || !strings.Contains(out, want) {
			t.Errorf("%v: exit code %d, %s; want %d, %s", args, code, out, wantCode, want)
		}
	}
	do(0, "held", "list")
	if code, out := command(t, "list", "--admin", a.AdminURL()+"/"); code != 0 || !strings.Contains(out, "held") {
		t.Errorf("with the address as a URL: exit code %d, %s", code, out)
	}
	do(0, "running", "list", "--state", "in-progress")
	do(0, `"state":"completed"`, "list", "--state", "", "--scope", "header:x-account=acct", "--json")
	do(0, "no key is expired; --state '' lists", "list", "--state", "expired")
	do(2, `want one of`, "list", "--state", "lost") // as README says of arguments that are wrong
	do(0, "X-Charge: 7", "inspect", "done", "--scope", "header:x-account=acct", "--body")
	do(0, "\nmade\n", "inspect", "done", "--scope", "header:x-account=acct", "--body")
	do(1, "no record", "inspect", "done")
	do(1, "only a key that is in progress can be released. This key is completed", "release", "done", "--scope", "header:x-account=acct")
	do(1, "This key is unknown: it may have been executed", "release", "held", "--scope", "header:x-account=acct")
	do(0, "running is free", "release", "running", "--scope", "header:x-account=other")
	do(1, "no record", "inspect", "running", "--scope", "header:x-account=other")
	do(1, "no record of this key in this scope: nothing was done", "purge", "never")
	do(1, "no record of this key in this scope: nothing was done", "purge", "done")
	do(1, "no record of this key in this scope: nothing was done", "release", "never")
	do(0, "it is held until it is resolved", "inspect", "held", "--scope", "header:x-account=acct")
	do(0, "replayed for", "inspect", "done", "--scope", "header:x-account=acct")
	do(1, "nothing was done", "purge", "--scope", "header:x-account=acct")
	do(2, "want a key, or --scope", "purge")
	do(0, "every key of --scope header:x-account=acct is forgotten: there were 2", "purge", "--scope", "header:x-account=acct", "--yes")
	do(0, `"keys":[]`, "list", "--state", "", "--json")
	for _, want := range []string{`"action":"release"`, `"action":"purge"`, `"error":"only a key that is in progress can be released`} {
		if !strings.Contains(logged.text(), want) {
			t.Errorf("the log does not have %s", want)
		}
	}
}

// What an unconfirmed call would do is said instead of done.
func TestUnconfirmed(t *testing.T) {
	t.Parallel()
	a, _, proceed := operated(t)
	defer close(proceed)
	for path, want := range map[string]string{
		"/keys/release": "also if the one under way goes on", "/keys/purge": "will be executed again",
		"/keys/resolve": "also if the first one was",
	} {
		action := ""
		if path == "/keys/resolve" {
			action = `,"action":"retry"`
		}
		resp, err := http.Post(a.AdminURL()+path, "application/json", //nolint:noctx // a test
			strings.NewReader(`{"key":"held","scope":"header:x-account=acct"`+action+`}`))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusPreconditionRequired || !bytes.Contains(b, []byte(want)) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, b)
		}
	}
	if code, out := command(t, "inspect", "held", "--scope", "header:x-account=acct", "--admin", strings.TrimPrefix(a.AdminURL(), "http://")); code != 0 ||
		!strings.Contains(out, "unknown") {
		t.Errorf("%d %s", code, out)
	}
}

// tail and top show what is decided while they look.
func TestTailAndTop(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, backendtest.OK)
	a, _ := run(t, b.URL())
	at := strings.TrimPrefix(a.AdminURL(), "http://")
	stop := make(chan struct{})
	going := make(chan struct{})
	go func() {
		defer close(going)
		for {
			select {
			case <-stop:
				return
			default:
				_, _, _ = send(t, a.URL()+"/pay", "busy")
			}
		}
	}()
	defer func() { close(stop); <-going }()
	if code, out := command(t, "tail", "-n", "3", "--admin", at, "--outcome", "replayed-local"); code != 0 ||
		strings.Count(out, "replayed-local") != 3 || !strings.Contains(out, "POST /pay  key:") {
		t.Errorf("%d %s", code, out)
	}
	code, out := command(t, "tail", "-n", "1", "--admin", at, "--json")
	var e admin.Event
	if err := json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &e); code != 0 || err != nil || e.Path != "/pay" || e.Status != 200 {
		t.Errorf("%d %v %s", code, err, out)
	}
	code, out = command(t, "top", "-n", "1", "--interval", "200ms", "--admin", at)
	if code != 0 || !strings.Contains(out, "replayed-local") || !strings.Contains(out, e.Key) {
		t.Errorf("%d %s", code, out)
	}
	code, out = command(t, "top", "-n", "1", "--interval", "200ms", "--admin", at, "--json")
	var shown struct {
		Keys   map[string]int
		Status struct{ Requests map[string]float64 }
	}
	if err := json.Unmarshal([]byte(out), &shown); code != 0 || err != nil || shown.Keys[e.Key] == 0 || shown.Status.Requests["replayed-local"] == 0 {
		t.Errorf("%d %v %s", code, err, out)
	}
	if strings.Count(out, `"p50_ms":`) != 3 {
		t.Errorf("latencies: %s", out)
	}
	if code, out := command(t, "tail", "--admin", "127.0.0.1:1"); code != 1 || !strings.Contains(out, "is it running") {
		t.Errorf("%d %s", code, out)
	}
}

// A line of tail says how an execution ended, what a mismatch is about, and how long store
// and backend took; the log says the same.
func TestTailSaysHowItEnded(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/cut" {
			_ = c.Close()
			return
		}
		backendtest.OK(c, q)
	})
	a, logged := run(t, b.URL(), func(c *config.Config) { c.OnAmbiguous = idem.AmbiguousHold })
	at := strings.TrimPrefix(a.AdminURL(), "http://")
	lines := make(chan string, 1)
	go func() {
		_, out := command(t, "tail", "-n", "3", "--admin", at)
		lines <- out
	}()
	for shown := false; !shown; { // until tail is looking, nobody hears of it
		select {
		case out := <-lines:
			lines <- out
			shown = true
		default:
			for path, key := range map[string]string{"/": "k", "/cut": "c"} {
				_, _, _ = send(t, a.URL()+path, key+strconv.Itoa(len(logged.text())))
			}
			_, _, _ = send(t, a.URL()+"/one", "same")
			_, _, _ = send(t, a.URL()+"/two", "same")
		}
	}
	out := <-lines
	if strings.Count(out, "\n") != 4 || !strings.Contains(out, " store ") {
		t.Errorf("tail: %s", out)
	}
	for _, want := range []string{`"ending":"stored"`, `"ending":"held"`, `"differs":"target"`, `"store_ms":`, `"backend_ms":`} {
		if !strings.Contains(logged.text(), want) {
			t.Errorf("the log does not have %s", want)
		}
	}
}
