package model_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// table is the part of the model that is the code's: the transition table.
func table(proxies, attempts int) string {
	states := []string{"ABSENT", "IN_PROGRESS", "COMPLETED", "UNKNOWN", "LAPSED"} // in the order of idem.State
	events := []string{"ACQUIRE", "RENEW", "COMPLETE", "RELEASE", "HOLDS"}        // in the order of idem.Event
	verdicts := map[idem.Verdict]string{
		idem.VerdictAcquired: "V_ACQUIRED", idem.VerdictYours: "V_YOURS", idem.VerdictInProgress: "V_IN_PROGRESS",
		idem.VerdictCompleted: "V_COMPLETED", idem.VerdictUnknown: "V_UNKNOWN", idem.VerdictOK: "V_OK", idem.VerdictLost: "V_LOST",
	}
	var b strings.Builder
	define := func(name string, value int) { fmt.Fprintf(&b, "#define %s %d\n", name, value) }
	for i, s := range states {
		define(s, i)
	}
	for i, e := range events {
		define(e, i)
	}
	define("EVENTS", len(events))
	for v, name := range verdicts {
		define(name, int(v))
	}
	define("HOLDER", int(idem.Holder))
	define("STRANGER", int(idem.Stranger))
	b.WriteString("inline transition(s, e, w) {\n    if\n")
	for s := range states {
		for e := range events {
			for _, who := range []idem.Who{idem.Holder, idem.Stranger} {
				to, verdict := idem.Next(idem.State(s), idem.Event(e), who, idem.SamePayload)
				fmt.Fprintf(&b, "    :: s == %s && e == %s && w == %d -> to = %s; verdict = %s\n",
					states[s], events[e], who, states[to], verdicts[verdict])
			}
		}
	}
	b.WriteString("    fi\n}\n#define DELIVERIES")
	for token := range proxies * attempts {
		for _, e := range events {
			fmt.Fprintf(&b, " \\\n    :: STRAY(%d, %s) \\\n    :: CURRENT(%d, %s)", token, e, token, e)
		}
	}
	b.WriteString("\n#define PAUSES")
	for token := range proxies * attempts {
		fmt.Fprintf(&b, " \\\n    :: PAUSE(%d)", token)
	}
	fmt.Fprintf(&b, "\n#define PROXIES %d\n#define ATTEMPTS %d\n", proxies, attempts)
	return b.String()
}

// check has Spin search every reachable state. It returns how many there were and
// what was violated, if anything.
func check(t *testing.T, proxies int, defines ...string) (states, violated string) {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile("idempotency.pml")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"idempotency.pml": string(text), "table.pml": table(proxies, 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	if _, err := exec.LookPath("spin"); err != nil {
		t.Fatal("this test needs spin and gcc on PATH: `make test` installs them, or apt-get install spin gcc")
	}
	args := []string{"-a"}
	for _, d := range defines {
		args = append(args, "-D"+d)
	}
	run("spin", append(args, "idempotency.pml")...)
	run("gcc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=8192", "-o", "pan", "pan.c")
	out := run("./pan", "-m1000000")
	found := regexp.MustCompile(`(?m)^pan:\d+: (.*)`).FindStringSubmatch(out)
	if found != nil {
		violated = found[1]
	}
	count := regexp.MustCompile(`([\d.e+]+) states, stored`).FindStringSubmatch(out)
	if count == nil || violated == "" && (!strings.Contains(out, "errors: 0") || strings.Contains(out, "Search not completed")) {
		t.Fatalf("spin did not search everything:\n%s", out)
	}
	return count[1], violated
}

// TestModel: none of the assertions of the model can be violated, whatever
// happens when.
func TestModel(t *testing.T) {
	t.Parallel()
	proxies := 2
	if text := os.Getenv("MODEL_PROXIES"); text != "" {
		var err error
		if proxies, err = strconv.Atoi(text); err != nil {
			t.Fatalf("MODEL_PROXIES: %v", err)
		}
	}
	for _, defines := range [][]string{{}, {"HOLD"}, {"LOSS"}, {"HOLD", "LOSS"}} {
		t.Run(strings.Join(append([]string{"model"}, defines...), " "), func(t *testing.T) {
			t.Parallel()
			states, violated := check(t, proxies, defines...)
			if violated != "" {
				t.Errorf("violated: %s", violated)
				return
			}
			t.Logf("figure: %s states, no violation", states)
		})
	}
}

// TestModelSees: each of these mistakes is found, and by the assertion that is
// there for it.
func TestModelSees(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		defines []string
		want    string
	}{
		{[]string{"BUG_NO_OWNER"}, "lastGrant"},
		{[]string{"BUG_NO_CONFIRM"}, "owner==t"},
		{[]string{"BUG_OWN_CLOCK"}, "owner==t"},
		{[]string{"BUG_FAIL_OPEN"}, "owner==t"},
		{[]string{"BUG_RESEND"}, "charged"},
		{[]string{"HOLD", "BUG_LAPSE_FREES"}, "charged"},
	} {
		t.Run(strings.Join(c.defines, " "), func(t *testing.T) {
			t.Parallel()
			if _, violated := check(t, 2, c.defines...); !strings.Contains(violated, c.want) {
				t.Errorf("violated: %q, want the assertion about %s", violated, c.want)
			} else {
				t.Logf("figure: found: %s", violated)
			}
		})
	}
}
