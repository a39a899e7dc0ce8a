package config_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
)

// Each case is a YAML file, a line of dashes, and what becomes of it: the
// settings that differ from the defaults, or the exact error.
func TestCases(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/*.case")
	if err != nil || len(cases) < 10 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, file := range cases {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			yaml, want, ok := strings.Cut(string(text), "\n----------\n")
			if !ok {
				t.Fatal("no line of dashes")
			}
			if got := outcome(t, yaml); strings.TrimSpace(got) != strings.TrimSpace(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func outcome(t *testing.T, yaml string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "f.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	flags := c.Flags()
	origin, err := config.Load(&c, flags, file, nil)
	if err != nil {
		return strings.ReplaceAll(err.Error(), dir+"/", "")
	}
	var out strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if place, ok := origin[f.Name]; ok {
			fmt.Fprintf(&out, "%s = %s (%s)\n", f.Name, f.Value, filepath.Base(place))
		}
	})
	if len(c.Routes)+len(c.Upstreams) > 0 {
		var printed strings.Builder
		if err := c.Print(&printed, flags, origin); err != nil {
			t.Fatal(err)
		}
		_, lists, _ := strings.Cut(strings.Replace(printed.String(), "\nupstreams:\n", "\nupstreams:\n\nroutes:\n", 1), "\nroutes:\n")
		out.WriteString(strings.ReplaceAll(lists, dir+"/", ""))
	}
	return out.String()
}

func load(t *testing.T, yaml string, environ []string, args ...string) (config.Config, error) {
	t.Helper()
	file := ""
	if yaml != "" {
		file = filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := config.Default()
	flags := c.Flags()
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(&c, flags, file, environ)
	return c, err
}

func TestLaterSourcesWin(t *testing.T) {
	t.Parallel()
	c, err := load(t, "listen: :1\nadmin: 127.0.0.1:1\nnamespace: file\nbind: [A, B]\nnot_replayed: [X]",
		[]string{"IDEMPROXY_ADMIN=127.0.0.1:2", "IDEMPROXY_NAMESPACE=env", "IDEMPROXY_BIND=C,D", "OTHER=x"},
		"--namespace", "flag", "--bind", "E")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{fmt.Sprint(c.Listen), c.Admin, c.Namespace, fmt.Sprint(c.Bind), fmt.Sprint(c.NotReplayed)}
	if want := []string{"[:1]", "127.0.0.1:2", "flag", "[E]", "[X]"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Every setting can be given in all three spellings.
func TestEverySettingInEverySpelling(t *testing.T) {
	t.Parallel()
	values := map[string]string{
		"listen": "[:81,unix:/x]", "accept-orphans": "true", "backend": "[http://x:1,unix:/y]", "store": "redis://x:1/0", "admin": "", "lock-ttl": "1m0s",
		"heartbeat": "3s", "retention": "1h0m0s", "on-ambiguous": "hold", "backend-timeout": "7s", "connect-timeout": "8s",
		"max-conns": "9", "max-response-header": "5KiB", "body-min-rate": "1KiB", "admin-token-file": "/t", "tls-cert": "/c", "tls-key": "/k", "tls-client-ca": "/a", "max-in-flight": "44", "max-buffered": "6MiB", "max-request-body": "2MiB", "max-response-body": "3MiB", "max-header": "4KiB", "require-key": "true", "ambiguous-paths": "allow", "bind": "[X]",
		"scope": "[host]", "earlier-scopes": "[none,header:X+host]", "require-bind": "true", "remember": "48h0m0s", "max-per-address": "59", "jwks": "/k.json", "jwt-issuer": "i", "jwt-audience": "a", "not-replayed": "[Y]", "trusted-proxies": "[10.0.0.0/8,::1]", "proxy-protocol": "true", "reuse-port": "true", "max-clients": "55", "max-clients-per-ip": "56", "idle-timeout": "21s", "header-timeout": "22s", "body-timeout": "23s", "send-timeout": "24s", "early-hints": "true", "drain-delay": "25s", "balance": "round-robin", "backend-read-timeout": "26s", "backend-write-timeout": "27s", "max-queue": "8", "otlp": "http://o:1/v1/traces", "key-headers": "[X-Operation]", "traceparent": "sampled", "max-per-caller": "57", "max-per-key": "58", "health-path": "/h", "health-interval": "28s", "eject-after": "4", "resolve-interval": "29s", "backend-ca": "/ba", "backend-cert": "/bc", "backend-key": "/bk", "backend-name": "n", "namespace": "ns", "store-timeout": "1s",
		"cache-size": "5MiB", "in-progress": "wait", "max-wait": "9s", "max-waiters": "77", "wait-replicas": "all", "store-journal": "31s", "store-ca": "/ca", "store-cert": "/sc", "store-key": "/sk", "compress-from": "4KiB", "encryption-keys": "/e", "secret-file": "/s",
		"release-statuses": "[429,5xx]", "ambiguous-statuses": "[504]", "key-format": "uuid", "key-min-length": "36",
		"fail-open": "true", "derive-key": "11s", "duplicate-window": "12s", "on-duplicate": "reject", "resolver": "http://x/y", "resolver-timeout": "6s", "fingerprint": "[method,json]", "fail-status": "503", "drain-timeout": "4s", "log-level": "warn", "log-format": "json", "demo": "true",
	}
	d := config.Default()
	d.Flags().VisitAll(func(f *pflag.Flag) {
		want, ok := values[f.Name]
		if !ok {
			t.Errorf("no value for %s", f.Name)
			return
		}
		plain := strings.Trim(want, "[]")
		name := strings.ReplaceAll(f.Name, "-", "_")
		for spelling, load := range map[string]func() (config.Config, error){
			"flag": func() (config.Config, error) { return load(t, "", nil, "--"+f.Name+"="+plain) },
			"environment": func() (config.Config, error) {
				return load(t, "", []string{config.EnvPrefix + strings.ToUpper(name) + "=" + plain})
			},
			"file": func() (config.Config, error) { return load(t, fmt.Sprintf("%s: %q", name, plain), nil) },
		} {
			c, err := load()
			if err != nil {
				t.Errorf("%s as %s: %v", f.Name, spelling, err)
				continue
			}
			if got := c.Flags().Lookup(f.Name).Value.String(); got != want {
				t.Errorf("%s as %s: %q, want %q", f.Name, spelling, got, want)
			}
		}
	})
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	c := config.Default()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if c.OnAmbiguous != idem.AmbiguousRelease || c.LockTTL.String() != "30s" || c.Heartbeat.String() != "10s" {
		t.Errorf("the defaults are not the customer's: %+v", c)
	}
}

// What Print writes, Load reads back to the same settings.
func TestPrintRoundTrip(t *testing.T) {
	t.Parallel()
	c, err := load(t, "", nil, "--store", "redis://x:1/0", "--bind", "A,B", "--lock-ttl", "7s", "--scope", "host")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.Print(&out, c.Flags(), config.Origin{}); err != nil {
		t.Fatal(err)
	}
	again, err := load(t, out.String(), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	again.Origin, c.Origin = nil, nil
	if !reflect.DeepEqual(again, c) {
		t.Errorf("printed and read back: %+v, was %+v", again, c)
	}
}

func TestPrintHidesPasswords(t *testing.T) {
	t.Parallel()
	c, err := load(t, "", nil, "--store", "redis://user:hunter2@x:1/0", "--resolver", "http://x/?token=hunter2")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.Print(&out, c.Flags(), config.Origin{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") || !strings.Contains(out.String(), "redis://***@x:1/0") ||
		!strings.Contains(out.String(), "http://x/?***") {
		t.Error("the password is printed, or the rest is not")
	}
}

// What is wrong with a file is said without its URLs, also where they are keys.
func TestErrorsHidePasswords(t *testing.T) {
	t.Parallel()
	for _, yaml := range []string{
		"redis://user:hunter2@x:1/0: 1", "\"redis://hunter2@x\": 1\n\"redis://hunter2@x\": 2", "lock_ttl: redis://user:hunter2@x",
		"max_conns: redis://user:hunter2@x", "cache_size: redis://user:hunter2@x", "remember: redis://user:hunter2@x",
		"on_ambiguous: redis://user:hunter2@x", "on_duplicate: redis://user:hunter2@x", "wait_replicas: redis://user:hunter2@x",
		"fail_open: redis://user:hunter2@x", "max_per_address: redis://user:hunter2@x", "store: \"redis://user:hunter2@x",
		"store: [redis://user:hunter2@x", "store: redis://user: hunter2@x", "store:\n  redis://user:hunter2@x: 1",
		"routes:\n  - redis://user:hunter2@x", "routes: redis://user:hunter2@x", "redis://user:hunter2@x",
	} {
		_, err := load(t, yaml, nil)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", yaml, err)
		}
	}
}

// FuzzFile: no file makes Load panic, and what it accepts is valid.
func FuzzFile(f *testing.F) {
	f.Add("listen: :1\n")
	f.Add("bind: [a, [b]]\n")
	f.Add("lock_ttl: {a: 1}\n? x\n: y")
	f.Fuzz(func(t *testing.T, yaml string) {
		file := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		c := config.Default()
		if _, err := config.Load(&c, c.Flags(), file, nil); err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("accepted, and then: %v", err)
		}
	})
}
