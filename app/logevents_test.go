package app_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/golden"
	"github.com/idemproxy/idemproxy/proxy"
)

// TestEventsDocument keeps docs/reference/events.md in step with the code.
func TestEventsDocument(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# Log events, outcomes, endings\n\nPrinted from packages `app`, `proxy` and `idem` by `make docs`; do not edit. " +
		"Logs go to stderr, a line of JSON each\n(`log_format`). Every line has `level`, `time` and `event`, most have `message`, and `error` " +
		"says what failed. A key is named by its\ndigest, which `idemproxy inspect` and `idemproxy tail` take; at level debug also by " +
		"`key_value` and `key_scope`.\n\n## Events\n\n| event | level | meaning | fields |\n| --- | --- | --- | --- |\n")
	for _, e := range app.LogEvents() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", e.Name, e.Level, e.Means, e.Fields)
	}
	b.WriteString("\n## Outcomes\n\nEvery request has one: `outcome` in its line, in `idemproxy_requests_total` and in `idemproxy tail`.\n\n" +
		"| outcome | answer |\n| --- | --- |\n")
	for _, o := range proxy.Outcomes() {
		if o.Means() == "" {
			t.Errorf("outcome %s has no meaning", o)
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", o, o.Means())
	}
	b.WriteString("\n## Endings\n\nHow an execution ended in the store: `ending` in the line of a request that was forwarded under a lease.\n\n" +
		"| ending | meaning |\n| --- | --- |\n")
	for e := idem.Open; e <= idem.Deferred; e++ {
		if e.Means() == "" {
			t.Errorf("ending %s has no meaning", e)
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", e, e.Means())
	}
	golden.Check(t, "../docs/reference/events.md", b.String())
}

// What is logged is in the list, and what is in the list is logged.
func TestEveryEventIsListed(t *testing.T) {
	t.Parallel()
	logged := map[string]string{}
	for _, room := range []string{"app", "rstore", "estore", "pstore", "cli", "seal", "token"} {
		files, err := filepath.Glob("../" + room + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				eventsOf(t, file, logged)
			}
		}
	}
	if len(logged) < 40 {
		t.Errorf("only %d events found", len(logged))
	}
	var listed []string
	for _, e := range app.LogEvents() {
		listed = append(listed, e.Name)
		if logged[e.Name] == "" {
			t.Errorf("%s is listed, and not logged", e.Name)
		}
	}
	for name, file := range logged {
		if !slices.Contains(listed, name) {
			t.Errorf("%s: %s is not listed in LogEvents", file, name)
		}
	}
}

// eventsOf adds the events that a file logs: Str("event", NAME), or event(LEVEL, NAME, KEY).
func eventsOf(t *testing.T, file string, to map[string]string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 2 {
			return true
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		logs := ok && (f.Sel.Name == "Str" && literal(call.Args[0]) == "event" || f.Sel.Name == "event")
		if name := literal(call.Args[1]); logs && name != "" {
			to[name] = file
		}
		return true
	})
}

func literal(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok {
		text, _ := strconv.Unquote(l.Value)
		return text
	}
	return ""
}
