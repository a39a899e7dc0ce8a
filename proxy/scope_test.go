package proxy_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// claims verifies tokens of the form "good-VALUE".
type claims struct{}

func (claims) Claim(token, name string) (string, error) {
	if value, ok := strings.CutPrefix(token, "good-"); ok && name == "sub" {
		return value, nil
	}
	return "", errors.New("not good")
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
		"host, spelled anew":  {"host", []string{"Host: a.example"}, []string{"Host: A.Example:8080"}, true, 0, ""},
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
			sources, err := proxy.ParseScope(strings.Split(c.scope, ","))
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
		if _, err := proxy.ParseScope(strings.Split(bad, ",")); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
