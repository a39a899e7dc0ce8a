package dbtest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Bouncer starts a PgBouncer in front of p, with a pool_mode and so many connections
// to p, and returns its address.
func (p *Postgres) Bouncer(tb testing.TB, mode string, conns int) (addr string) {
	tb.Helper()
	program := find(tb, "pgbouncer", "pgbouncer", "/usr/sbin")
	dir, as := home(tb, "postgres")
	port := freePort(tb)
	file := filepath.Join(dir, "ini")
	text := fmt.Sprintf("[databases]\npostgres = host=127.0.0.1 port=%d user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"+
		"listen_port = %d\nunix_socket_dir =\nauth_type = any\npool_mode = %s\ndefault_pool_size = %d\nmax_client_conn = 500\n",
		p.port, port, mode, conns)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // it has no secret, and another user reads it
		tb.Fatal(err)
	}
	cmd := command(dir, as, program, file)
	log, err := os.Create(filepath.Join(dir, "log")) //nolint:gosec // in a directory of the test's own
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	ended := wait(cmd)
	tb.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
	})
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = conn.Close()
			return addr
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			tb.Fatalf("PgBouncer does not start: %v\n%s", err, said)
		}
	}
}
