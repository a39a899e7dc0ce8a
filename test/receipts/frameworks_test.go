package receipts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/receipt"
)

// TestFlask: README.md's lines for Flask, with what is copied of a kit, hold to the cases.
func TestFlask(t *testing.T) {
	t.Parallel()
	copied, _, found := strings.Cut(text(t, "receipts_sqlite.py"), "# The API that uses it")
	if !found {
		t.Fatal("receipts_sqlite.py does not say where the API begins")
	}
	program := filepath.Join(t.TempDir(), "flask_api.py")
	lines := []string{
		copied, "from flask import Flask, request", "app = Flask(__name__)", section(t, "## In Flask", "python"),
		`app.run("127.0.0.1", int(os.environ["PORT"]))`,
	}
	if err := os.WriteFile(program, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	k := kit{
		file: "README.md", program: program, command: []string{"python3", "/usr/bin/python3"},
		probe: "import flask, sqlite3", pkg: "python3-flask", dialect: receipt.SQLite,
	}
	all := cases()
	delete(all, "NotPaid") // the shorter one checks no amount
	delete(all, "Malformed")
	all["NotJSON"] = notJSON
	for name, run := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(k.start(t, nil))
		})
	}
}

// TestExpress: README.md's lines for Express, with what is copied of a kit, hold to the cases.
func TestExpress(t *testing.T) {
	t.Parallel()
	copied, _, found := strings.Cut(text(t, "receipts_pg.js"), "// The API that uses it")
	if !found {
		t.Fatal("receipts_pg.js does not say where the API begins")
	}
	program := filepath.Join(t.TempDir(), "express_api.js")
	lines := []string{
		copied, `const express = require("express"), app = express();`, section(t, "## In Express", "js"),
		`app.listen(process.env.PORT, "127.0.0.1");`,
	}
	if err := os.WriteFile(program, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	k := kit{
		file: "README.md", program: program, command: []string{"node", "/usr/bin/nodejs"},
		probe: "require('pg'); require('express')", pkg: "node-express", dialect: receipt.PostgreSQL,
	}
	if os.Getenv("EXPRESS") == "" && !k.canRun(t) {
		t.Skip("Debian's node-express brings some 240 packages: make torture installs it, make test does not")
	}
	postgresql := dbtest.PostgreSQL(t)
	all := cases()
	delete(all, "NotPaid") // the shorter one checks no amount
	delete(all, "Malformed")
	all["NotJSON"] = notJSON
	for name, run := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(k.start(t, postgresql))
		})
	}
}

// What is no JSON is refused before the transaction, and of that nobody need ask.
func notJSON(r *running) {
	for _, body := range []string{"", "{"} {
		r.is(r.send("POST", "/pay", body, named("k", "a")), said{status: 400})
	}
	r.is(r.pay("k", "a", 5), said{status: 201, outcome: receipt.OutcomeExecuted})
	r.payments(1)
}

func text(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section is the first block of code below a heading of README.md.
func section(t *testing.T, heading, language string) string {
	t.Helper()
	_, rest, _ := strings.Cut(text(t, "README.md"), heading+"\n")
	_, rest, _ = strings.Cut(rest, "```"+language+"\n")
	block, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatalf("README.md has no %s below %s", language, heading)
	}
	return block
}
