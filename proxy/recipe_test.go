package proxy_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// sharing has a rig use a store that others use, too.
func sharing(t *testing.T, store *storetest.Memory) func(*proxy.Config) {
	t.Helper()
	engine := idem.NewEngine(idem.Config{Store: tracetest.Watch(t, store, store)})
	return func(c *proxy.Config) { c.Engine = engine } // which the rig closes
}

// knowing has a rig know recipes of another one.
func knowing(texts map[idem.Recipe]string) func(*proxy.Config) {
	return func(c *proxy.Config) {
		c.Recipes = func(r idem.Recipe) (string, bool) {
			text, ok := texts[r]
			return text, ok
		}
	}
}

func mustFingerprint(t *testing.T, parts ...string) *operation.Fingerprint {
	t.Helper()
	f, err := operation.ParseFingerprint(parts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A record is compared by the recipe that it was made by, whatever the settings
// are now; one whose recipe is not known is compared with nothing, and nobody
// executes.
func TestChangesOfRecipe(t *testing.T) {
	t.Parallel()
	const one, two = "one secret, and long", "two secrets, and long"
	for name, change := range map[string]struct {
		before, after func(*proxy.Config)
		known         bool // without being told: the secret is there
	}{
		"fingerprint": {
			func(c *proxy.Config) { c.Fingerprint = mustFingerprint(t, "method", "path", "body") },
			func(*proxy.Config) {}, false,
		},
		"fingerprint, the other way": {
			func(*proxy.Config) {},
			func(c *proxy.Config) {
				c.Fingerprint = mustFingerprint(t, "method", "target", "any-host", "json", "header:X-A")
			}, false,
		},
		"bind": {
			func(*proxy.Config) {}, func(c *proxy.Config) { c.BindHeaders = []string{"X-Who", "Authorization"} }, false,
		},
		"a secret": {
			func(*proxy.Config) {}, func(c *proxy.Config) { c.Secret = []byte(one) }, true,
		},
		"another secret": {
			func(c *proxy.Config) { c.Secret = []byte(one) },
			func(c *proxy.Config) { c.Secret, c.EarlierSecrets = []byte(two), [][]byte{[]byte("any"), []byte(one)} }, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := storetest.NewMemory()
			before := newRig(t, backendtest.OK, sharing(t, store), change.before)
			after := newRig(t, backendtest.OK, sharing(t, store), change.after, knowing(before.server.RecipeTexts()))
			lost := newRig(t, backendtest.OK, sharing(t, store), change.after)
			const me, host = "Authorization: me", "Host: a.example"
			first := before.post("k", `{"a":1}`, me, host)
			for range 2 {
				a := after.post("k", `{"a":1}`, me, host)
				if a.Header.Get("Idempotent-Replayed") != "true" || a.body != first.body {
					t.Errorf("the retry got %d %s", a.StatusCode, a.body)
				}
			}
			after.isProblem(after.post("k", `{"a":2}`, me, host), 422, "key-reused")
			after.isProblem(after.post("k", `{"a":1}`, "Authorization: you", host), 422, "key-of-another-caller")
			if a := lost.post("k", `{"a":1}`, me, host); change.known {
				if a.Header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("a recipe of a secret that is there: %d %s", a.StatusCode, a.body)
				}
			} else {
				lost.isProblem(a, 500, "recipe-unknown")
				lost.isProblem(lost.post("k", `{"a":2}`, me, host), 500, "recipe-unknown")
			}
			after.executions("k", 0)
			lost.executions("k", 0)
			// What is new is made by the new recipe.
			after.post("new", "x", me, host)
			if a := lost.post("new", "x", me, host); a.Header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("a new record under the same settings: %d %s", a.StatusCode, a.body)
			}
		})
	}
}

// A secret that is gone takes its recipe with it; the status is the store's.
func TestSecretThatIsGone(t *testing.T) {
	t.Parallel()
	store := storetest.NewMemory()
	before := newRig(t, backendtest.OK, sharing(t, store), func(c *proxy.Config) { c.Secret = []byte("one secret, and long") })
	after := newRig(t, backendtest.OK, sharing(t, store), knowing(before.server.RecipeTexts()),
		func(c *proxy.Config) { c.FailStatus, c.FailOpen = 503, true })
	before.post("k", "x")
	after.isProblem(after.post("k", "x"), 503, "recipe-unknown")
	after.executions("k", 0)
}

// A recipe that could not be looked up just now is no matter for the operator: a retry may
// find it.
func TestRecipeThatCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	store := storetest.NewMemory()
	before := newRig(t, backendtest.OK, sharing(t, store), func(c *proxy.Config) { c.Secret = []byte("one secret, and long") })
	before.post("k", "x")
	var read atomic.Bool
	var reloaded proxy.Config
	after := newRig(t, backendtest.OK, sharing(t, store), func(c *proxy.Config) {
		reloaded = *c
		c.RecipeUnread = func(idem.Recipe) bool { return !read.Load() }
	})
	for range 2 {
		a := after.post("k", "x")
		after.isProblem(a, 500, "store-unavailable")
		if !strings.Contains(a.body, `"retryable":true`) {
			t.Errorf("the client is told %s", a.body)
		}
		if err := after.server.Reload(reloaded); err != nil { // what it knows of recipes is the server's
			t.Fatal(err)
		}
	}
	read.Store(true)
	after.isProblem(after.post("k", "x"), 500, "recipe-unknown")
	after.executions("k", 0)
}

// A recipe that was read between the look for it and the question whether it may be read
// yet is found.
func TestRecipeThatIsReadJustThen(t *testing.T) {
	t.Parallel()
	store := storetest.NewMemory()
	one, two := []byte("one secret, and long"), []byte("another secret, and long")
	before := newRig(t, backendtest.OK, sharing(t, store), func(c *proxy.Config) { c.Secret = one })
	before.post("k", "x")
	texts := before.server.RecipeTexts()
	var looks atomic.Int32
	after := newRig(t, backendtest.OK, sharing(t, store), func(c *proxy.Config) {
		c.Secret, c.EarlierSecrets = two, [][]byte{one}
		c.BindHeaders = []string{"X-Another"} // so that its own recipes are others
		c.Recipes = func(id idem.Recipe) (string, bool) {
			text, ok := texts[id]
			return text, ok && looks.Add(1) > 1
		}
		c.RecipeUnread = func(idem.Recipe) bool { return false }
	})
	if a := after.post("k", "x", "Host: "+before.addr); a.StatusCode != 200 || a.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// Who asks what became of a key whose record cannot be compared is not told that there is
// none: he would take it that nothing was executed.
func TestQuestionAboutARecipeThatIsNotKnown(t *testing.T) {
	t.Parallel()
	store := storetest.NewMemory()
	before := newRig(t, backendtest.OK, sharing(t, store), func(c *proxy.Config) { c.Secret = []byte("one secret, and long") })
	before.post("k", "x")
	var read atomic.Bool
	after := newRig(t, backendtest.OK, sharing(t, store), func(c *proxy.Config) {
		c.Outcomes, c.RecipeUnread = true, func(idem.Recipe) bool { return !read.Load() }
	})
	ask := func() answer { return after.do("GET", "/.idemproxy/outcomes?key=k", "", "") }
	after.isProblem(ask(), 500, "store-unavailable")
	read.Store(true)
	after.isProblem(ask(), 500, "recipe-unknown")
}

// The spelling and order of settings make no other recipe.
func TestRecipesAreCanonical(t *testing.T) {
	t.Parallel()
	texts := func(change func(*proxy.Config)) string {
		var all []string
		r := newRig(t, backendtest.OK, change)
		r.post("k", "x")
		for _, text := range r.server.RecipeTexts() {
			all = append(all, text)
		}
		return strings.Join(all, "\n")
	}
	a := texts(func(c *proxy.Config) {
		c.BindHeaders, c.Fingerprint = []string{"Authorization", "X-A"}, mustFingerprint(t, "method", "target", "header:X-B")
	})
	b := texts(func(c *proxy.Config) {
		c.BindHeaders, c.Fingerprint = []string{"x-a", "authorization"}, mustFingerprint(t, "header:x-b", "target", "method")
	})
	want := `{"v":2,"fingerprint":["header:x-b","method","target"],"bind":["authorization","x-a"]}`
	if a != want || b != want {
		t.Errorf("%s and %s, want %s", a, b, want)
	}
	routes := newRig(t, backendtest.OK, func(c *proxy.Config) {
		c.Routes = []proxy.Route{{Name: "r", Match: proxy.Match{Path: "/r"}, Rules: c.Rules}}
		c.Routes[0].Rules.BindHeaders = []string{"X-Other"}
	})
	routes.post("k", "x")
	if n := len(routes.server.RecipeTexts()); n != 2 {
		t.Errorf("two routes with recipes of their own have %d", n)
	}
}

// legacyHash writes what the release before recipes hashed, with lengths where it
// had them.
func legacyHash(secret, what string, write func(put func(string), sized func(string))) (half [16]byte) {
	h := sha256.New()
	put := func(s string) { _, _ = h.Write([]byte(s)) }
	write(put, func(s string) {
		_ = binary.Write(h, binary.BigEndian, uint32(len(s)))
		put(s)
	})
	sum := h.Sum(nil)
	if secret != "" {
		mac := hmac.New(sha256.New, []byte(secret))
		_, _ = mac.Write(append([]byte(what), sum...))
		sum = mac.Sum(nil)
	}
	return [16]byte(sum)
}

// Records of the release before recipes are compared as that release did.
func TestRecordsOfTheReleaseBefore(t *testing.T) {
	t.Parallel()
	plain := func(put, _ func(string)) { put("POST /pay?q\n" + `{"a":1}`) }
	parts := func(put, sized func(string)) {
		put("header:x-a\x00")
		sized("7")
		put("method\x00")
		sized("POST")
		put("path\x00")
		sized("/pay")
		put("json\x00")
		sized(`{"a":1}`)
	}
	for name, c := range map[string]struct {
		secret string
		print  func(put, sized func(string))
		change func(*proxy.Config)
	}{
		"the default": {"", plain, func(*proxy.Config) {}},
		"a secret":    {"one secret, and long", plain, func(*proxy.Config) {}},
		"any host now": {"", plain, func(c *proxy.Config) {
			c.Fingerprint = mustFingerprint(t, "method", "target", "body", "any-host")
		}},
		"parts": {"", parts, func(c *proxy.Config) {
			c.Fingerprint = mustFingerprint(t, "path", "method", "json", "header:X-A")
		}},
		"without the body": {"", func(put, sized func(string)) {
			put("method\x00")
			sized("POST")
			put("target\x00")
			sized("/pay?q")
		}, func(c *proxy.Config) {
			c.Fingerprint = mustFingerprint(t, "method", "target")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, backendtest.OK, c.change, func(cfg *proxy.Config) { cfg.Secret = []byte(c.secret) })
			claim := idem.Claim{
				Key: mustKey("k"), Owner: idem.NewOwner(), Recipe: idem.LegacyRecipe, TTL: time.Minute, Retention: time.Hour,
				Fingerprint: legacyHash(c.secret, "fingerprint", c.print),
				Binding: legacyHash(c.secret, "binding", func(_, sized func(string)) {
					sized("Authorization")
					sized("me")
				}),
			}
			if _, err := r.store.Acquire(t.Context(), claim); err != nil {
				t.Fatal(err)
			}
			send := func(body, who string) answer {
				return r.do(http.MethodPost, "/pay?q", "k", body, "Authorization: "+who, "X-A: 7", "Content-Type: application/json")
			}
			r.isProblem(send(`{"a":1}`, "me"), 409, "in-progress")
			if err := r.store.Complete(t.Context(), claim.Lease(), &idem.Response{Status: 201, Body: []byte("before")}); err != nil {
				t.Fatal(err)
			}
			if a := send(`{"a":1}`, "me"); a.StatusCode != 201 || a.body != "before" {
				t.Errorf("the retry got %d %s", a.StatusCode, a.body)
			}
			if name != "without the body" {
				r.isProblem(send(`{"a":2}`, "me"), 422, "key-reused")
			}
			r.isProblem(send(`{"a":1}`, "you"), 422, "key-of-another-caller")
			r.executions("k", 0)
		})
	}
}
