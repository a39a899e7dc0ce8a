package app_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/cli"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// hunter2 is the secret, spoilt the part of it that stands after a character
// that a URL takes for its own.
const hunter2, spoilt = "hunter2", "spoi1t"

// nastyURLs have the secret in every place, for a scheme and a host.
func nastyURLs(scheme, host string) (all []string) {
	for _, form := range []string{
		"S://user:hunter2@H", "S://hunter2@H", "S://:hunter2@H", "S://user:hunter2@spoi1t@H", "S://user:hunter2/spoi1t@H",
		"S://user:hunter2?spoi1t@H", "S://user:hunter2#spoi1t@H", "S://user:hunter2%spoi1t@H", "S://user:hunter2:spoi1t@H",
		"S://user:hunter2 spoi1t@H", "S://user:hunter2\"spoi1t@H", "S://user:hunter2,spoi1t@H", "S://user:hunter2%2F%40spoi1t@H",
		"S://user:12/hunter2@H", "S://user:12?hunter2@H", "S://user:12#hunter2@H", "S://H/?password=hunter2", "S://H/x?token=hunter2&db=spoi1t",
		"S://H/?hunter2", "S://H/#hunter2", "S://:hunter2", "S:user:hunter2@H", "S:/user:hunter2@H", "user:hunter2@H", "hunter2@H",
		"//user:hunter2@H", "hunter2://user@H", "S://user:hunter2@H/0/1", "S://user:hunter2@H/spoi1t@x", "S://user:hunter2@[::", " S://user:hunter2@H",
	} {
		all = append(all, strings.NewReplacer("S:", scheme+":", "H", host).Replace(form))
	}
	return all
}

// withScheme are those that cannot be taken for a word with an @.
func withScheme(urls []string) []string {
	return slices.DeleteFunc(urls, func(url string) bool { return !strings.HasPrefix(url, "redis:") })
}

// fileWith is a file of settings, one of them a URL.
func fileWith(t *testing.T, setting, value string) string {
	t.Helper()
	routes, upstreams := "  - path: /x\n", "  - name: u\n"
	own := fmt.Sprintf("    %s: %q\n", setting, value)
	switch setting {
	case "jwks":
		own += "    scope: [\"claim:sub\"]\n"
		fallthrough
	case "resolver":
		return writeFile(t, fmt.Sprintf("%s: %q\nroutes:\n%s%s", setting, value, routes, own))
	case "backend", "health_path":
		return writeFile(t, fmt.Sprintf("%s: %q\nupstreams:\n%s%sroutes:\n%s    upstream: u\n", setting, value, upstreams,
			own, routes))
	}
	return writeFile(t, fmt.Sprintf("%s: %q\n", setting, value))
}

// TestSecretsInURLs: no command shows what a URL may hold of secrets, whatever
// setting it is for, and whether it can be used or not.
func TestSecretsInURLs(t *testing.T) {
	t.Parallel()
	for setting, urls := range map[string][]string{
		"store": slices.Concat(nastyURLs("redis", "127.0.0.1:1"), nastyURLs("unix", "/run/redis.sock"), nastyURLs("postgres", "127.0.0.1:1")),
		// Those that do not listen: a key set is fetched by check.
		"jwks": nastyURLs("http", "127.0.0.1:1"), "resolver": nastyURLs("http", "127.0.0.1:1"), "otlp": nastyURLs("http", "127.0.0.1:1"),
		"backend": nastyURLs("http", "127.0.0.1:1"), "admin": nastyURLs("http", "127.0.0.1:1"), "listen": nastyURLs("http", "127.0.0.1:1"),
		"health_path": {"/healthz?token=hunter2", "/healthz#hunter2", "http://user:hunter2@127.0.0.1:1/"},
		"lock_ttl":    nastyURLs("redis", "127.0.0.1:1"), "namespace": withScheme(nastyURLs("redis", "127.0.0.1:1")),
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			for _, url := range urls {
				file, flag := fileWith(t, setting, url), "--"+strings.ReplaceAll(setting, "_", "-")
				for _, args := range [][]string{
					{"check", "-c", file},
					{"config", "-c", file},
					{"routes", "-c", file},
					{"routes", "--json", "-c", file},
					{"check", flag + "=" + url},
					{"config", flag, url},
					{"config", "-" + setting + "=" + url},
					{"check", flag + "x=" + url},
					{"check", url},
					{url},
				} {
					hushed(t, args)
				}
				said := hushed(t, []string{"check", "-c", file})
				if name, wrong, _ := strings.Cut(said, ": "); said != "" && (name != "idemproxy" || !strings.Contains(wrong, setting+": ")) {
					t.Errorf("%s: %q: what is wrong is not said of it: %s", setting, url, said)
				}
			}
		})
	}
}

// TestSecretsOfServe: nor does the proxy as it starts, logs and stops.
func TestSecretsOfServe(t *testing.T) {
	t.Parallel()
	for _, url := range append(nastyURLs("redis", "127.0.0.1:1"), nastyURLs("unix", filepath.Join(t.TempDir(), "no.sock"))...) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			hushed(t, []string{
				"serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", url, "--log-level", "debug",
				"--store-timeout", "100ms",
			})
		})
	}
}

// hushed runs a command, to an end that is near, and looks through what it says.
func hushed(t *testing.T, args []string) (said string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := &log{} // which a store's goroutines write to as well
	cli.Main(ctx, args, out, out)
	noSecret(t, fmt.Sprintf("%q", args), out.text())
	return out.text()
}

func noSecret(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{hunter2, spoilt} {
		if strings.Contains(text, secret) {
			t.Errorf("%s shows the secret:\n%.2000s", where, text)
			return
		}
	}
}

// TestSecretsOfAdmin: nor does the admin listener of a proxy that runs by such
// settings, whatever Redis, or what stands in its place, repeats.
func TestSecretsOfAdmin(t *testing.T) {
	t.Parallel()
	for credentials, answer := range map[string]string{
		"spoi1t:hunter2": "ERR unknown command 'HELLO', with args beginning with: '2' 'AUTH' 'spoi1t' 'hunter2' ",
		"user:hunter2":   "DENIED 'hunter2' is not the password",
		"hunter2":        "NOPERM User hunter2 has no permissions to run the 'hello' command",
	} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			askAdmin(t, "redis://"+credentials+"@"+answering(t, answer))
		})
	}
}

// askAdmin asks for all that the admin listener of a proxy on such a store says.
func askAdmin(t *testing.T, store string) {
	t.Helper()
	b := backendtest.Start(t, backendtest.OK)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"keys":[]}`) }))
	t.Cleanup(keys.Close)
	place := strings.TrimPrefix(keys.URL, "http://")
	out := &log{}
	a := runOn(t, zerolog.New(out).Level(zerolog.DebugLevel), b.URL(), func(c *config.Config) {
		c.Store = store
		c.JWKS, c.Resolver = "http://hunter2@"+place+"/keys?token=spoi1t", keys.URL+"/ask?token=hunter2"
		c.Scope, c.HealthPath = []string{"claim:sub"}, "/healthz?token=hunter2"
		c.Routes = []config.Route{{Name: "pay", Path: "/pay/*", Rules: c.Rules}}
	})
	out.await(t, `"event":"store_unreachable"`)
	out.await(t, `"event":"started"`)
	for _, path := range []string{
		"/settings", "/status", "/readyz", "/healthz", "/metrics", "/", "/keys/list", "/keys?key=k", "/debug/pprof/", "/debug/pprof/cmdline",
		"/debug/pprof/goroutine?debug=2",
	} {
		resp, err := http.Get(a.AdminURL() + path) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		noSecret(t, path, string(text))
		if path == "/settings" && !strings.Contains(string(text), "***@"+place+"/keys?***") {
			t.Errorf("the settings do not show what is no secret:\n%s", text)
		}
	}
	c := config.Default()
	c.Store = "redis://user:hunter2@127.0.0.1:1/spoi1t@"
	if err := a.Reload(c); err == nil {
		t.Error("another store was taken without a restart")
	} else {
		noSecret(t, "a reload", err.Error())
	}
	noSecret(t, "the log", out.text())
}

// answering is the address of a server that answers with the same error always.
func answering(t *testing.T, answer string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				if _, err := c.Read(make([]byte, 1<<10)); err == nil {
					_, _ = fmt.Fprintf(c, "-%s\r\n-NOAUTH x\r\n", answer)
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// TestSecretsOfAdminAddress: nor do the commands that ask a running proxy, if they
// are told a password with its address.
func TestSecretsOfAdminAddress(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"user:hunter2@127.0.0.1:1", "hunter2@127.0.0.1:1", "http://user:hunter2@127.0.0.1:1", "u:hunter2/spoi1t@h:1", "127.0.0.1:hunter2@x"} {
		for _, args := range [][]string{
			{"inspect", "k"}, {"list"}, {"health"}, {"release", "k"}, {"resolve", "k", "--retry"}, {"purge", "k", "--yes"}, {"tail"}, {"top", "--once"},
		} {
			hushed(t, append(args, "--admin", addr))
		}
	}
}

// TestCheckRefusesWhatServeRefuses: with the same words.
func TestCheckRefusesWhatServeRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings []string
		want     string
	}{
		"a database that is no number": {[]string{"--store", "redis://127.0.0.1:1/zero"}, "--store: the Redis URL: want the number of a database"},
		"nobody to settle with":        {[]string{"--on-ambiguous", "settle"}, "--on-ambiguous: settle cannot be used: want receipts with it"},
		"two databases":                {[]string{"--store", "redis://127.0.0.1:1/0/1"}, "want the number of a database"},
		"another database":             {[]string{"--store", "redis://127.0.0.1:1?db=zero"}, "db= in its query"},
		"a timeout":                    {[]string{"--store", "redis://127.0.0.1:1?dial_timeout=soon"}, "dial_timeout= in its query"},
		"another timeout":              {[]string{"--store", "redis://127.0.0.1:1?write_timeout=soon"}, "write_timeout= in its query"},
		"verification":                 {[]string{"--store", "rediss://127.0.0.1:1?skip_verify=perhaps"}, "skip_verify= in its query"},
		"a port":                       {[]string{"--store", "redis://127.0.0.1:66666"}, "want host:port"},
		"a port of words":              {[]string{"--store", "redis://127.0.0.1:port"}, "%40 for @"},
		"no slashes":                   {[]string{"--store", "redis:127.0.0.1:1"}, "--store: the Redis URL: want redis://host:port/db"},
		"nothing":                      {[]string{"--store", "redis:"}, "redis://host:port/db"},
		"no socket":                    {[]string{"--store", "unix:"}, "unix:///path"},
		"a password with a slash":      {[]string{"--store", "redis://user:12/34@127.0.0.1:1"}, "%2F for /"},
		"no escape":                    {[]string{"--store", "redis://user:%zz@127.0.0.1:1"}, "%25 for %"},
		"authorities without TLS":      {[]string{"--store", "redis://127.0.0.1:1", "--store-ca", "x"}, "--store-ca: "},
		"a certificate without TLS":    {[]string{"--store", "redis://127.0.0.1:1", "--store-cert", "x"}, "--store-cert: "},
		"a key without TLS":            {[]string{"--store", "redis://127.0.0.1:1", "--store-key", "x"}, "--store-key: "},
		"authorities that are missing": {[]string{"--store", "rediss://127.0.0.1:1", "--store-ca", "/no/such"}, "--store-ca: "},
		"no authority":                 {[]string{"--store", "rediss://127.0.0.1:1", "--store-ca", "/dev/null"}, "--store-ca: "},
		"half a certificate":           {[]string{"--store", "rediss://127.0.0.1:1", "--store-cert", "/dev/null"}, "go together"},
		"no certificate":               {[]string{"--store", "rediss://127.0.0.1:1", "--store-cert", "/dev/null", "--store-key", "/dev/null"}, "--store-cert: "},
		"replicas of a directory":      {[]string{"--store", "embedded:/no/such", "--wait-replicas", "1"}, "--wait-replicas: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said := map[string]string{}
			for _, command := range []string{"check", "config", "serve"} {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				out, stderr := &log{}, &log{}
				args := append([]string{command, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "error"}, c.settings...)
				code := cli.Main(ctx, args, out, stderr)
				said[command], _, _ = strings.Cut(stderr.text(), "\n")
				if code == cli.ExitOK || !strings.Contains(said[command], c.want) {
					t.Errorf("%s: exit code %d: %s", command, code, said[command])
				}
			}
			if said["check"] != said["serve"] || said["config"] != said["serve"] {
				t.Errorf("they do not say the same: %q", said)
			}
		})
	}
}
