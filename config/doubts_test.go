package config_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// What can be used and does nothing, or what was perhaps not meant, is said with its
// place; what a route or other settings make use of is not.
func TestDoubts(t *testing.T) {
	t.Parallel()
	place := regexp.MustCompile(`^.*\.yaml:`)
	for _, c := range []struct{ yaml, want string }{
		{"jwks: a\njwt_issuer: b", "1: jwks: does nothing without claim:NAME in scope; 2: jwt_issuer: does nothing without claim:NAME in scope"},
		{"jwks: a\nroutes:\n  - path: /a\n    scope: [claim:sub]", ""},
		{"jwks: a\nroutes:\n  - path: /a\n    scope: [claim:sub]\n    jwks: b", "1: jwks: does nothing without claim:NAME in scope"},
		{"key_headers: [X-A]\nkey: [header:X-B]", "1: key_headers: does nothing while key is set: keys are looked for in the places that key names"},
		{"on_duplicate: reject", "1: on_duplicate: does nothing without duplicate-window"},
		{"on_duplicate: warn", ""},
		{"on_duplicate: reject\nduplicate_window: 10s", ""},
		{"receipts: http://x/y\nsettle_attempts: 2", "1: receipts: does nothing without on-ambiguous: settle; " +
			"2: settle_attempts: does nothing without on-ambiguous: settle"},
		{"receipts: http://x/y\nsettle_attempts: 2\nroutes:\n  - path: /a\n    on_ambiguous: settle", ""},
		{"receipts_secret_file: x", "1: receipts_secret_file: does nothing without receipts"},
		{"resolver_timeout: 3s", "1: resolver_timeout: does nothing without resolver"},
		{"cors_max_age: 1s\ncors_credentials: true", "2: cors_credentials: does nothing without cors-origins; " +
			"1: cors_max_age: does nothing without cors-origins"},
		{"cors_max_age: 1s\ncors_origins: ['*']\nroutes:\n  - path: /a\n    cors_origins: []", ""},
		{"fail_open: true\non_ambiguous: hold", "2: on_ambiguous: with fail-open, requests may execute twice while the store does " +
			"not answer; on-ambiguous: hold is meant to prevent that"},
		{"fail_open: true\nroutes:\n  - path: /a\n    on_ambiguous: hold\n  - path: /b", "4: on_ambiguous: with fail-open, requests may " +
			"execute twice while the store does not answer; on-ambiguous: hold is meant to prevent that"},
		{"on_ambiguous: hold\nroutes:\n  - path: /a\n    fail_open: true\n  - path: /b", "4: fail_open: with fail-open, requests may execute " +
			"twice while the store does not answer; on-ambiguous: hold is meant to prevent that"},
		{"release_statuses: [5xx, 204]", "1: release_statuses: responses that report success (2xx) are not stored, so each retry executes " +
			"the request again"},
		{"admin: :9999", "1: admin: without admin-token-file, everybody who can connect to this address can read metrics and health, " +
			"and every program on this machine can change keys"},
		{"admin: '[::]:9999'\nadmin_token_file: x", ""},
		{"admin: '[::1]:9999'", ""},
		{"admin: localhost:9999", ""},
		{"admin: ''\nadmin_token_file: x", "2: admin_token_file: does nothing without admin"},
		{"trusted_proxies: [10.0.0.0/8, '::/0']", "1: trusted_proxies: ::/0 stands for every address: each client can " +
			"claim that its requests come from somewhere else"},
		{"namespace: x\nstore_ca: y", "1: namespace: does nothing without a Redis store; 2: store_ca: does nothing without a rediss:// or PostgreSQL store"},
		{"namespace: x\nstore: redis://x:1/0", ""},
		{"max_buffered: 100KiB", "1: max_buffered: 100KiB is less than max-request-body (1MiB): every request with a larger body than " +
			"that is refused with 503, also its retries"},
		{"routes:\n  - path: /a\n    max_request_body: 1GiB", "3: max_request_body: 1GiB is more than max-buffered (256MiB): every request " +
			"with a larger body than that is refused with 503, also its retries"},
		{"upstreams:\n  - name: a\n  - name: b\nroutes:\n  - path: /a\n    upstream: b", "2: name: no route has upstream: \"a\", so these " +
			"backends get no requests"},
	} {
		loaded, err := load(t, c.yaml, nil)
		if err != nil {
			t.Errorf("%s: %v", c.yaml, err)
			continue
		}
		var said []string
		for _, doubt := range loaded.Doubts() {
			said = append(said, place.ReplaceAllString(doubt.Error(), ""))
		}
		if got := strings.Join(said, "; "); got != c.want {
			t.Errorf("%q:\ngot  %s\nwant %s", c.yaml, got, c.want)
		}
	}
}

// A file with every setting, as config prints it, is doubted no more than what it was
// printed from.
func TestDefaultsAreNotDoubted(t *testing.T) {
	t.Parallel()
	c, err := load(t, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := c.Print(&out, c.Flags(), c.Origin); err != nil {
		t.Fatal(err)
	}
	if c, err = load(t, out.String(), nil); err != nil || len(c.Doubts()) > 0 {
		t.Error(err, fmt.Sprint(c.Doubts()))
	}
}
