package test_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A proxy whose log nobody reads any more goes on: what it executes is answered and stored,
// and it ends when it is asked to.
func TestALogThatNobodyReads(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, backendtest.OK)
	p := startWithPipe(t, b.URL())
	if err := p.read.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		resp, err := p.try("/pay", "k")
		if err != nil || resp.status != 200 {
			t.Fatalf("%d, %v", resp.status, err)
		}
	}
	if n := b.Executions("k"); n != 1 {
		t.Errorf("%d executions", n)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// A proxy whose log is not read, though somebody could, goes on as well.
func TestALogWhoseReaderStandsStill(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, backendtest.OK)
	p := startWithPipe(t, b.URL())
	for i := range 2 * (64 << 10) / 300 { // a pipe has 64 KiB, and a line some 300 bytes
		if resp, err := p.try("/pay", fmt.Sprint("k", i)); err != nil || resp.status != 200 {
			t.Fatalf("request %d: %d, %v", i, resp.status, err)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil { // though nobody reads
		t.Errorf("it ended with %v", err)
	}
}

// piped is a proxy whose log is a pipe.
type piped struct {
	*process
	read *os.File
}

// startWithPipe starts a proxy, and reads its log until it serves.
func startWithPipe(t *testing.T, backend string) *piped {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = read.Close() })
	cmd := exec.CommandContext(t.Context(), binary, "--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0",
		"--store", "embedded:"+t.TempDir(), "--backend", backend)
	cmd.Stdout, cmd.Stderr = write, write
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	for lines := bufio.NewScanner(read); lines.Scan(); {
		if _, rest, ok := strings.Cut(lines.Text(), `"event":"started"`); ok {
			_, rest, _ = strings.Cut(rest, `"listen":"`)
			address, _, _ := strings.Cut(rest, `"`)
			return &piped{&process{t: t, cmd: cmd, url: "http://" + address}, read}
		}
	}
	t.Fatal("the proxy does not start")
	return nil
}
