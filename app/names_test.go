package app_test

import (
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// asks sends a request for one service, whatever the port, from account acct and
// caller alice. Its answer is the status, and whether that was a replay.
func asks(t *testing.T, a *app.App, path, key string) (status int, replayed bool) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL()+path, strings.NewReader(`{"a": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "service.example"
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set("Authorization", "alice")
	req.Header.Set("X-Account", "acct")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Idempotent-Replayed") == "true"
}

// replays wants the response of before; held wants that of the key "held".
func replays(t *testing.T, a *app.App, key string) {
	t.Helper()
	if status, replayed := asks(t, a, "/", key); status != 200 || !replayed {
		t.Errorf("%s: %d, replayed %v", key, status, replayed)
	}
}

func held(t *testing.T, a *app.App) {
	t.Helper()
	if status, _ := asks(t, a, "/cut", "held"); status != 409 {
		t.Errorf("a held key gets %d, want 409", status)
	}
}

// settings are for one store, with changes.
func settings(t *testing.T, store, backend string, changes ...func(*config.Config)) config.Config {
	t.Helper()
	c := config.Default()
	c.Listen, c.Admin, c.Store, c.Backends = []string{"127.0.0.1:0"}, "127.0.0.1:0", store, []string{backend}
	c.OnAmbiguous = idem.AmbiguousHold
	for _, change := range changes {
		change(&c)
	}
	return c
}

func scoped(c *config.Config)    { c.Scope = []string{"header:X-Account"} }
func lookedUp(c *config.Config)  { c.EarlierScopes = []string{"none"} }
func accepting(c *config.Config) { c.AcceptOrphans = true }

// process is a proxy that can be ended before its test is.
func process(t *testing.T, c config.Config) (a *app.App, logged *log, end func()) {
	t.Helper()
	logged = &log{}
	a, err := app.New(c, zerolog.New(logged))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return a, logged, end
}

// cutting answers, but for /cut, where it breaks off.
func cutting(c backendtest.Conn, q *backendtest.Request) {
	if q.URL.Path == "/cut" {
		_ = c.Close()
		return
	}
	backendtest.OK(c, q)
}

// stores are all kinds, empty.
func stores(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"embedded": "embedded:" + t.TempDir(), "redis": redistest.Start(t).URL(),
		"postgres": dbtest.StartPostgres(t).URL("postgres"),
	}
}

// A live change of scope loses neither what was completed nor what is held: it is
// refused, and done with the line that the refusal names.
func TestScopeChangesLive(t *testing.T) {
	t.Parallel()
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := backendtest.Start(t, cutting)
			a, _, _ := process(t, settings(t, store, backend.URL()))
			asks(t, a, "/", "done")
			asks(t, a, "/cut", "held")

			err := a.Reload(settings(t, store, backend.URL(), scoped))
			for _, want := range []string{
				"would not be recognised", "POST host.example/ (the settings at large, before: the settings at large)",
				"set earlier_scopes: [none] for the settings at large", "--accept-orphans",
			} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("the refusal is %v, without %q", err, want)
				}
			}
			replays(t, a, "done") // by the settings of before
			held(t, a)

			if err := a.Reload(settings(t, store, backend.URL(), scoped, lookedUp)); err != nil {
				t.Fatal(err)
			}
			replays(t, a, "done")
			held(t, a)
			asks(t, a, "/", "new")
			// And back again: what was named since is not lost, either.
			if err := a.Reload(settings(t, store, backend.URL())); err == nil || !strings.Contains(err.Error(), "earlier_scopes: [header:x-account]") {
				t.Errorf("back again: %v", err)
			}
			if err := a.Reload(settings(t, store, backend.URL(), func(c *config.Config) { c.EarlierScopes = []string{"header:x-account"} })); err != nil {
				t.Error(err)
			}
			replays(t, a, "new")
			replays(t, a, "done")
			held(t, a)
			for _, key := range []string{"done", "held", "new"} {
				if n := backend.Executions(key); n != 1 {
					t.Errorf("%d executions of %s", n, key)
				}
			}
		})
	}
}

// A start that would lose records is refused, and done with the line or the flag.
func TestScopeChangesAtStart(t *testing.T) {
	t.Parallel()
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := backendtest.Start(t, cutting)
			a, _, end := process(t, settings(t, store, backend.URL()))
			asks(t, a, "/", "done")
			asks(t, a, "/cut", "held")
			end()
			if _, err := app.New(settings(t, store, backend.URL(), scoped), zerolog.Nop()); err == nil ||
				!strings.Contains(err.Error(), "set earlier_scopes: [none]") {
				t.Fatalf("the start is refused with %v", err)
			}
			a, _, end = process(t, settings(t, store, backend.URL(), scoped, lookedUp))
			replays(t, a, "done")
			held(t, a)
			end()
			a, logged, end := process(t, settings(t, store, backend.URL(), func(c *config.Config) { c.Scope = []string{"host"} }, accepting))
			if status, replayed := asks(t, a, "/", "done"); status != 200 || replayed {
				t.Errorf("accepted: %d, replayed %v", status, replayed)
			}
			if n := strings.Count(logged.text(), `"event":"orphans_accepted"`); n < 2 {
				t.Errorf("%d orphaned plans are in the log:\n%s", n, logged.text())
			}
			end()
			// What was accepted once is struck.
			_, _, end = process(t, settings(t, store, backend.URL(), func(c *config.Config) { c.Scope = []string{"host"} }))
			end()
		})
	}
}

// Neither a change of who asks nor one of what makes two requests the same makes a
// retry a mismatch: what was recorded before is compared as before, also by
// another process.
func TestComparedAsRecorded(t *testing.T) {
	t.Parallel()
	changes := map[string]func(*config.Config){
		"bind":        func(c *config.Config) { c.Bind = []string{"X-Account"} },
		"bind none":   func(c *config.Config) { c.Bind = nil },
		"fingerprint": func(c *config.Config) { c.Fingerprint = []string{"method", "path", "json"} },
	}
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := backendtest.Start(t, cutting)
			a, _, end := process(t, settings(t, store, backend.URL()))
			asks(t, a, "/", "done")
			asks(t, a, "/cut", "held")
			for what, change := range changes {
				if err := a.Reload(settings(t, store, backend.URL(), change)); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				replays(t, a, "done")
				held(t, a)
				asks(t, a, "/", what)
			}
			end()
			for _, change := range changes {
				a, _, end := process(t, settings(t, store, backend.URL(), change))
				for what := range changes {
					replays(t, a, what)
				}
				replays(t, a, "done")
				held(t, a)
				end()
			}
			for _, key := range []string{"done", "held", "bind", "bind none", "fingerprint"} {
				if n := backend.Executions(key); n != 1 {
					t.Errorf("%d executions of %s", n, key)
				}
			}
		})
	}
}

// While proxies with the settings of before and of now share a store, one of them
// executes, and all replay.
func TestProxiesWithOldAndNewSettings(t *testing.T) {
	t.Parallel()
	store := redistest.Start(t).URL()
	entered, proceed := make(chan struct{}), make(chan struct{})
	backend := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/slow" {
			entered <- struct{}{}
			<-proceed
		}
		backendtest.OK(c, q)
	})
	old, _, _ := process(t, settings(t, store, backend.URL()))
	now, _, _ := process(t, settings(t, store, backend.URL(), scoped, lookedUp, func(c *config.Config) {
		c.Bind, c.Fingerprint = []string{"X-Account"}, []string{"method", "target", "json"}
	}))
	for key, by := range map[string][2]*app.App{"old first": {old, now}, "new first": {now, old}} {
		answered := make(chan int, 1)
		go func() {
			status, _ := asks(t, by[0], "/slow", key)
			answered <- status
		}()
		<-entered
		if status, _ := asks(t, by[1], "/slow", key); status != 409 {
			t.Errorf("%s: the other one answers %d, want 409", key, status)
		}
		proceed <- struct{}{}
		if status := <-answered; status != 200 {
			t.Errorf("%s: %d", key, status)
		}
		for i, a := range by {
			if status, replayed := asks(t, a, "/slow", key); status != 200 || !replayed {
				t.Errorf("%s: %d answers %d, replayed %v", key, i, status, replayed)
			}
		}
		if n := backend.Executions(key); n != 1 {
			t.Errorf("%s: %d executions", key, n)
		}
	}
	// The old one is not started again with its settings: it would not find what the
	// new one names.
	if _, err := app.New(settings(t, store, backend.URL()), zerolog.Nop()); err == nil ||
		!strings.Contains(err.Error(), "earlier_scopes: [header:x-account]") {
		t.Errorf("the old settings: %v", err)
	}
}

// A proxy that starts without its Redis serves what has no key, refuses what has
// one, and asks before the first of those is executed.
func TestStartsBeforeItsStore(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	backend := backendtest.Start(t, backendtest.OK)
	a, _, end := process(t, settings(t, redis.URL(), backend.URL()))
	asks(t, a, "/", "done")
	end()
	redis.Kill()
	a, _, _ = process(t, settings(t, redis.URL(), backend.URL(), scoped, lookedUp))
	other, logged, _ := process(t, settings(t, redis.URL(), backend.URL(), scoped, func(c *config.Config) { c.FailOpen = true }))
	if status, _ := asks(t, a, "/", "done"); status != 500 {
		t.Errorf("with a key: %d", status)
	}
	if status := post(t, a.URL(), "", "x"); status != 200 {
		t.Errorf("without a key: %d", status)
	}
	redis.Restart()
	for { // until it has asked
		if status, replayed := asks(t, a, "/", "done"); status != 500 {
			if status != 200 || !replayed {
				t.Errorf("with Redis: %d, replayed %v", status, replayed)
			}
			break
		}
	}
	// The other one would not find it: even a route that is open for a store that is
	// away stays closed.
	logged.await(t, `"event":"orphans"`)
	if status, _ := asks(t, other, "/", "done"); status != 500 || backend.Executions("done") != 1 {
		t.Errorf("with orphans: %d, %d executions", status, backend.Executions("done"))
	}
}

// Once the store says that it has no record of the release before, keys are not
// looked up by the names of that release any more, without a restart.
func TestNamesAreSettledOnceTheStoreSays(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	backend := backendtest.Start(t, backendtest.OK)
	redis.Kill()
	a, logged, _ := process(t, settings(t, redis.URL(), backend.URL(), scoped))
	redis.Restart()
	logged.await(t, `"event":"reloaded"`)
	if status, _ := asks(t, a, "/", "new"); status != 200 {
		t.Errorf("new: %d", status)
	}
	found := redis.Do("KEYS", "idem:????????????????????????????????")
	names, err := found.AsStrSlice()
	if err != nil || len(names) != 1 {
		t.Errorf("one key is under %q (%v)", names, err)
	}
}

// What the release before left is found after the upgrade, without the operator's
// doing: its scopes were values without their sources, its hashes others.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	before := stores(t)
	delete(before, "postgres") // which the release before had not
	for name, store := range before {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leave(t, store)
			backend := backendtest.Start(t, cutting)
			a, _, end := process(t, settings(t, store, backend.URL(), scoped))
			for range 2 { // a second start knows from the registry
				replays(t, a, "done")
				held(t, a)
				if status, _ := asks(t, a, "/", "new"); status != 200 {
					t.Errorf("new: %d", status)
				}
				end()
				a, _, end = process(t, settings(t, store, backend.URL(), scoped))
			}
			replays(t, a, "new")
			for key, want := range map[string]int{"done": 0, "held": 0, "new": 1} {
				if n := backend.Executions(key); n != want {
					t.Errorf("%s: %d executions, want %d", key, n, want)
				}
			}
		})
	}
}

// leave leaves what the release before would have: a completed and a held key of
// account acct and caller alice.
func leave(t *testing.T, store string) {
	t.Helper()
	s, err := func() (idem.Store, error) {
		if dir, embedded := strings.CutPrefix(store, "embedded:"); embedded {
			return estore.New(estore.Config{Dir: filepath.Clean(dir), Logger: zerolog.Nop()})
		}
		return rstore.New(rstore.Config{URL: store, Logger: zerolog.Nop()})
	}()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	binding := sha256.Sum256([]byte("\x00\x00\x00\x0dAuthorization\x00\x00\x00\x05alice"))
	for key, path := range map[string]string{"done": "/", "held": "/cut"} {
		k, err := idem.ParseKey(key)
		if err != nil {
			t.Fatal(err)
		}
		print := sha256.Sum256([]byte("POST " + path + "\n" + `{"a": 1}`))
		claim := idem.Claim{
			Key: k.InScope("acct"), Owner: idem.NewOwner(), Recipe: idem.LegacyRecipe, TTL: time.Minute, Retention: time.Hour,
			Fingerprint: idem.Fingerprint(print[:16]), Binding: idem.Binding(binding[:16]),
		}
		_, err = s.Acquire(t.Context(), claim)
		if err == nil && key == "done" {
			err = s.Complete(t.Context(), claim.Lease(), &idem.Response{Status: 200, Body: []byte("as before")})
		} else if err == nil {
			err = s.Hold(t.Context(), claim.Lease())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
