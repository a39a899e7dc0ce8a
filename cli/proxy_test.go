package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A command asks the proxy that serve would be with the same settings, says which one, and
// changes nothing where nobody has named one.
func TestWhichProxy(t *testing.T) { //nolint:paralleltest // it sets the environment
	b := backendtest.Start(t, backendtest.OK)
	a, _ := run(t, b.URL())
	at := strings.TrimPrefix(a.AdminURL(), "http://")
	send(t, a.URL(), "k")
	_, port, _ := strings.Cut(at, ":")
	file := writeFile(t, "admin: \":"+port+"\"\n")
	expect := func(code int, want string, args ...string) {
		t.Helper()
		if got, out := command(t, args...); got != code || !strings.Contains(out, want) {
			t.Errorf("%v: %d %s, want %d %q", args, got, out, code, want)
		}
	}
	expect(0, "asking the proxy at "+at+" (--admin)", "inspect", "k", "--admin", at)
	expect(0, "asking the proxy at "+at+" ("+file+")", "inspect", "k", "-c", file)
	expect(2, "there is no such setting", "inspect", "k", "-c", writeFile(t, "admi: x\n"))
	expect(2, "free port", "inspect", "k", "-c", writeFile(t, "admin: 127.0.0.1:0\n"))
	expect(2, "no admin listener", "inspect", "k", "-c", writeFile(t, "admin: \"\"\n"))
	// Settings with a mistake elsewhere still say where the proxy is that runs with the earlier ones.
	expect(0, "asking the proxy at ", "inspect", "k", "-c", writeFile(t, "lock_ttl: many\nadmin: '"+at+"' # here\n"))
	expect(0, "asking the proxy at ", "inspect", "k", "-c", writeFile(t, "admin: "+at+"\nroutes: [\n"))
	expect(2, "name it with --admin", "inspect", "k", "-c", writeFile(t, "lock_ttl: many\nroutes:\n  - {name: admin, path: /x}\n  admin: "+at+"\n"))
	for _, args := range [][]string{{"resolve", "k", "--retry"}, {"release", "k"}, {"purge", "k"}, {"purge", "k", "--yes"}} {
		expect(2, "nothing says which proxy is meant", args...)
	}
	t.Setenv("IDEMPROXY_CONFIG", file)
	expect(0, "("+file+")", "inspect", "k")
	t.Setenv("IDEMPROXY_ADMIN", at)
	expect(0, "(IDEMPROXY_ADMIN)", "inspect", "k")
	t.Setenv("IDEMPROXY_ADMIN", "127.0.0.1:1")
	expect(1, "127.0.0.1:1", "inspect", "k")
	expect(0, "(--admin)", "purge", "k", "--admin", at)
}

// heldKeys is a proxy with that many keys that are held, in a scope that a shell would take apart.
func heldKeys(t *testing.T, n int) (at string) {
	t.Helper()
	b := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { _ = c.Close() })
	a, _ := run(t, b.URL(), func(c *config.Config) {
		c.OnAmbiguous, c.Scope = idem.AmbiguousHold, []string{"header:X-Account", "header:X-Team"}
	})
	for i := range n {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL(), strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", fmt.Sprintf("it's %d", i))
		req.Header.Set("X-Account", "acct 7")
		req.Header.Set("X-Team", "red")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	return strings.TrimPrefix(a.AdminURL(), "http://")
}

// What a listing shows of a key can be pasted, and so can what the log calls it; the oldest
// come first beyond any limit.
func TestLookUp(t *testing.T) {
	t.Parallel()
	at := heldKeys(t, 5)
	_, out := command(t, "list", "--admin", at)
	pasted := regexp.MustCompile(`(key:[0-9a-f]{12}) +'it'\\''s 0' --scope 'header:x-account=acct 7' --scope header:x-team=red`)
	found := pasted.FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("list: %s", out)
	}
	code, shown := command(t, "inspect", "it's 0", "--scope", "header:x-account=acct 7", "--scope", "header:x-team=red", "--admin", at)
	if code != 0 || !strings.Contains(shown, "unknown") {
		t.Errorf("%d %s", code, shown)
	}
	digest := found[1]
	if code, shown := command(t, "inspect", digest, "--admin", at); code != 0 || !strings.Contains(shown, "it's 0") {
		t.Errorf("%d %s", code, shown)
	}
	if code, shown := command(t, "inspect", "key:000000000000", "--admin", at); code != 1 || !strings.Contains(shown, "no record") {
		t.Errorf("%d %s", code, shown)
	}
	// What was copied in part is told from what is not there, and nothing is done to it.
	for _, args := range [][]string{{"inspect"}, {"purge"}, {"release"}, {"resolve", "--retry"}} {
		code, shown := command(t, append(args, digest[:10], "--admin", at)...)
		if want := "it has 6 hexadecimal digits after key:, and the log writes 12"; code != 1 || !strings.Contains(shown, want) {
			t.Errorf("%v: %d %s", args, code, shown)
		}
	}
	cut := writeNamed(t, "keys", digest+"0\n")
	if _, shown := command(t, "resolve", "--file", cut, "--retry", "--admin", at); !strings.Contains(shown, "it has 13 hexadecimal digits") {
		t.Error(shown)
	}
	var all []string
	for after := ""; ; {
		_, out := command(t, "list", "--admin", at, "--limit", "2", "--after", after)
		all = append(all, regexp.MustCompile(`s \d'`).FindAllString(out, -1)...)
		m := regexp.MustCompile(`--after (\S+)`).FindStringSubmatch(out)
		if m == nil {
			break
		}
		after = m[1]
	}
	slices.Sort(all) // of those of one millisecond, any may be first
	if got := strings.Join(all, ""); got != "s 0's 1's 2's 3's 4'" {
		t.Errorf("listed %s", got)
	}
	if code, out := command(t, "resolve", digest, "--retry", "--admin", at); code != 0 {
		t.Error(out)
	}
	if _, out := command(t, "list", "--admin", at); strings.Contains(out, digest) {
		t.Errorf("%s is still held: %s", digest, out)
	}
}

// Many keys are resolved at once, after a look at which they are: those of a filter, or of a
// file, whose keys may be written as logs and listings have them.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	at := heldKeys(t, 6)
	expect := func(code int, want string, args ...string) {
		t.Helper()
		if got, out := command(t, append(args, "--admin", at)...); got != code || !strings.Contains(out, want) {
			t.Errorf("%v: %d %s, want %d %q", args, got, out, code, want)
		}
	}
	expect(0, "6 keys would be freed", "resolve", "--all", "--retry", "--dry-run")
	expect(0, "0 keys would be freed", "resolve", "--all", "--retry", "--dry-run", "--older-than", "7d")
	expect(0, "0 keys would be freed", "resolve", "--all", "--retry", "--dry-run", "--scope", "header:x-account=other")
	expect(0, "0 keys would be released", "release", "--all", "--dry-run")
	if _, none := command(t, "release", "--all", "--dry-run", "--admin", at); strings.Contains(none, "STATE") {
		t.Errorf("a table of no keys is shown: %s", none)
	}
	_, out := command(t, "list", "--admin", at)
	digests := regexp.MustCompile(`key:[0-9a-f]{12}`).FindAllString(out, -1)
	if len(digests) != 6 {
		t.Fatal(out)
	}
	file := filepath.Join(t.TempDir(), "keys")
	lines := digests[0] + "\n" + `{"key":"it's 1","scope":"header:x-account=acct 7\u001fheader:x-team=red","state":"unknown"}` + "\n\nnever-seen\n"
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(0, "left out: never-seen is without a record\n", "resolve", "--file", file, "--complete", "--dry-run")
	expect(0, "2 keys would be completed", "resolve", "--file", file, "--complete", "--dry-run")
	expect(0, "6 keys would be freed", "resolve", "--all", "--retry", "--dry-run") // nothing was done
	expect(0, "2 keys completed with a response 201 without a body, 1 left out, 0 failed", "resolve", "--file", file, "--complete", "--status", "201")
	expect(0, "201, 0 bytes", "inspect", digests[1])
	// What a file says of an attempt is not about the one that is held by now.
	_, out = command(t, "list", "--json", "--admin", at)
	owner := regexp.MustCompile(`"owner":"[0-9a-f]{8}"`)
	if len(owner.FindAllString(out, -1)) != 4 {
		t.Fatal(out)
	}
	var seen admin.Listing
	if err := json.Unmarshal([]byte(owner.ReplaceAllString(out, `"owner":"00000000"`)), &seen); err != nil {
		t.Fatal(err)
	}
	old, err := json.Marshal(seen.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	expect(0, "is another attempt than the file's", "resolve", "--retry", "--file", writeNamed(t, "keys", string(old)))
	expect(1, "has changed since it was looked at", "resolve", seen.Keys[0].Digest, "--retry", "--owner", "00000000")
	expect(1, "nothing was done without --yes", "resolve", "--all", "--retry", "--json")
	expect(0, "4 keys would be freed", "resolve", "--all", "--retry", "--dry-run")
	expect(0, `{"keys":4,"left_out":0,"failed":0}`, "resolve", "--all", "--retry", "--json", "--yes")
	expect(0, "0 keys would be freed", "resolve", "--all", "--retry", "--dry-run")
	expect(2, "keys:1: want a key", "resolve", "--retry", "--file", writeNamed(t, "keys", "{}\n"))
}

func writeNamed(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
