package test_test

import (
	"bufio"
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
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0",
		"--store", "embedded:"+t.TempDir(), "--backend", b.URL())
	cmd.Stdout, cmd.Stderr = write, write
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	var url string
	for lines := bufio.NewScanner(read); url == "" && lines.Scan(); {
		if _, rest, ok := strings.Cut(lines.Text(), `"event":"started"`); ok {
			_, rest, _ = strings.Cut(rest, `"listen":"`)
			address, _, _ := strings.Cut(rest, `"`)
			url = "http://" + address
		}
	}
	if err := read.Close(); err != nil || url == "" {
		t.Fatalf("the proxy does not start: %v", err)
	}
	p := &process{t: t, cmd: cmd, url: url}
	for range 3 {
		resp, err := p.try("/pay", "k")
		if err != nil || resp.status != 200 {
			t.Fatalf("%d, %v", resp.status, err)
		}
	}
	if n := b.Executions("k"); n != 1 {
		t.Errorf("%d executions", n)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
