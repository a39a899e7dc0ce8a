//go:build failpoints

package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]act{
		"end":           {kind: "end"},
		"fail@2":        {kind: "fail", after: 1},
		"fail:6":        {kind: "fail", times: 6},
		"pause:50ms@10": {kind: "pause", pause: 50 * time.Millisecond, after: 9},
	} {
		want.text, want.times = text, max(want.times, 1)
		if a, err := parse(text); err != nil || *a != want {
			t.Errorf("%s: %+v %v", text, a, err)
		}
	}
	for _, text := range []string{"", "die", "fail@0", "fail@x", "pause", "pause:1h", "pause:-1s", "end:1s", "fail:0", "fail:x"} {
		if a, err := parse(text); err == nil {
			t.Errorf("%q is taken for %+v", text, a)
		}
	}
	if _, err := load("here=nothing", ""); err == nil {
		t.Error("an act that does not exist is accepted")
	}
}

// Each act comes once, at its count, and both it and the first time at a point are logged.
func TestActsOnceAndSaysSo(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	s, err := load("a=fail@2,b=pause:1ms,c=fail:2", log)
	if err != nil {
		t.Fatal(err)
	}
	var failures []int
	twice := 0
	for i := range 4 {
		if err := s.reach("a"); errors.Is(err, ErrFailed) {
			failures = append(failures, i)
		}
		if err := s.reach("b"); err != nil {
			t.Error(err)
		}
		if s.reach("c") != nil {
			twice++
		}
	}
	if twice != 2 {
		t.Errorf("c failed %d times, want 2", twice)
	}
	if len(failures) != 1 || failures[0] != 1 {
		t.Errorf("a failed at %v, want at 1", failures)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		lines = append(lines, strings.Join(words[:min(len(words), 3)], " "))
	}
	if got, want := strings.Join(lines, "; "), "reached a; reached b; acts b pause:1ms; reached c; acts c fail:2; acts a fail@2; acts c fail:2"; got != want {
		t.Errorf("logged: %s\nwant: %s", got, want)
	}
}

// A process ends as by kill -9.
func TestEnds(t *testing.T) {
	t.Parallel()
	if os.Getenv("PROXY_FAILPOINTS") != "" {
		defer t.Error("it lives on")
		Reach("here")
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestEnds$")
	cmd.Env = append(os.Environ(), "PROXY_FAILPOINTS=here=end")
	out, err := cmd.CombinedOutput()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v: %s", err, out)
	}
}
