package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// errNoPostgres has the rows of PostgreSQL say that it is not installed.
var errNoPostgres = errors.New("PostgreSQL is not installed")

// postgresURL is a server's that the first who asks starts, and that ends with the
// stage. Commits reach the disk before they are answered, as they do unless somebody
// says otherwise.
func (s *stage) postgresURL(ctx context.Context) (string, error) {
	if s.postgres != "" {
		return s.postgres, nil
	}
	server, err := s.newPostgres()
	if err != nil {
		return "", err
	}
	if err := server.initialize(ctx); err != nil {
		return "", err
	}
	if err := s.serve(ctx, server); err != nil {
		return "", err
	}
	s.postgres = server.url()
	return s.postgres, nil
}

// standbyURL is likewise of a server whose commits also reach the disk of a standby before
// they are answered.
func (s *stage) standbyURL(ctx context.Context) (string, error) {
	if s.withStandby != "" {
		return s.withStandby, nil
	}
	primary, err1 := s.newPostgres()
	standby, err2 := s.newPostgres()
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	if err := primary.initialize(ctx); err != nil {
		return "", err
	}
	if err := s.serve(ctx, primary); err != nil {
		return "", err
	}
	if err := standby.program(ctx, "pg_basebackup", "-R", "-c", "fast", "-D", standby.data, "-d", primary.url()); err != nil {
		return "", err
	}
	if err := s.serve(ctx, standby); err != nil {
		return "", err
	}
	// From here on the primary does not answer a commit without the standby: this one shows that it takes part.
	for _, statement := range []string{
		"ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()", "CREATE TABLE shown ()",
	} {
		if err := primary.program(ctx, "psql", "-q", "-d", primary.url(), "-c", statement); err != nil {
			return "", err
		}
	}
	s.withStandby = primary.url()
	return s.withStandby, nil
}

// postgresServer is where a server is, or is to be.
type postgresServer struct {
	bin, dir, data string
	port           int
	as             *syscall.Credential
}

func (p *postgresServer) url() string {
	return "postgres://postgres@" + local(p.port) + "/postgres?sslmode=disable"
}

func (s *stage) newPostgres() (*postgresServer, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return nil, errNoPostgres
	}
	dir, err := os.MkdirTemp("", "idemproxy-bench-postgres") // not in the stage's, which that user cannot reach
	if err != nil {
		return nil, fmt.Errorf("a directory: %w", err)
	}
	s.closing = append(s.closing, func() { _ = os.RemoveAll(dir) })
	as, err := postgresUser(dir)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	return &postgresServer{filepath.Dir(found[len(found)-1]), dir, filepath.Join(dir, "data"), port, as}, err
}

func (p *postgresServer) initialize(ctx context.Context) error {
	return p.program(ctx, "initdb", "-D", p.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
}

// program runs one of PostgreSQL's as the server's user.
func (p *postgresServer) program(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...) //nolint:gosec // ours
	cmd.Dir, cmd.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: p.as}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// serve starts a server that ends with the stage.
func (s *stage) serve(ctx context.Context, p *postgresServer) error {
	server := exec.CommandContext(ctx, filepath.Join(p.bin, "postgres"), //nolint:gosec // ours
		"-D", p.data, "-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "max_connections=200",
		"-c", "shared_buffers=256MB", "-c", "log_min_messages=fatal")
	server.Dir, server.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: p.as, Pdeathsig: syscall.SIGQUIT}
	if err := server.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	s.closing = append(s.closing, func() {
		_ = server.Process.Signal(syscall.SIGQUIT) // its children with it
		_ = server.Wait()
	})
	return serves(ctx, filepath.Join(p.bin, "pg_isready"), p.port)
}

// postgresUser is whom PostgreSQL runs as, which root it does not; dir becomes that user's.
func postgresUser(dir string) (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // as this process
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL's user: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	err = errors.Join(err1, err2)
	if err == nil {
		err = os.Chown(dir, int(uid), int(gid))
	}
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL's user: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// serves waits until the server takes connections.
func serves(ctx context.Context, ready string, port int) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		if exec.CommandContext(ctx, ready, "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(port)).Run() == nil { //nolint:gosec // ours
			return nil
		}
	}
	return errors.New("PostgreSQL does not serve")
}
