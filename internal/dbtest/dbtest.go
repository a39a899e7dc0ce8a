// Package dbtest starts real database servers for tests: on a free port of loopback,
// in a directory of their own, ended with the test. It needs no root, and gives it up
// where it has it, since no database server runs as root.
package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the drivers by which the servers are asked
	_ "github.com/jackc/pgx/v5/stdlib"
)

// Server is one server process.
type Server struct {
	// Driver is the name that database/sql knows.
	Driver string

	dsn  string // with %s for the name of a database
	mu   sync.Mutex
	made int // guarded by mu
}

// PostgreSQL starts one. Whoever reaches its port is its superuser.
func PostgreSQL(tb testing.TB) *Server {
	tb.Helper()
	initdb := find(tb, "initdb", "postgresql", "/usr/lib/postgresql/*/bin")
	dir, as := home(tb, "postgres")
	data := filepath.Join(dir, "data")
	run(tb, dir, as, initdb, "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
	return start(tb, dir, func(port int) (*Server, *exec.Cmd) {
		return &Server{Driver: "pgx", dsn: fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%%s", port)},
			command(dir, as, filepath.Join(filepath.Dir(initdb), "postgres"), "-D", data, "-p", strconv.Itoa(port),
				"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off",
				"-c", "shared_buffers=16MB", "-c", "max_connections=200", "-c", "autovacuum=off")
	})
}

// MariaDB starts one. Whoever reaches its port can be root.
func MariaDB(tb testing.TB) *Server {
	tb.Helper()
	server := find(tb, "mariadbd", "mariadb-server", "/usr/sbin")
	install := find(tb, "mariadb-install-db", "mariadb-server", "/usr/bin")
	dir, as := home(tb, "mysql")
	data := filepath.Join(dir, "data")
	run(tb, dir, as, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db",
		"--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M")
	return start(tb, dir, func(port int) (*Server, *exec.Cmd) {
		return &Server{Driver: "mysql", dsn: fmt.Sprintf("root@tcp(127.0.0.1:%d)/%%s", port)},
			command(dir, as, server, "--no-defaults", "--datadir="+data, "--port="+strconv.Itoa(port), "--bind-address=127.0.0.1",
				"--socket="+filepath.Join(dir, "s"), "--pid-file="+filepath.Join(dir, "pid"), "--innodb-flush-log-at-trx-commit=0",
				"--innodb-log-file-size=8M", "--innodb-buffer-pool-size=16M", "--skip-name-resolve")
	})
}

// Database makes an empty database, and returns how drivers name it.
func (s *Server) Database(tb testing.TB) (dsn string) {
	tb.Helper()
	s.mu.Lock() // PostgreSQL makes one at a time
	defer s.mu.Unlock()
	s.made++
	name := fmt.Sprintf("t%d", s.made)
	db, err := s.admin()
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(context.Background(), "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf(s.dsn, name)
}

func (s *Server) admin() (*sql.DB, error) {
	name := "postgres"
	if s.Driver == "mysql" {
		name = "mysql"
	}
	return sql.Open(s.Driver, fmt.Sprintf(s.dsn, name)) //nolint:wrapcheck // a test's
}

// find is the path of a program.
func find(tb testing.TB, name, pkg, places string) string {
	tb.Helper()
	if path, err := exec.LookPath(name); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return path
		}
	}
	found, err := filepath.Glob(filepath.Join(places, name))
	if err == nil && len(found) > 0 {
		return found[len(found)-1]
	}
	if testing.Short() {
		tb.Skipf("%s is missing", name)
	}
	tb.Fatalf("%s is missing: install the package %s (make test does)", name, pkg)
	return ""
}

// home is a directory, and who owns it: nobody in particular, or for root the user
// that the server's package has made.
func home(tb testing.TB, name string) (dir string, as *syscall.Credential) {
	tb.Helper()
	dir, err := os.MkdirTemp("", "dbtest") // not tb.TempDir, which that user cannot reach
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Getuid() != 0 {
		return dir, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		tb.Fatal(err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		tb.Fatal(err)
	}
	return dir, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func command(dir string, as *syscall.Credential, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), path, args...) //nolint:gosec // a test's
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: as}
	return cmd
}

func run(tb testing.TB, dir string, as *syscall.Credential, path string, args ...string) {
	tb.Helper()
	if out, err := command(dir, as, path, args...).CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v\n%s", path, err, out)
	}
}

// start runs a server until it answers, on another port if somebody was faster.
func start(tb testing.TB, dir string, make func(port int) (*Server, *exec.Cmd)) *Server {
	tb.Helper()
	var said strings.Builder
	for range 5 {
		s, cmd := make(freePort(tb))
		log, err := os.Create(filepath.Join(dir, "log")) //nolint:gosec // in a directory of the test's own
		if err != nil {
			tb.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			tb.Fatal(err)
		}
		ended := wait(cmd)
		if s.answers(ended) {
			tb.Cleanup(func() {
				if s.Driver == "pgx" { // it ends its children at once, and then itself
					_ = cmd.Process.Signal(syscall.SIGQUIT)
					select {
					case <-ended:
						return
					case <-time.After(time.Minute):
					}
				}
				_ = cmd.Process.Kill()
				<-ended
			})
			return s
		}
		_ = cmd.Process.Kill()
		<-ended
		text, _ := os.ReadFile(log.Name())
		said.Write(text)
	}
	tb.Fatalf("the database server does not start: %s", said.String())
	return nil
}

func wait(cmd *exec.Cmd) (ended chan struct{}) {
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	return ended
}

// answers says whether the server serves before it ends.
func (s *Server) answers(ended <-chan struct{}) bool {
	db, err := s.admin()
	if err != nil {
		return false
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for db.PingContext(ctx) != nil {
		select {
		case <-ended:
			return false
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond): // another process's doing
		}
	}
	return true
}

func freePort(tb testing.TB) int {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // of a TCP listener
}
