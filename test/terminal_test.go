package test_test

import (
	"os/exec"
	"strings"
	"testing"
)

// On a terminal, a person is asked before a key is released or forgotten, and of which
// proxy; elsewhere, and with --yes, nobody is.
func TestChangesAskOnATerminal(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	p := start(t, "--store", "embedded:"+t.TempDir(), "--backend", o.url())
	at := strings.TrimPrefix(p.adminURL, "http://")
	p.expect("/", "k", 200, false)
	onTerminal := func(typed string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "script", "-qec", binary+" "+strings.Join(args, " ")+" --admin "+at, "/dev/null")
		cmd.Stdin = strings.NewReader(typed)
		out, _ := cmd.CombinedOutput() // it ends as the command does
		return string(out)
	}
	if out := onTerminal("n\n", "purge", "k"); !strings.Contains(out, at+" (--admin). [y/N]") || !strings.Contains(out, "nothing was done") {
		t.Errorf("no: %s", out)
	}
	p.expect("/", "k", 200, true)
	if out := onTerminal("y\n", "purge", "k"); !strings.Contains(out, "k is forgotten") {
		t.Errorf("yes: %s", out)
	}
	if out := onTerminal("n\n", "release", "k"); !strings.Contains(out, "Release k?") || !strings.Contains(out, "nothing was done") {
		t.Errorf("release: %s", out)
	}
	if out := onTerminal("", "purge", "k", "--yes"); strings.Contains(out, "[y/N]") || !strings.Contains(out, "no record of this key") {
		t.Errorf("--yes: %s", out)
	}
	if code, out := p.operate("release", "k"); code != 1 || strings.Contains(out, "[y/N]") || !strings.Contains(out, "no record of this key") {
		t.Errorf("%d %s", code, out)
	}
}
