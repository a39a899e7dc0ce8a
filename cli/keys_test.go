package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// An operator finds a held key, and ends it either way.
func TestOperatorResolves(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	for name, store := range map[string]func(*config.Config){
		"embedded": func(*config.Config) {},
		"redis":    func(c *config.Config) { c.Store = redis.URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
				if q.Number == 1 {
					_ = c.Close()
					return
				}
				backendtest.OK(c, q)
			})
			a, logged := run(t, backend.URL(), store, func(c *config.Config) { c.OnAmbiguous = idem.AmbiguousHold })
			admin := strings.TrimPrefix(a.AdminURL(), "http://")
			for _, key := range []string{"done", "not-done"} {
				if status, _, _ := send(t, a.URL(), key); status != 502 {
					t.Errorf("the first request with %s got %d", key, status)
				}
				if status, _, _ := send(t, a.URL(), key); status != 409 {
					t.Errorf("the second got %d", status)
				}
				if code, out := command(t, "inspect", key, "--admin", admin); code != 0 || !strings.Contains(out, "unknown") {
					t.Errorf("inspect: %d %s", code, out)
				}
			}
			file := filepath.Join(t.TempDir(), "body")
			if err := os.WriteFile(file, []byte("by hand"), 0o600); err != nil {
				t.Fatal(err)
			}
			if code, out := command(t, "resolve", "done", "--admin", admin, "--complete", "--status", "201",
				"--header", "X-A: 1, 2", "--header", "X-B=1", "--body-file", file); code != 0 {
				t.Errorf("resolve --complete: %d %s", code, out)
			}
			if code, out := command(t, "resolve", "not-done", "--admin", admin, "--retry", "--json"); code != 0 || !strings.Contains(out, `"done":"resolve"`) {
				t.Errorf("resolve --retry: %d %s", code, out)
			}
			if status, body, replayed := send(t, a.URL(), "done"); status != 201 || body != "by hand" || replayed != "true" {
				t.Errorf("the completed key gave %d %q %q", status, body, replayed)
			}
			if status, body, replayed := send(t, a.URL(), "not-done"); status != 200 || body != "execution 2" || replayed != "" {
				t.Errorf("the freed key gave %d %q %q", status, body, replayed)
			}
			if n := backend.Executions("done"); n != 1 {
				t.Errorf("%d executions of what was completed by hand", n)
			}
			if code, out := command(t, "inspect", "done", "--admin", admin, "--json"); code != 0 || !strings.Contains(out, `"state":"completed"`) {
				t.Errorf("inspect: %d %s", code, out)
			}
			for key, resolved := range map[string]bool{"done": true, "not-done": false} { // the second was executed after all
				if _, out := command(t, "inspect", key, "--admin", admin); strings.Contains(out, "\nresolved     by an operator, ") != resolved {
					t.Errorf("inspect %s: %s", key, out)
				}
			}
			for key, why := range map[string]string{
				"done":       "only a key whose outcome is unknown can be resolved. This key is completed: retries get its response",
				"never-seen": "there is no record of this key in this scope",
			} {
				if code, out := command(t, "resolve", key, "--admin", admin, "--retry"); code != 1 || !strings.Contains(out, why) {
					t.Errorf("resolve %s: %d %s", key, code, out)
				}
			}
			if code, out := command(t, "inspect", "never-seen", "--admin", admin); code != 1 || !strings.Contains(out, "no record") {
				t.Errorf("inspect: %d %s", code, out)
			}
			if text := logged.text(); strings.Count(text, `"event":"operator"`) != 4 || strings.Contains(text, "not-done") {
				t.Errorf("the audit: %s", text)
			}
		})
	}
}

// A response that is given by hand is kept as its route says, not as long as others.
func TestResolvedAsItsRouteSays(t *testing.T) {
	t.Parallel()
	backend := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { _ = c.Close() })
	a, _ := run(t, backend.URL(), func(c *config.Config) {
		c.OnAmbiguous, c.Retention = idem.AmbiguousHold, time.Second
		long := config.Route{Name: "long", Path: "/long", Rules: c.Rules}
		long.Retention = 720 * time.Hour
		c.Routes = []config.Route{long}
	})
	at := strings.TrimPrefix(a.AdminURL(), "http://")
	for path, key := range map[string]string{"/long": "long", "/short": "short"} {
		if status, _, _ := send(t, a.URL()+path, key); status != 502 {
			t.Fatalf("%s: %d", key, status)
		}
		if code, out := command(t, "resolve", key, "--admin", at, "--complete", "--status", "201"); code != 0 {
			t.Fatal(out)
		}
	}
	for { // until the retention of all others is over
		if _, out := command(t, "inspect", "short", "--admin", at, "--json"); !strings.Contains(out, `"state":"completed"`) {
			break
		}
	}
	if status, _, replayed := send(t, a.URL()+"/long", "long"); status != 201 || replayed != "true" || backend.Executions("long") != 1 {
		t.Errorf("%d, replayed %q, %d executions", status, replayed, backend.Executions("long"))
	}
}

// What an operator may get wrong is said.
func TestResolveUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code int
		why  string
		args []string
	}{
		{2, "at least one of the flags", []string{"resolve", "k"}},
		{2, "none of the others can be", []string{"resolve", "k", "--retry", "--complete"}},
		{2, "none of the others can be", []string{"resolve", "k", "--retry", "--status", "200"}},
		{2, "want a key, or --all", []string{"resolve", "--retry"}},
		{2, "want: idemproxy resolve", []string{"resolve", "a", "b", "--retry"}},
		{2, "not both", []string{"resolve", "a", "--all", "--retry"}},
		{2, "no such file", []string{"resolve", "k", "--complete", "--body-file", "/nonexistent"}},
		{1, "is it running", []string{"resolve", "k", "--retry", "--admin", "127.0.0.1:1"}},
		{1, "is it running", []string{"inspect", "k", "--admin", "127.0.0.1:1"}},
	} {
		if code, out := command(t, c.args...); code != c.code || !strings.Contains(out, c.why) {
			t.Errorf("%v: %d %s, want %d and %q", c.args, code, out, c.code, c.why)
		}
	}
}
