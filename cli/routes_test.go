package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/cli"
)

const routesFile = `backend: http://127.0.0.1:9000
routes:
  - name: api
    host: api.example.com
  - name: payments
    path: /payments/*
    methods: [POST]
    require_key: true
    lock_ttl: 1m
  - name: refunds
    path: /payments/refunds
`

// The command says what the proxy does: see TestRoutes in package proxy.
// The examples of the documentation are such that work, and what the text shows.
func TestEdgeExample(t *testing.T) {
	t.Parallel()
	const file = "../docs/examples/edge.yaml"
	var out, stderr bytes.Buffer
	for page, file := range map[string]string{"../docs/edge.md": file, "../docs/browsers.md": "../docs/examples/browsers.yaml"} {
		if code := cli.Main(t.Context(), []string{"check", "-c", file}, &out, &stderr); code != cli.ExitOK {
			t.Fatal(stderr.String())
		}
		example, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, example) {
			t.Errorf("%s shows another file", page)
		}
	}
	args := []string{"routes", "-c", file, "POST", "https://x/accounts/7/payments/new"}
	if code := cli.Main(t.Context(), args, &out, &stderr); code != cli.ExitOK ||
		!regexp.MustCompile(`->\s+payments .*upstream: ledger`).Match(out.Bytes()) {
		t.Errorf("%s%s", out.String(), stderr.String())
	}
}

func TestRoutesCommand(t *testing.T) {
	t.Parallel()
	file := writeFile(t, routesFile)
	code, out := command(t, "routes", "-c", file)
	var names []string
	for line := range strings.Lines(out) {
		names = append(names, strings.Fields(line)[0])
	}
	if code != 0 || strings.Join(names[1:], " ") != "api refunds payments (everything" ||
		!strings.Contains(out, "POST     lock_ttl: 1m0s, require_key: true") {
		t.Errorf("%d\n%s", code, out)
	}
	for _, c := range []struct{ method, url, want string }{
		{"POST", "https://other.example/payments/7?x=1", "payments"},
		{"post", "https://other.example/payments", "payments"},
		{"GET", "https://other.example/payments/7", "(everything else)"},
		{"GET", "https://other.example/payments/%72efunds", "refunds"},
		{"POST", "https://API.example.com:8443/payments/7", "api"},
		{"GET", "https://other.example", "(everything else)"},
	} {
		code, out := command(t, "routes", "-c", file, "--json", c.method, c.url)
		var routes []struct {
			Name    string
			Matches bool
			Rules   map[string]string
		}
		if err := json.Unmarshal([]byte(out), &routes); code != 0 || err != nil || len(routes) != 4 {
			t.Fatalf("%d, %v\n%s", code, err, out)
		}
		for _, r := range routes {
			if r.Matches != (r.Name == c.want) {
				t.Errorf("%s %s: %s is taken: %v, want %s", c.method, c.url, r.Name, r.Matches, c.want)
			}
		}
	}
	for target, want := range map[string]string{
		"https://other.example/payments/..%2fpublic": "encodes a delimiter", "https://other.example//payments": "empty segment",
		"https://a..b/": "the Host field is not host:port", "https://other.example/pay ments": "no request",
	} {
		if code, out := command(t, "routes", "-c", file, "POST", target); code != 1 || !strings.Contains(out, want) {
			t.Errorf("%s: %d %s, want %q", target, code, out, want)
		}
	}
	loose := writeFile(t, routesFile+"ambiguous_paths: allow\n")
	if code, out := command(t, "routes", "-c", loose, "POST", "https://other.example/payments/..%2fpublic#x"); code != 0 ||
		!strings.Contains(out, "->  (everything else)") {
		t.Errorf("%d %s", code, out)
	}
	for _, args := range [][]string{{"POST"}, {"POST", "/payments"}, {"POST", "::"}} {
		if code, out := command(t, append([]string{"routes", "-c", file}, args...)...); code != 2 {
			t.Errorf("%v: %d %s", args, code, out)
		}
	}
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	if code, out := command(t, "check", "-c", writeFile(t, routesFile)); code != 0 || out != "" {
		t.Errorf("%d %s", code, out)
	}
	code, out := command(t, "check", "-c", writeFile(t, routesFile+"on_duplicate: reject\n"))
	if code != 0 || !strings.Contains(out, "idemproxy: warning: ") || !strings.Contains(out, "idemproxy.yaml:12: on_duplicate: does nothing") {
		t.Errorf("a warning: %d %s", code, out)
	}
	for text, want := range map[string]string{
		strings.Replace(routesFile, "1m", "1x", 1):                                 `idemproxy.yaml:9: lock_ttl: "1x" is not a duration`,
		strings.Replace(routesFile, "require_key", "require_keys", 1):              "idemproxy.yaml:8",
		strings.Replace(routesFile, "path: /payments/refunds", "retention: 2h", 1): `idemproxy.yaml:10: route: "refunds"`,
		routesFile + "  - name: again\n    path: /payments/refunds\n":              "matches the same requests",
		strings.Replace(routesFile, "127.0.0.1:9000", "x:0", 1):                    `idemproxy.yaml:1: backend: "http://x:0"`,
		routesFile + "key_format: UUID\n":                                          `idemproxy.yaml:12: key_format: "UUID" takes a single key`,
		routesFile + "secret_file: /nonexistent\n":                                 "idemproxy.yaml:12: secret_file: ",
		routesFile + "heartbeat: 29s\n":                                            "heartbeat",
	} {
		code, out := command(t, "check", "-c", writeFile(t, text))
		if (want == "") != (code == 0) || !strings.Contains(out, want) {
			t.Errorf("%s\n%d %s, want %q", text, code, out, want)
		}
	}
}
