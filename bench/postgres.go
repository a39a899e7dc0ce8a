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
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errNoPostgres
	}
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "idemproxy-bench-postgres") // not in the stage's, which that user cannot reach
	if err != nil {
		return "", fmt.Errorf("a directory: %w", err)
	}
	s.closing = append(s.closing, func() { _ = os.RemoveAll(dir) })
	as, err := postgresUser(dir)
	if err != nil {
		return "", err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, //nolint:gosec // ours
		"-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: as}
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w: %s", err, out)
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	server := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "-D", data, "-p", strconv.Itoa(port), //nolint:gosec // ours
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200",
		"-c", "shared_buffers=256MB", "-c", "log_min_messages=fatal")
	server.Dir, server.SysProcAttr = dir, &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGQUIT}
	if err := server.Start(); err != nil {
		return "", fmt.Errorf("starting PostgreSQL: %w", err)
	}
	s.closing = append(s.closing, func() {
		_ = server.Process.Signal(syscall.SIGQUIT) // its children with it
		_ = server.Wait()
	})
	url := "postgres://postgres@" + local(port) + "/postgres?sslmode=disable"
	if err := serves(ctx, filepath.Join(bin, "pg_isready"), port); err != nil {
		return "", err
	}
	s.postgres = url
	return url, nil
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
