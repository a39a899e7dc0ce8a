package test_test

import (
	"bufio"
	"encoding/json"
	"syscall"
	"testing"
)

// Who manages the proxy may have it reload as soon as it runs. A SIGHUP that comes before
// it is ready ended the process, which had not asked for the signal yet. It is obeyed once
// the proxy is ready.
func TestHangUpWhileStarting(t *testing.T) {
	t.Parallel()
	cmd := execCommand(t, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", "embedded:"+t.TempDir(), "--backend", "http://127.0.0.1:9")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var events []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		var line struct{ Event string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		if events = append(events, line.Event); len(events) == 1 && line.Event != "started" { // it is starting
			_ = cmd.Process.Signal(syscall.SIGHUP)
		}
		if line.Event == "reloaded" {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v after %v", err, events)
	}
}
