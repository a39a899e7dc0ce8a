package clients_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// build makes the product's binary.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "idemproxy")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", binary, "./cmd/proxy").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// proxy runs the product in front of a backend, and returns where it listens, and its admin listener.
func proxy(t *testing.T, binary, backend string) (url, admin string) {
	t.Helper()
	cmd := exec.Command(binary, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--backend", backend,
		"--store", "embedded:"+t.TempDir(), "--log-format", "json")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Event, Listen, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Event == "started" {
			go func() {
				for lines.Scan() { // nobody reads it, and nobody waits for that
				}
			}()
			return "http://" + line.Listen, line.Admin
		}
	}
	t.Fatal("the proxy did not start")
	return "", ""
}

// waits is how many requests wait at the proxy for another one's answer.
func waits(t *testing.T, admin string) (n float64) {
	t.Helper()
	resp, err := http.Get(admin + "/status") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var s struct{ Waiters float64 }
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s.Waiters
}

// A retry that comes while the first try still runs ends at 409 with each of these clients. With
// Prefer: wait it gets the answer of the first. The backend executes once.
func TestPreferWaitIsTheCure(t *testing.T) {
	t.Parallel()
	binary := build(t)
	for name, send := range clients() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entered, proceed := make(chan struct{}), make(chan struct{})
			var executions atomic.Int32
			backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if executions.Add(1) == 1 {
					close(entered)
				}
				<-proceed
				w.WriteHeader(http.StatusCreated)
			}))
			t.Cleanup(backend.Close)
			url, admin := proxy(t, binary, backend.URL)
			first := make(chan int)
			go func() { first <- statusOf(http.DefaultClient.Do(request(t, url, ""))) }()
			<-entered
			if status := send(t, url, ""); status != http.StatusConflict {
				t.Errorf("without Prefer it ends with %d, want 409", status)
			}
			cured := make(chan int, 1)
			go func() { cured <- send(t, url, "wait=20") }()
			for waits(t, admin) == 0 && len(cured) == 0 { // no event tells it
				time.Sleep(5 * time.Millisecond)
			}
			close(proceed)
			if status := fmt.Sprint(<-first, <-cured); status != "201 201" || executions.Load() != 1 {
				t.Errorf("the first and the retry got %s, want 201 201; %d executions", status, executions.Load())
			}
		})
	}
}
