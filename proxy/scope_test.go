package proxy_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// claims verifies tokens of the form "good-VALUE", or "good-VALUE@ISSUER".
type claims struct{}

func (claims) Claim(token, name string) (value, issuer string, err error) {
	if value, ok := strings.CutPrefix(token, "good-"); ok && name == "sub" {
		value, issuer, _ = strings.Cut(strings.ReplaceAll(value, "<rs>", "\x1e"), "@")
		return value, issuer, nil
	}
	return "", "", errors.New("not good")
}

// What partitions the keys: the same key in another scope is another operation.
func TestScopes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scope  string
		a, b   []string // header fields of two requests with one key
		same   bool
		status int // of b, if it is refused
		as     string
	}{
		"header":              {"header:X-Account-Id", []string{"x-account-id: 7"}, []string{"X-Account-Id: 8"}, false, 0, ""},
		"the same header":     {"header:X-Account-Id", []string{"x-account-id: 7"}, []string{"X-Account-Id: 7"}, true, 0, ""},
		"no header":           {"header:X-Account-Id", []string{"X-Account-Id: 7"}, nil, false, 400, "scope-invalid"},
		"two headers":         {"header:X-Account-Id", []string{"X-Account-Id: 7"}, []string{"X-Account-Id: 7", "x-account-id: 8"}, false, 400, "scope-invalid"},
		"twice the same":      {"header:X-Account-Id", []string{"X-Account-Id: 7"}, []string{"X-Account-Id: 7", "x-account-id: 7"}, true, 0, ""},
		"too long":            {"header:X-Account-Id", []string{"X-Account-Id: 7"}, []string{"X-Account-Id: " + strings.Repeat("7", 256)}, false, 400, "scope-invalid"},
		"host":                {"host", []string{"Host: a.example"}, []string{"Host: b.example"}, false, 0, ""},
		"host, spelled anew":  {"host", []string{"Host: a.example"}, []string{"Host: A.Example.:80"}, true, 0, ""},
		"claim":               {"claim:sub", []string{"Authorization: Bearer good-7"}, []string{"Authorization: Bearer good-8"}, false, 0, ""},
		"the same claim":      {"claim:sub", []string{"Authorization: Bearer good-7"}, []string{"Authorization: bearer  good-7"}, true, 0, ""},
		"a bad token":         {"claim:sub", []string{"Authorization: Bearer good-7"}, []string{"Authorization: Bearer bad-7"}, false, 401, "token-invalid"},
		"no token":            {"claim:sub", []string{"Authorization: Bearer good-7"}, nil, false, 401, "token-invalid"},
		"another scheme":      {"claim:sub", []string{"Authorization: Bearer good-7"}, []string{"Authorization: Basic good-7"}, false, 401, "token-invalid"},
		"two tokens":          {"claim:sub", []string{"Authorization: Bearer good-7"}, []string{"Authorization: Bearer good-7", "Authorization: Bearer good-8"}, false, 401, "token-invalid"},
		"several":             {"header:A,header:B", []string{"A: 1", "B: 23"}, []string{"A: 12", "B: 3"}, false, 0, ""},
		"several, the same":   {"claim:sub,host,header:B", []string{"Authorization: Bearer good-7", "B: 1"}, []string{"B: 1", "Authorization: Bearer good-7"}, true, 0, ""},
		"several, one absent": {"header:A,header:B", []string{"A: 1", "B: 2"}, []string{"A: 1"}, false, 400, "scope-invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sources, err := caller.ParseScope(strings.Split(c.scope, ","))
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, backendtest.OK, func(cfg *proxy.Config) {
				cfg.Scope, cfg.Tokens, cfg.BindHeaders = sources, claims{}, nil
			})
			if a := r.post("k", "x", c.a...); a.StatusCode != http.StatusOK {
				t.Fatalf("the first got %d %s", a.StatusCode, a.body)
			}
			b := r.post("k", "x", c.b...)
			switch {
			case c.status != 0:
				r.isProblem(b, c.status, c.as)
				r.executions("k", 1)
				if c.status == 401 && !strings.HasPrefix(b.Header.Get("WWW-Authenticate"), "Bearer ") {
					t.Error("a 401 without a challenge")
				}
			case c.same:
				if b.StatusCode != 200 || b.Header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("the second got %d %s", b.StatusCode, b.body)
				}
				r.executions("k", 1)
			default:
				if b.StatusCode != 200 || b.Header.Get("Idempotent-Replayed") != "" {
					t.Errorf("the second got %d %s", b.StatusCode, b.body)
				}
				r.executions("k", 2)
			}
		})
	}
}

func TestScopesThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"x", "header:", "claim:", "Host", "host,host,host,host"} {
		if _, err := caller.ParseScope(strings.Split(bad, ",")); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func mustScope(t *testing.T, sources ...string) []caller.Source {
	t.Helper()
	scope, err := caller.ParseScope(sources)
	if err != nil {
		t.Fatal(err)
	}
	return scope
}

// scopesOf are the scopes of all records.
func scopesOf(t *testing.T, store *storetest.Memory) (scopes []string) {
	t.Helper()
	err := store.List(t.Context(), func(r *idem.Record) bool {
		scopes = append(scopes, r.Key.Scope())
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(scopes)
	return scopes
}

// A scope says whose value it is, so that two sources with one value do not meet;
// the order in which sources are given does not matter.
func TestScopesAreNamed(t *testing.T) {
	t.Parallel()
	const token = "Authorization: Bearer good-7"
	for name, c := range map[string]struct {
		scope  []string
		header []string
		want   string
	}{
		"header":              {[]string{"header:X-Account-Id"}, []string{"X-ACCOUNT-ID: acct_7"}, "header:x-account-id=acct_7"},
		"another header":      {[]string{"header:X-Tenant"}, []string{"X-Tenant: acct_7"}, "header:x-tenant=acct_7"},
		"host":                {[]string{"host"}, []string{"Host: A.example:80"}, "host=a.example"},
		"claim":               {[]string{"claim:sub"}, []string{token}, "claim:sub=7"},
		"claim of an issuer":  {[]string{"claim:sub"}, []string{token + "@https://issuer"}, "claim:sub@https://issuer=7"},
		"issuer with a value": {[]string{"claim:sub"}, []string{token + "@i=8@9%"}, "claim:sub@i%3D8%409%25=7"},
		"several": {
			[]string{"host", "header:X-B", "claim:sub"}, []string{"X-B: b", "Host: a", token}, "claim:sub=7\x1fheader:x-b=b\x1fhost=a",
		},
		"several, in another order": {
			[]string{"claim:sub", "host", "header:x-b"}, []string{"X-B: b", "Host: a", token}, "claim:sub=7\x1fheader:x-b=b\x1fhost=a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, backendtest.OK, func(cfg *proxy.Config) {
				cfg.Scope, cfg.Tokens = mustScope(t, c.scope...), claims{}
			})
			if a := r.post("k", "x", c.header...); a.StatusCode != 200 {
				t.Fatalf("%d %s", a.StatusCode, a.body)
			}
			if got := scopesOf(t, r.store); !slices.Equal(got, []string{c.want}) {
				t.Errorf("the scope is %q, want %q", got, c.want)
			}
		})
	}
}

// No client can name a scope of the proxy's own, or fill a record with its scope.
func TestScopesThatClientsCannotName(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) {
		c.Scope, c.Tokens = mustScope(t, "header:X-A", "header:X-B", "claim:sub"), claims{}
	})
	long := strings.Repeat("7", 255)
	const token = "Authorization: Bearer good-"
	a := r.post("k", "x", "X-A: "+long, "X-B: "+long, token+long)
	r.isProblem(a, 400, "scope-invalid")
	if !strings.Contains(a.body, "more than 700 characters") {
		t.Errorf("the reason is not clear: %s", a.body)
	}
	r.isProblem(r.post("k", "x", "X-A: 1", "X-B: 1", token+"<rs>derived"), 400, "scope-invalid")
	r.isProblem(r.post("k", "x", "X-A: 1", "X-B: 1", token+"1@<rs>"), 400, "scope-invalid")
	r.executions("k", 0)
}

// A change of scope has nothing executed again while the earlier scope is looked
// up, too, also by proxies that still run with it.
func TestEarlierScopes(t *testing.T) {
	t.Parallel()
	const tenant, host = "X-Tenant: 7", "Host: a.example"
	for name, c := range map[string]struct {
		before  []string
		earlier string
	}{
		"none":    {nil, "none"},
		"header":  {[]string{"header:X-Tenant"}, "header:X-Tenant"},
		"several": {[]string{"header:X-Tenant", "header:X-None"}, "header:X-None+header:X-Tenant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, proceed := storetest.NewMemory(), make(chan struct{})
			entered := make(chan struct{}, 1)
			respond := func(conn backendtest.Conn, q *backendtest.Request) {
				switch {
				case q.URL.Path == "/slow":
					entered <- struct{}{}
					<-proceed
				case q.URL.Path == "/later" && q.Number == 1:
					conn.Answer(503, "later")
					return
				}
				backendtest.OK(conn, q)
			}
			before := newRig(t, respond, sharing(t, store), func(cfg *proxy.Config) { cfg.Scope = mustScope(t, c.before...) })
			after := newRig(t, respond, sharing(t, store), func(cfg *proxy.Config) {
				var err error
				if cfg.EarlierScopes, err = caller.ParseEarlierScopes([]string{c.earlier}); err != nil {
					t.Fatal(err)
				}
				cfg.Scope = mustScope(t, "host")
			})
			send := func(r *rig, path, key, body string) answer {
				return r.do("POST", path, key, body, tenant, host, "X-None: 0")
			}
			first := send(before, "/", "k", "x")
			for range 2 {
				if a := send(after, "/", "k", "x"); a.Header.Get("Idempotent-Replayed") != "true" || a.body != first.body {
					t.Errorf("the retry got %d %s", a.StatusCode, a.body)
				}
			}
			after.isProblem(send(after, "/", "k", "other"), 422, "key-reused")
			after.executions("k", 0)

			// What is new counts under both names, with both settings.
			send(after, "/", "new", "x")
			for _, r := range []*rig{after, before} {
				if a := send(r, "/", "new", "x"); a.Header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("a new key, again: %d %s", a.StatusCode, a.body)
				}
			}
			after.executions("new", 1)
			before.executions("new", 0)

			// So does what is under way, either way, and what is released.
			for _, pair := range [][2]*rig{{after, before}, {before, after}} {
				done := make(chan answerOrError, 1)
				key := "slow " + pair[0].addr
				go func() {
					a, err := pair[0].try("POST", "/slow", key, "x", tenant, host, "X-None: 0")
					done <- answerOrError{a, err}
				}()
				<-entered
				pair[1].isProblem(send(pair[1], "/slow", key, "x"), 409, "in-progress")
				pair[0].isProblem(send(pair[0], "/slow", key, "x"), 409, "in-progress")
				proceed <- struct{}{}
				if a := <-done; a.err != nil || a.StatusCode != 200 {
					t.Errorf("%v", a)
				}
				if a := send(pair[1], "/slow", key, "x"); a.Header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("after it: %d %s", a.StatusCode, a.body)
				}
			}
			send(after, "/later", "again", "x")
			for _, r := range []*rig{after, before} {
				if a := send(r, "/later", "again", "x"); a.StatusCode != 200 {
					t.Errorf("what was released: %d %s", a.StatusCode, a.body)
				}
			}
			after.executions("again", 2)
		})
	}
}

// The count of attempts goes on under other names, since backends fence by it.
func TestAttemptsUnderEarlierScopes(t *testing.T) {
	t.Parallel()
	store, seen := storetest.NewMemory(), make(chan string, 1)
	respond := func(c backendtest.Conn, q *backendtest.Request) {
		seen <- q.Header.Get("Idempotency-Attempt")
		c.Answer(503, "later")
	}
	before := newRig(t, respond, sharing(t, store))
	after := newRig(t, respond, sharing(t, store), func(c *proxy.Config) {
		var err error
		if c.EarlierScopes, err = caller.ParseEarlierScopes([]string{"none"}); err != nil {
			t.Fatal(err)
		}
		c.Scope = mustScope(t, "host")
	})
	for i, r := range []*rig{before, before, after, after} {
		r.post("k", "x", "Host: a.example")
		if got, want := <-seen, fmt.Sprint(i+1); got != want {
			t.Errorf("the backend was told attempt %s, want %s", got, want)
		}
	}
}

// What a backend wishes for its response holds under each name that the key has.
func TestWishesUnderEachName(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		c.Answer(200, "ok", "Idempotency-Policy: "+q.Header.Get("X-Ask"))
	}, scopedByAccount, func(c *proxy.Config) {
		c.EarlierScopes, _ = caller.ParseEarlierScopes([]string{"none"})
	})
	for ask, want := range map[string]time.Duration{"retention=60": time.Minute, "no-store": 0} {
		if a := r.post("k "+ask, "x", "X-Account: 7", "X-Ask: "+ask); a.StatusCode != 200 {
			t.Errorf("%s: %d", ask, a.StatusCode)
		}
		for _, key := range []idem.Key{mustKey("k " + ask), mustKey("k " + ask).InScope("header:x-account=7")} {
			record, err := r.store.Get(t.Context(), key)
			got := time.Duration(record.ReplayUntil-record.Updated) * time.Millisecond
			if want == 0 && !errors.Is(err, idem.ErrNotFound) || want != 0 && (err != nil || got != want) {
				t.Errorf("%s, in the scope %q: kept for %v, %v", ask, key.Scope(), got, err)
			}
		}
	}
}

// Names as the release before named scopes made them are found.
func TestScopesOfTheReleaseBefore(t *testing.T) {
	t.Parallel()
	for earlier, scope := range map[string]string{
		"v1:header:X-Tenant": "7", "v1:host+header:X-Tenant": "a.example\x1f7", "v1:claim:sub": "me", "v1:none": "",
		"v1:header:X-Tenant+host": "7\x1fa.example",
	} {
		t.Run(earlier, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, backendtest.OK, func(c *proxy.Config) {
				var err error
				if c.EarlierScopes, err = caller.ParseEarlierScopes([]string{"header:X-Absent", earlier}); err != nil {
					t.Fatal(err)
				}
				c.Scope, c.Tokens, c.BindHeaders = mustScope(t, "header:X-Tenant", "host"), claims{}, nil
			})
			claim := idem.Claim{
				Key: mustKey("k").InScope(scope), Owner: idem.NewOwner(), Recipe: idem.LegacyRecipe, TTL: time.Minute, Retention: time.Hour,
				Fingerprint: legacyHash("", "", func(put, _ func(string)) { put("POST /pay\nx") }),
			}
			if _, err := r.store.Acquire(t.Context(), claim); err != nil {
				t.Fatal(err)
			}
			if err := r.store.Complete(t.Context(), claim.Lease(), &idem.Response{Status: 201, Body: []byte("before")}); err != nil {
				t.Fatal(err)
			}
			a := r.post("k", "x", "X-Tenant: 7", "Host: A.example:8080", "Authorization: Bearer good-me@issuer")
			if a.body != "before" {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
			r.executions("k", 0)
		})
	}
}

func TestEarlierScopesThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "x", "v1:", "header:", "none+host", "host+host", "host,none,v1:host,v1:none,claim:a"} {
		if _, err := caller.ParseEarlierScopes(strings.Split(bad, ",")); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
