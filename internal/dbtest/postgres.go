package dbtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is a PostgreSQL server that can be stopped, killed and followed. Whoever
// reaches its port is its superuser, postgres.
type Postgres struct {
	Addr string

	tb       testing.TB
	bin      string // where its programs are
	dir      string
	data     string
	port     int
	as       *syscall.Credential
	settings []string
	env      []string
	initdb   []string // more arguments of that program
	cmd      *exec.Cmd
	ended    chan struct{}

	small     string // a file system of its own that can be filled, or none
	smallSize uint64
}

// StartPostgres starts one. Settings are name=value; fsync is off unless they say
// otherwise, which loses nothing when processes are killed.
func StartPostgres(tb testing.TB, settings ...string) *Postgres {
	tb.Helper()
	return StartPostgresEnv(tb, nil, settings...)
}

// StartPostgresEnv is StartPostgres with more in the server's environment.
func StartPostgresEnv(tb testing.TB, env []string, settings ...string) *Postgres {
	tb.Helper()
	return startPostgres(tb, env, func(*Postgres) {}, settings...)
}

// startPostgres has the server's directory be furnished before anything is in it.
func startPostgres(tb testing.TB, env []string, furnish func(*Postgres), settings ...string) *Postgres {
	tb.Helper()
	initdb := find(tb, "initdb", "postgresql", "/usr/lib/postgresql/*/bin")
	dir, as := home(tb, "postgres")
	p := &Postgres{
		tb: tb, bin: filepath.Dir(initdb), env: env, dir: dir, data: filepath.Join(dir, "data"), as: as,
		settings: append([]string{
			"fsync=off", "shared_buffers=32MB", "max_connections=500", "autovacuum=off", "wal_level=replica", "max_wal_senders=4",
		}, settings...),
	}
	furnish(p)
	run(tb, dir, as, initdb, append(p.initdb, "-D", p.data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")...)
	p.begin()
	return p
}

// begin starts it for the first time, on a port that is free.
func (p *Postgres) begin() {
	p.tb.Helper()
	p.tb.Cleanup(p.Kill)
	for range 5 {
		p.port = freePort(p.tb)
		p.Addr = fmt.Sprintf("127.0.0.1:%d", p.port)
		p.launch()
		if p.await() {
			return
		}
		p.Kill()
	}
	p.tb.Fatalf("PostgreSQL does not start: %s", p.Log())
}

// Log is what the server says.
func (p *Postgres) Log() string {
	text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	return string(text)
}

func (p *Postgres) launch() {
	p.tb.Helper()
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		p.tb.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	args := []string{
		"-D", p.data, "-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
	}
	for _, s := range p.settings {
		args = append(args, "-c", s)
	}
	p.cmd = command(p.dir, p.as, filepath.Join(p.bin, "postgres"), args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(p.cmd.Env, p.env...)
	if err := p.cmd.Start(); err != nil {
		p.tb.Fatal(err)
	}
	p.ended = wait(p.cmd)
}

// await says whether the server serves before it ends.
func (p *Postgres) await() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, p.URL("postgres"))
		if err == nil {
			return conn.Close(ctx) == nil
		}
		select {
		case <-p.ended:
			return false
		case <-ctx.Done():
			return false
		case <-time.After(20 * time.Millisecond): // another process's doing
		}
	}
}

// URL is a database's.
func (p *Postgres) URL(database string) string {
	return "postgres://postgres@" + p.Addr + "/" + database
}

// Do runs statements one after the other in a connection of its own, and returns the
// first column of the first row of the last one, as text.
func (p *Postgres) Do(statements ...string) string {
	p.tb.Helper()
	text, err := p.Try(statements...)
	if err != nil {
		p.tb.Fatalf("%s: %v", statements, err)
	}
	return text
}

// Try is Do for what may fail.
func (p *Postgres) Try(statements ...string) (text string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	config, err := pgx.ParseConfig(p.URL("postgres"))
	if err != nil {
		return "", err //nolint:wrapcheck // a test's
	}
	config.RuntimeParams["statement_timeout"] = "0" // a test may set one for others, and takes it back so
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return "", err //nolint:wrapcheck // a test's
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range statements {
		results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		if err != nil || len(results) == 0 {
			return "", err //nolint:wrapcheck // a test's
		}
		text = ""
		if rows := results[len(results)-1].Rows; len(rows) > 0 {
			text = string(rows[0][0])
		}
	}
	return text, nil
}

// Kill ends all its processes at once, as a machine does that loses power but for
// what the kernel has not written.
func (p *Postgres) Kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	select {
	case <-p.ended:
		return
	default:
	}
	family := p.family()
	for _, pid := range family {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.ended
	for _, pid := range family[1:] {
		for i := 0; i < 500 && syscall.Kill(pid, 0) == nil; i++ {
			time.Sleep(10 * time.Millisecond) // it is on its way
		}
	}
}

// family are the server's processes, the first one first.
func (p *Postgres) family() []int {
	pid := p.cmd.Process.Pid
	all := []int{pid}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return all
	}
	for field := range strings.FieldsSeq(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			all = append(all, child)
		}
	}
	return all
}

// Stop has it end: with SIGINT it rolls back what is under way and ends.
func (p *Postgres) Stop() {
	p.tb.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.tb.Fatal("PostgreSQL does not stop")
	}
}

// Restart starts it again, where it was.
func (p *Postgres) Restart() {
	p.tb.Helper()
	_ = os.Remove(filepath.Join(p.data, "postmaster.pid"))
	p.launch()
	if !p.await() {
		p.tb.Fatalf("PostgreSQL does not start again: %s", p.Log())
	}
}

// Stall stops its processes until resume: it neither answers nor hangs up.
func (p *Postgres) Stall() (resume func()) {
	family := p.family()
	for _, pid := range family {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	return func() {
		for _, pid := range family {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
}

// Standby starts a server that follows p, under a name which p's
// synchronous_standby_names may have.
func (p *Postgres) Standby(tb testing.TB, name string) *Postgres {
	tb.Helper()
	dir, as := home(tb, "postgres")
	s := &Postgres{tb: tb, bin: p.bin, dir: dir, data: filepath.Join(dir, "data"), as: as, settings: p.settings}
	s.copyFrom(p, name)
	s.begin()
	return s
}

// Follow has a server that has ended come back, where it was, as a standby of
// another one.
func (p *Postgres) Follow(primary *Postgres, name string) {
	p.tb.Helper()
	if err := os.RemoveAll(p.data); err != nil {
		p.tb.Fatal(err)
	}
	p.copyFrom(primary, name)
	p.Restart()
}

// copyFrom takes what a primary has, and is to follow it.
func (p *Postgres) copyFrom(primary *Postgres, name string) {
	p.tb.Helper()
	run(p.tb, p.dir, p.as, filepath.Join(p.bin, "pg_basebackup"), "-D", p.data, "-X", "stream", "-c", "fast", "--no-sync",
		"-d", fmt.Sprintf("postgres://postgres@%s/postgres", primary.Addr))
	for file, text := range map[string]string{
		"standby.signal": "",
		"postgresql.auto.conf": fmt.Sprintf("primary_conninfo = 'host=127.0.0.1 port=%d user=postgres application_name=%s'\n"+
			"wal_retrieve_retry_interval = '50ms'\n", primary.port, name),
	} {
		path := filepath.Join(p.data, file)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			p.tb.Fatal(err)
		}
		if p.as != nil {
			if err := os.Chown(path, int(p.as.Uid), int(p.as.Gid)); err != nil {
				p.tb.Fatal(err)
			}
		}
	}
}

// Promote has a standby become a primary.
func (p *Postgres) Promote() {
	p.tb.Helper()
	p.Do("SELECT pg_promote(true, 60)")
}

// Secure has the server take TLS, with a certificate.
func (p *Postgres) Secure(cert, key string) {
	p.tb.Helper()
	for from, name := range map[string]string{cert: "server.crt", key: "server.key"} {
		text, err := os.ReadFile(from) //nolint:gosec // a test's
		if err != nil {
			p.tb.Fatal(err)
		}
		to := filepath.Join(p.data, name)
		if err := os.WriteFile(to, text, 0o600); err != nil { //nolint:gosec // likewise
			p.tb.Fatal(err)
		}
		if p.as != nil {
			if err := os.Chown(to, int(p.as.Uid), int(p.as.Gid)); err != nil {
				p.tb.Fatal(err)
			}
		}
	}
	p.Do("ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
}
