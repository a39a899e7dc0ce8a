package receipts_test

import (
	"bufio"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the database of an example

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/receipt"
)

const examples = "../../docs/examples/receipts"

// kit is an example of a backend.
type kit struct {
	file    string
	program string   // what is run, if it is not the file
	command []string // that runs it; none: the test serves its statements
	probe   string
	pkg     string
	dialect receipt.Dialect
}

func kits() []kit {
	return []kit{
		{file: "receipts_sqlite.py", command: []string{"python3"}, probe: "import sqlite3", pkg: "python3", dialect: receipt.SQLite},
		{file: "receipts_psycopg.py", command: []string{"python3", "/usr/bin/python3"}, probe: "import psycopg", pkg: "python3-psycopg", dialect: receipt.PostgreSQL},
		{file: "receipts_pg.js", command: []string{"node", "/usr/bin/nodejs"}, probe: "require('pg')", pkg: "node-pg", dialect: receipt.PostgreSQL},
		{file: "receipts.sql", dialect: receipt.PostgreSQL},
	}
}

// running is a kit at work, and its database.
type running struct {
	kit

	t   *testing.T
	url string
	db  *sql.DB
}

// TestKits holds each example to the same cases, in databases of their own.
func TestKits(t *testing.T) {
	t.Parallel()
	postgresql := dbtest.PostgreSQL(t)
	for _, k := range kits() {
		t.Run(k.file, func(t *testing.T) {
			t.Parallel()
			for name, run := range cases() {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					run(k.start(t, postgresql))
				})
			}
		})
	}
}

// What is to be copied of each example has sixty lines at most, and the page names it.
func TestKitsAreShort(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(examples, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{"README.md": true}
	for _, k := range kits() {
		tested[k.file] = true
	}
	files, err := os.ReadDir(examples)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(examples, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		kit, api, _ := strings.Cut(string(text), "The API that uses it")
		if n, rest := strings.Count(kit, "\n"), strings.Count(api, "\n"); (n > 60 || rest > 30) && file.Name() != "README.md" {
			t.Errorf("%s has %d lines to copy, and %d that use them", file.Name(), n, rest)
		}
		if !tested[file.Name()] || file.Name() != "README.md" && !strings.Contains(string(page), "]("+file.Name()+")") {
			t.Errorf("%s has no test, or README.md does not name it", file.Name())
		}
	}
}

const atMost = time.Minute

func (k kit) start(t *testing.T, postgresql *dbtest.Server) *running {
	t.Helper()
	r := &running{kit: k, t: t}
	driver, dsn, variable, id := "sqlite", filepath.Join(t.TempDir(), "db"), "DATABASE=", "INTEGER PRIMARY KEY"
	open := dsn + "?_pragma=busy_timeout(60000)"
	if k.dialect == receipt.PostgreSQL {
		dsn = postgresql.Database(t)
		driver, open, variable, id = postgresql.Driver, dsn, "DATABASE_URL=", "SERIAL PRIMARY KEY"
	}
	var err error
	if r.db, err = sql.Open(driver, open); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.db.Close() })
	r.exec(k.dialect.Migration())
	r.exec("CREATE TABLE payments (id " + id + ", amount INTEGER CHECK (amount < 1000))")
	if k.command == nil {
		r.url = serveStatements(t, r.db, filepath.Join(examples, k.file))
		return r
	}
	r.launch(variable + dsn)
	return r
}

func (r *running) exec(query string) {
	r.t.Helper()
	if _, err := r.db.ExecContext(r.t.Context(), query); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) count(query string) (n int) {
	r.t.Helper()
	if err := r.db.QueryRowContext(r.t.Context(), query).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// payments wants so many.
func (r *running) payments(want int) {
	r.t.Helper()
	if n := r.count("SELECT COUNT(*) FROM payments"); n != want {
		r.t.Errorf("%d payments, want %d", n, want)
	}
}

// environ has Debian's modules where another node than Debian's finds them.
func environ() []string {
	unpacked, _ := filepath.Abs("../../bin/node/usr/share/nodejs")
	return append(os.Environ(), "NODE_PATH="+unpacked+":/usr/share/nodejs", "RECEIPTS_SECRET="+secret)
}

const secret = "s3cret"

// canRun says that an interpreter has what the kit imports.
func (k kit) canRun(t *testing.T) bool { return k.found(t) != "" }

// found is the first interpreter that has what the kit imports; empty for none.
func (k kit) found(t *testing.T) string {
	t.Helper()
	for _, name := range k.command {
		flag := map[bool]string{true: "-c", false: "-e"}[strings.Contains(name, "python")]
		cmd := exec.CommandContext(t.Context(), name, flag, k.probe)
		cmd.Env = environ()
		if cmd.Run() == nil {
			return name
		}
	}
	return ""
}

// interpreter is found, and fails the test if there is none.
func (r *running) interpreter() string {
	r.t.Helper()
	if name := r.found(r.t); name != "" {
		return name
	}
	if testing.Short() {
		r.t.Skipf("nothing runs %q", r.probe)
	}
	r.t.Fatalf("nothing runs %q: install the package %s (make test does)", r.probe, r.pkg)
	return ""
}

// launch runs the kit until it serves, on another port if somebody was faster.
func (r *running) launch(database string) {
	r.t.Helper()
	program, path := r.interpreter(), cmp.Or(r.program, filepath.Join(examples, r.file))
	var said string
	for range 5 {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
		if err != nil {
			r.t.Fatal(err)
		}
		addr := ln.Addr().String()
		_ = ln.Close()
		log, err := os.Create(filepath.Join(r.t.TempDir(), "log"))
		if err != nil {
			r.t.Fatal(err)
		}
		cmd := exec.CommandContext(context.Background(), program, path)
		_, port, _ := net.SplitHostPort(addr)
		cmd.Env = append(environ(), database, "PORT="+port)
		cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			r.t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = cmd.Wait() }()
		r.t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-ended
			if text, _ := os.ReadFile(log.Name()); r.t.Failed() {
				r.t.Logf("%s said: %s", r.file, text)
			}
		})
		if r.url = "http://" + addr; serves(addr, ended) {
			return
		}
		text, _ := os.ReadFile(log.Name())
		said = string(text)
	}
	r.t.Fatalf("%s does not start: %s", r.file, said)
}

func serves(addr string, ended <-chan struct{}) bool {
	for {
		if c, err := net.Dial("tcp", addr); err == nil { //nolint:noctx // a test
			_ = c.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(10 * time.Millisecond): // another process's doing
		}
	}
}

// statements are those of a file, by the names in the comments before them.
func statements(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	all, name := map[string]string{}, ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if comment, is := strings.CutPrefix(line, "-- "); is {
			name, _ = strings.CutSuffix(comment, ":")
		} else {
			all[name] += line + "\n"
		}
	}
	for _, name := range []string{"execute", "complete", "find", "void", "clean"} {
		if all[name] = strings.TrimSuffix(strings.TrimSpace(all[name]), ";"); all[name] == "" {
			t.Fatal(fmt.Errorf("%s has no statement %s", file, name))
		}
	}
	return all
}
