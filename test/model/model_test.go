package model_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// The names that the model has for the code's numbers, in the code's order.
var (
	states = []string{"ABSENT", "IN_PROGRESS", "COMPLETED", "UNKNOWN", "LAPSED", "EXPIRED"}
	events = []string{"ACQUIRE", "RENEW", "COMPLETE", "RELEASE", "HOLDS", "RESOLVE_COMPLETE", "RESOLVE_RETRY", "TAKE"}
	sames  = map[idem.Same]string{
		idem.SamePayload: "SAME_PAYLOAD", idem.OtherPayload: "OTHER_PAYLOAD", idem.OtherRecipe: "OTHER_RECIPE",
	}
	verdicts = map[idem.Verdict]string{
		idem.VerdictAcquired: "V_ACQUIRED", idem.VerdictYours: "V_YOURS", idem.VerdictInProgress: "V_IN_PROGRESS",
		idem.VerdictCompleted: "V_COMPLETED", idem.VerdictMismatch: "V_MISMATCH", idem.VerdictUnknown: "V_UNKNOWN",
		idem.VerdictOK: "V_OK", idem.VerdictLost: "V_LOST", idem.VerdictNotUnknown: "V_NOT_UNKNOWN",
		idem.VerdictOtherRecipe: "V_OTHER_RECIPE", idem.VerdictExpired: "V_EXPIRED",
	}
)

// messages are what the proxies send; the last is an acquire by the other recipe.
var messages = append(slices.Clone(events[:5]), "ACQUIRE_1")

// table is the part of the model that is the code's: the transition table.
func table(proxies, attempts int) string {
	var b strings.Builder
	define := func(name string, value int) { fmt.Fprintf(&b, "#define %s %d\n", name, value) }
	vocabulary(define)
	define("ACQUIRE_1", len(events))
	define("MESSAGES", len(events)+1)
	define("PROXIES", proxies)
	define("ATTEMPTS", attempts)
	transitions(&b)
	b.WriteString("#define DELIVERIES")
	for token := range proxies * attempts {
		for _, m := range messages {
			fmt.Fprintf(&b, " \\\n    :: STRAY(%d, %s) \\\n    :: CURRENT(%d, %s)", token, m, token, m)
		}
	}
	b.WriteString("\n#define CLOCKS")
	for token := range proxies * attempts {
		fmt.Fprintf(&b, " \\\n    :: PAUSE(%d) \\\n    :: DEADLINE(%d)", token, token)
	}
	b.WriteString("\n")
	return b.String()
}

// vocabulary defines the code's words.
func vocabulary(define func(name string, value int)) {
	for i, s := range states {
		define(s, i)
	}
	for i, e := range events {
		define(e, i)
	}
	for v, name := range verdicts {
		define(name, int(v))
	}
	for same, name := range sames {
		define(name, int(same))
	}
	define("HOLDER", int(idem.Holder))
	define("STRANGER", int(idem.Stranger))
}

// transitions writes idem.Next as one choice: a line for each answer, with what it
// depends on.
func transitions(b *strings.Builder) {
	b.WriteString("inline transition(s, e, w, p) {\n    if\n")
	for s := range states {
		for e := range events {
			answers := map[string][]string{}
			for _, who := range []idem.Who{idem.Holder, idem.Stranger} {
				for same, name := range sames {
					to, verdict := idem.Next(idem.State(s), idem.Event(e), who, same)
					answer := fmt.Sprintf("to = %s; verdict = %s", states[to], verdicts[verdict])
					answers[answer] = append(answers[answer], fmt.Sprintf("w == %d && p == %s", who, name))
				}
			}
			for answer, when := range answers {
				condition := " && (" + strings.Join(when, " || ") + ")"
				if len(answers) == 1 {
					condition = ""
				}
				fmt.Fprintf(b, "    :: s == %s && e == %s%s -> %s\n", states[s], events[e], condition, answer)
			}
		}
	}
	b.WriteString("    fi\n}\n")
}

// check has Spin search every reachable state of a model, which includes what is given
// of the code as table.pml, with a program that gcc made with that flag.
func check(t *testing.T, model, table, optimise string, defines ...string) (s searched) {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(model)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{model: string(text), "table.pml": table} {
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
	run("spin", append(args, model)...)
	run("gcc", optimise, "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=8192", "-o", "pan", "pan.c")
	out := run("./pan", "-m1000000")
	found := regexp.MustCompile(`(?m)^pan:\d+: (.*)`).FindStringSubmatch(out)
	if found != nil {
		s.violated = found[1]
	}
	count := regexp.MustCompile(`([\d.e+]+) states, stored`).FindStringSubmatch(out)
	if count == nil || s.violated == "" && (!strings.Contains(out, "errors: 0") || strings.Contains(out, "Search not completed")) {
		t.Fatalf("spin did not search everything:\n%s", out)
	}
	if s.violated == "" {
		s.unreached = unreached(t, dir, out)
	}
	s.states = count[1]
	s.said = regexp.MustCompile(`(?m)^(?:row|move|call) .*$`).FindAllString(out, -1)
	return s
}

// searched is what came of a search.
type searched struct {
	states    string   // how many there are
	violated  string   // the assertion, if one is
	said      []string // of the model's automaton
	unreached []string // steps that say when they are taken, and are in no run
}

// unreached are the steps that spin wrote into the program in dir and that are not in
// what it said.
func unreached(t *testing.T, dir, out string) (names []string) {
	t.Helper()
	program, err := os.ReadFile(filepath.Join(dir, "pan.m"))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range regexp.MustCompile(`"step " "(\w+)"`).FindAllSubmatch(program, -1) {
		if name := string(step[1]); !strings.Contains(out, "step "+name+"\n") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// number is what an environment variable has, or else unset.
func number(t *testing.T, variable string, unset int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return unset
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// TestModel: none of the assertions of the model can be violated, whatever
// happens when.
func TestModel(t *testing.T) {
	t.Parallel()
	proxies := number(t, "MODEL_PROXIES", 2)
	runs := [][]string{
		{"ACTS=1"},
		{"HOLD", "ACTS=1"},
		{"ACTS=0", "LOSS"},
		{"HOLD", "ACTS=0", "LOSS"},
		{"ACTS=0", "RECIPES"},
		{"HOLD", "ACTS=0", "RECIPES"},
		{"ACTS=0", "RECIPES", "HOSTS"},
		{"HOLD", "ACTS=0", "HOSTS"},
		{"HOLD", "ACTS=0", "LATE"},
		{"MIXED", "ACTS=1"},
	}
	seen := &automaton{lines: map[string]bool{}}
	if proxies == 2 { // of which the automaton is kept
		seen.compareAfter(t, len(runs))
	}
	for _, defines := range runs {
		t.Run(strings.Join(append([]string{"model"}, defines...), " "), func(t *testing.T) {
			t.Parallel()
			s := check(t, "idempotency.pml", table(proxies, 1), "-O2", defines...)
			if s.violated != "" {
				t.Errorf("violated: %s", s.violated)
				return
			}
			seen.add(t, s.said)
			t.Logf("figure: %s states, no violation", s.states)
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
		{[]string{"ACTS=0", "BUG_NO_OWNER"}, "lastGrant"},
		{[]string{"ACTS=0", "BUG_NO_CONFIRM"}, "owner==t"},
		{[]string{"ACTS=0", "BUG_OWN_CLOCK"}, "owner==t"},
		{[]string{"ACTS=0", "BUG_FAIL_OPEN"}, "owner==t"},
		{[]string{"ACTS=0", "BUG_RESEND"}, "charged"},
		{[]string{"HOLD", "ACTS=0", "BUG_LAPSE_FREES"}, "charged"},
		{[]string{"MIXED", "ACTS=0", "BUG_POLICY_OF_OTHERS"}, "charged"},
		{[]string{"ACTS=0", "BUG_EXPIRED_FORGOTTEN"}, "charged"},
		{[]string{"HOLD", "ACTS=0", "BUG_HELD_ENDS"}, "charged"},
		{[]string{"HOLD", "ACTS=1", "BUG_LOOK_THEN_PURGE"}, "charged"},
		{[]string{"ACTS=1", "BUG_LOOK_THEN_PURGE"}, "charged"},
		{[]string{"HOLD", "ACTS=1", "BUG_RESOLVE_ANY"}, "looked==owner"},
		{[]string{"HOLD", "ACTS=1", "BUG_RESOLVED_IS_THEIRS"}, "response=="},
		{[]string{"ACTS=0", "RECIPES", "BUG_RECIPES_COMPARED"}, "(0!=0)"},
		{[]string{"ACTS=0", "RECIPES", "BUG_RECIPE_NAMES"}, "charged"},
		{[]string{"ACTS=0", "HOSTS", "BUG_NO_HOST"}, "(owner%2)=="},
		{[]string{"HOLD", "ACTS=0", "LATE", "BUG_NO_DEADLINE"}, "gone"},
		{[]string{"HOLD", "ACTS=0", "LATE", "BUG_ONE_RELEASE"}, "gone"},
		{[]string{"HOLD", "ACTS=0", "LATE", "BUG_NO_RETURN"}, "gone"},
	} {
		t.Run(strings.Join(c.defines, " "), func(t *testing.T) {
			t.Parallel()
			s := check(t, "idempotency.pml", table(2, 1), "-O0", c.defines...)
			if !strings.Contains(s.violated, c.want) {
				t.Errorf("violated: %q, want the assertion about %s", s.violated, c.want)
				return
			}
			t.Logf("figure: found: %s", s.violated)
		})
	}
}
