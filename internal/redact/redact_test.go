package redact_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/internal/redact"
)

func TestURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ raw, want string }{
		{"", ""},
		{"embedded:", "embedded:"},
		{"embedded:/srv/a@b", "embedded:/srv/a@b"},
		{"redis://host:6379/0", "redis://host:6379/0"},
		{"redis://user:hunter2@host:6379/0", "redis://***@host:6379/0"},
		{"REDIS://user:hunter2@host/0", "redis://***@host/0"},
		{"redis://hunter2@host", "redis://***@host"},
		{"redis://:hunter2@host", "redis://***@host"},
		{"redis://user:hun@ter2@host", "redis://***@host"},
		{"redis://user:hun%40ter2@[::1]:6379", "redis://***@[::1]:6379"},
		{"redis://user:hunter2@", "redis://***@"},
		{"redis://user:hun/ter2@host/0", "redis://***"},
		{"redis://user:12/hunter2@host/0", "redis://***"},
		{"redis://user:12?hunter2@host/0", "redis://***"},
		{"redis://user:12#hunter2@host/0", "redis://***"},
		{"redis://user:12@host/0#hunter2", "redis://***"},
		{"redis://user:%zz@host/0", "redis://***"},
		{"redis://user:a b@host/0", "redis://***"},
		{"redis:user:hunter2@host/0", "redis://***"},
		{"redis:/user:hunter2@host/0", "redis://***"},
		{"redis://h:1?addr=h2:1&addr=[::1]:2&master_set=main&db=3&dial_timeout=1s&skip_verify", "redis://h:1?addr=h2:1&addr=[::1]:2&master_set=main&db=3&dial_timeout=1s&skip_verify"},
		{"redis://h:1?addr=h2:1&password=hunter2&db=3", "redis://h:1?addr=h2:1&db=3&***"},
		{"redis://h:1?addr=user:hunter2@h2", "redis://***"},
		{"redis://h:1?addr=user%3Ahunter2%40h2&db=hunter2&dial_timeout=hunter2", "redis://h:1?***"},
		{"redis://h:1?hunter2", "redis://h:1?***"},
		{"hunter2@host:6379", "***"},
		{"user:hunter2@host:6379", "***"},
		{"//user:hunter2@host:6379", "***"},
		{"mysql://host", "mysql://host"},
		{"localhost:6379", "localhost:6379"},
		{"localhost:8080/pay", "localhost:8080/pay"},
		{"user:12/hunter2@host/0", "***"},
		{"localhost:8080/pay?hunter2", "***"},
		{"localhost:hunter2/pay", "***"},
		{"not-a-url", "not-a-url"},
		{"unix:run.sock", "unix:run.sock"},
		{"hunter2://user@host", "***"},
		{"user:hunter2", "***"},
		{":hunter2", "***"},
		{"embedded://user:hunter2@host", "***"},
		{"unix:/run/app@1.sock", "unix:/run/app@1.sock"},
		{"unix:///run/app@1.sock", "unix:///run/app@1.sock"},
		{"unix://user:hunter2@/run/redis.sock?db=1", "unix://***@/run/redis.sock?db=1"},
		{"unix:/user:hunter2@/run/redis.sock", "unix://***"},
		{"unix:/hunter2@/run/redis.sock", "unix://***"},
		{"unix://x/hunter2@/run/redis.sock", "unix://***"},
		{"http://host:4318/v1/traces", "http://host:4318/v1/traces"},
		{"https://user:hunter2@host/v1?token=hunter2&db=1", "https://***@host/v1?***"},
	} {
		if got := redact.URL(c.raw); got != c.want {
			t.Errorf("%q is shown as %q, want %q", c.raw, got, c.want)
		}
	}
}

func TestOtherThanURLs(t *testing.T) {
	t.Parallel()
	list := func(s string) string { return strings.Join(redact.URLs(strings.Split(s, ",")), ",") }
	for name, c := range map[string]struct {
		show      func(string) string
		raw, want string
	}{
		"a file":                       {redact.Place, "/etc/jwks@2/keys.json", "/etc/jwks@2/keys.json"},
		"a file here":                  {redact.Place, "keys.json", "keys.json"},
		"a file, or a URL":             {redact.Place, "user:hunter2@host/keys.json", "***"},
		"a file, or a URL with a name": {redact.Place, "hunter2@host/keys.json", "***"},
		"a file, or a slash too few":   {redact.Place, "/user:hunter2@host/keys.json", "***"},
		"a file, or no scheme":         {redact.Place, "//hunter2@host/keys.json", "***"},
		"a key set's URL":              {redact.Place, "https://u:hunter2@host/keys?t=hunter2", "https://***@host/keys?***"},
		"a path":                       {redact.Path, "/healthz", "/healthz"},
		"a path with a query":          {redact.Path, "/healthz?token=hunter2", "/healthz?***"},
		"a path that is a URL":         {redact.Path, "http://u:hunter2@host/healthz", "http://***@host/healthz"},
		"an address":                   {redact.Addr, "127.0.0.1:8081", "127.0.0.1:8081"},
		"an address with a password":   {redact.Addr, "u:hunter2@host:8081", "***"},
		"a text":                       {redact.Text, "^[a-z@]+$", "^[a-z@]+$"},
		"an audience":                  {redact.Text, "api://1234", "api://1234"},
		"a text that is a URL":         {redact.Text, "redis://hunter2@host", "redis://***@host"},
		"a list":                       {list, "http://a:1,unix:/run/b", "http://a:1,unix:/run/b"},
		"a list with a password":       {list, "http://a:1,http://u:hunter2@b", "http://a:1,http://***@b"},
		"a password with a comma":      {list, "http://u:12,hunter2@b", "***"},
		"a query with a comma":         {list, "http://h?token=a,hunter2", "***"},
	} {
		if got := c.show(c.raw); got != c.want {
			t.Errorf("%s: %q is shown as %q, want %q", name, c.raw, got, c.want)
		}
	}
}

// Errors of others show what they are about, in spellings of their own.
func TestError(t *testing.T) {
	t.Parallel()
	const raw = "https://user:hun%2Fter2@host/keys?token=s%20cret&tenant=acme"
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"the URL": {fmt.Errorf("fetching %s: no route", raw), "fetching https://***@host/keys?***: no route"},
		"the URL, quoted": {
			fmt.Errorf("fetching %q: no route", raw),
			`fetching "https://***@host/keys?***": no route`,
		},
		"as net/http has it": {
			fmt.Errorf("fetching: %w", &url.Error{Op: "Get", URL: "https://user:***@host/keys?token=s%20cret&tenant=acme", Err: fs.ErrInvalid}),
			`fetching: Get "https://***@host/keys?***": invalid argument`,
		},
		"where it was led to":   {&url.Error{Op: "Get", URL: "https://other/?token=s+cret", Err: fs.ErrInvalid}, `Get "https://***@host/keys?***": invalid argument`},
		"a value":               {errors.New("bad value acme"), ""},
		"a password, unescaped": {errors.New("bad password hun/ter2"), ""},
		"a value, unescaped":    {errors.New("bad token s cret"), ""},
		"nothing of it":         {errors.New("dial tcp: lookup host: no such host"), "dial tcp: lookup host: no such host"},
	} {
		got := redact.Error(c.err, raw)
		for _, part := range []string{"user:", "hun%2Fter2", "hun/ter2", "s%20cret", "s cret", "s+cret", "acme"} {
			if strings.Contains(got.Error(), part) {
				t.Errorf("%s: %q shows %q", name, got, part)
			}
		}
		if c.want != "" && got.Error() != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if !errors.Is(got, c.err) {
			t.Errorf("%s: it is another error", name)
		}
	}
	if redact.Error(nil, raw) != nil {
		t.Error("no error is one")
	}
}

// What url.Parse says has parts of what it could not read.
func TestParse(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"redis://:hunter2", "redis://u:%hunter2@h", "redis://u:hunter2 @h", "hunter2:x", "http://[hunter2", ":hunter2", "redis://u:hun\x01ter2@h",
	} {
		if u, err := redact.Parse(raw); err != nil && (strings.Contains(err.Error(), "ter2") || !errors.Is(err, redact.ErrUnreadable)) {
			t.Errorf("%q: %v, %v", raw, u, err)
		}
	}
	if u, err := redact.Parse("redis://u:p@h"); err != nil || u.Host != "h" {
		t.Errorf("%v, %v", u, err)
	}
}
