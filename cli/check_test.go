package cli_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A change of settings is checked before anything is asked: what a proxy would refuse at its
// start is refused here, with the line to add, and what it cannot notice is a warning.
func TestCheckOfAChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := file("secret", strings.Repeat("s", 32)+"\n")
	other := file("other", strings.Repeat("o", 32)+"\n")
	both := file("both", strings.Repeat("o", 32)+"\n"+strings.Repeat("s", 32)+"\n")
	const now = "backend: http://127.0.0.1:9000\nstore: redis://127.0.0.1:1/0\n"
	for _, one := range []struct {
		name, earlier, later string
		wrong, doubtful      string // empty: nothing
		args                 []string
	}{
		{name: "nothing", earlier: now, later: now},
		{name: "what names no record", earlier: now, later: now + "retention: 7d\nrequire_key: true\n"},
		{name: "scope", earlier: now, later: now + "scope: [host]\n", wrong: "earlier_scopes: [none]"},
		{name: "scope and the line", earlier: now, later: now + "scope: [host]\nearlier_scopes: [none]\n"},
		{
			name: "scope and the flag", earlier: now, later: now + "scope: [host]\n", doubtful: "earlier_scopes: [none]",
			args: []string{"--accept-orphans"},
		},
		{name: "key header", earlier: now + "key_headers: [X-A, X-B]\n", later: now + "key_headers: [X-A]\n", wrong: "key_headers"},
		{
			name: "scope of a route", earlier: now, later: now + "routes: [{name: pay, path: /pay/*, scope: [host]}]\n",
			wrong: "route pay",
		},
		{name: "secret", earlier: now + "secret_file: " + secret + "\n", later: now + "secret_file: " + other + "\n", wrong: "secret_file"},
		{name: "secret added", earlier: now + "secret_file: " + secret + "\n", later: now + "secret_file: " + both + "\n"},
		{name: "store", earlier: now, later: strings.Replace(now, ":1/0", ":1/1", 1), doubtful: "later.yaml:2: store: the earlier settings have another value"},
		{name: "namespace", earlier: now, later: now + "namespace: other\n", doubtful: "namespace: the earlier settings have another value"},
		{name: "a wrong file", earlier: "scoope: [host]\n", later: now, wrong: "the earlier settings: "},
	} {
		args := append([]string{
			"check", "--json", "-c", file("later.yaml", one.later), "--earlier", file("earlier.yaml", one.earlier),
		}, one.args...)
		code, out := command(t, args...)
		var found struct{ Errors, Warnings []string }
		if err := json.Unmarshal([]byte(out), &found); err != nil {
			t.Fatalf("%s: %v: %s", one.name, err, out)
		}
		says := func(what string, texts []string) {
			t.Helper()
			if what == "" && len(texts) > 0 || what != "" && !slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, what) }) {
				t.Errorf("%s: it says %q, want %q", one.name, texts, what)
			}
		}
		says(one.wrong, found.Errors)
		says(one.doubtful, found.Warnings)
		if want := map[bool]int{true: 0, false: 2}[one.wrong == ""]; code != want {
			t.Errorf("%s: exit code %d, want %d", one.name, code, want)
		}
	}
}

// A place that cannot be connected to is named with the line that names it; none is sent a request.
func TestCheckProbes(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }))
	t.Cleanup(server.Close)
	const nobody = "http://127.0.0.1:1"
	file := filepath.Join(t.TempDir(), "settings.yaml")
	check := func(yaml string, args ...string) (code int, out string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		return command(t, append([]string{"check", "-c", file}, args...)...)
	}
	well := "backend: " + server.URL + "\nresolver: " + server.URL + "/resolve\non_ambiguous: hold\n"
	if code, out := check(well, "--probe"); code != 0 || out != "" {
		t.Errorf("%d %s", code, out)
	}
	if code, out := check(well, "--probe", "--json"); code != 0 || out != `{"ok":true,"errors":[],"warnings":[],"unreachable":[]}`+"\n" {
		t.Errorf("%d %s", code, out)
	}
	wrong := "backend: [" + server.URL + ", " + nobody + "]\n" +
		"upstreams:\n  - name: pay\n    backend: " + strings.Replace(server.URL, "http:", "https:", 1) + "\n" +
		"routes:\n  - path: /pay\n    upstream: pay\n    on_ambiguous: settle\n    receipts: " + nobody + "/receipts?token=hunter2\n"
	if code, out := check(wrong); code != 0 || out != "" {
		t.Errorf("without --probe: %d %s", code, out)
	}
	code, out := check(wrong, "--probe")
	for _, want := range []string{
		"settings.yaml:1: backend: " + nobody + ": connecting to the backend: ",
		"settings.yaml:4: backend: https://127.0.0.1", "TLS handshake",
		"settings.yaml:9: receipts: " + nobody + "/receipts?***: connecting to the backend: ",
	} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("%d, without %q: %s", code, want, out)
		}
	}
	if n := strings.Count(out, "\n"); n != 3 || strings.Contains(out, "hunter2") {
		t.Errorf("%d lines: %s", n, out)
	}
	if code, out := check(wrong, "--probe", "--json"); code != 1 || !strings.Contains(out, `{"ok":false,"errors":[],"warnings":[],"unreachable":["`) {
		t.Errorf("%d %s", code, out)
	}
	if code, out := check("lock_ttl: banana\n", "--probe"); code != 2 || !strings.Contains(out, "lock_ttl") {
		t.Errorf("%d %s", code, out)
	}
}

// A file that sets nothing may be used, and was perhaps not meant: what made it may have failed.
func TestCheckOfAFileWithoutSettings(t *testing.T) {
	t.Parallel()
	for text, doubted := range map[string]bool{"": true, "# backend: x\n": true, "{}\n": true, "listen: [127.0.0.1:1]\n": false, "upstreams: []\n": true} {
		file := filepath.Join(t.TempDir(), "idemproxy.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// The flag overrules the file's, which does not make it empty.
		code, out := command(t, "check", "-c", file, "--listen", "127.0.0.1:2")
		if code != 0 || strings.Contains(out, "there are no settings in it") != doubted {
			t.Errorf("%q: exit code %d, %s", text, code, out)
		}
	}
}
