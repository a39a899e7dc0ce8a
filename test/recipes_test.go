package test_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// said is an answer that a recipe gets: a problem of docs/problems.md, or a backend's.
type said struct {
	status   int
	problem  string
	replayed bool
}

// write answers; what a problem says of a retry is what the page says.
func (s said) write(t *testing.T, w http.ResponseWriter, problems string) {
	t.Helper()
	if s.replayed {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	if s.problem == "" {
		w.WriteHeader(s.status)
		_, _ = fmt.Fprint(w, "an outcome")
		return
	}
	_, section, found := strings.Cut(problems, "\n## "+s.problem+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !found || !strings.Contains(section, fmt.Sprint(s.status)) {
		t.Errorf("docs/problems.md has no %s with %d", s.problem, s.status)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(s.status)
	_, _ = fmt.Fprintf(w, `{"type":"#%s","retryable":%v}`, s.problem, strings.Contains(section, "Retryable: yes"))
}

// javaCompiled is where the Java recipe's classes are. A JDK has some 200 MB, so `make test` does not install one, and
// leaves the recipe out where there is none; `make torture` installs it.
func javaCompiled(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("javac"); err != nil {
		if os.Getenv("JAVA_RECIPE") != "" {
			t.Fatal("javac is missing: scripts/torture.sh installs it")
		}
		t.Run("java", func(t *testing.T) {
			t.Skip("the Java recipe was not run: there is no javac; `make torture`, or apt-get install default-jdk-headless")
		})
		return ""
	}
	classes := t.TempDir()
	if out, err := exec.Command("javac", "-d", classes, "../docs/examples/clients/Retry.java").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return classes
}

// The recipes try again what may be answered otherwise, and once only what is final.
func TestClientRecipesCountTries(t *testing.T) {
	t.Parallel()
	problems, err := os.ReadFile("../docs/problems.md")
	if err != nil {
		t.Fatal(err)
	}
	compiled := filepath.Join(t.TempDir(), "retry")
	if out, err := exec.Command("go", "build", "-o", compiled, "../docs/examples/clients/retry.go").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	examples, err := filepath.Abs("../docs/examples/clients")
	if err != nil {
		t.Fatal(err)
	}
	recipes := map[string][]string{
		"curl": {"sh", examples + "/retry.sh"}, "python": {"python3", examples + "/retry.py"},
		"node": {"node", examples + "/retry.mjs"}, "go": {compiled},
	}
	if classes := javaCompiled(t); classes != "" {
		recipes["java"] = []string{"java", "-cp", classes, "-XX:TieredStopAtLevel=1", "Retry"}
	}
	for recipe, command := range recipes {
		for name, c := range map[string]struct {
			answers []said // the last one again and again
			tries   int32
		}{
			"held":                    {[]said{{409, "outcome-unknown", false}}, 1},
			"too large to keep":       {[]said{{409, "response-not-kept", false}}, 1},
			"expired":                 {[]said{{410, "key-expired", false}}, 1},
			"of another request":      {[]said{{422, "key-reused", false}}, 1},
			"held by this try":        {[]said{{502, "backend-outcome-unknown", false}}, 1},
			"settings gone":           {[]said{{500, "recipe-unknown", false}}, 1},
			"a 500 of the backend":    {[]said{{500, "", false}}, 1},
			"a stored 500":            {[]said{{500, "", true}}, 1},
			"a stored 503":            {[]said{{503, "", true}}, 1},
			"in progress":             {[]said{{409, "in-progress", false}, {201, "", true}}, 2},
			"store away":              {[]said{{500, "store-unavailable", false}, {201, "", false}}, 2},
			"a resolver knows":        {[]said{{502, "outcome-resolvable", false}, {201, "", true}}, 2},
			"backend busy":            {[]said{{503, "", false}, {201, "", false}}, 2},
			"a 502, and it was held":  {[]said{{502, "", false}, {409, "outcome-unknown", false}}, 2},
			"cut once, then executed": {[]said{{502, "backend-cut", false}, {201, "", false}}, 2},
		} {
			t.Run(recipe+"/"+name, func(t *testing.T) {
				t.Parallel()
				var tries atomic.Int32
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					n := int(tries.Add(1))
					c.answers[min(n, len(c.answers))-1].write(t, w, string(problems))
				}))
				t.Cleanup(s.Close)
				cmd := exec.Command(command[0], append(command[1:], s.URL+"/", "op-1", "7")...)
				cmd.Dir = t.TempDir()
				out, err := cmd.CombinedOutput()
				last := fmt.Sprint(c.answers[len(c.answers)-1].status, " ")
				if err != nil || !strings.HasPrefix(string(out), last) || tries.Load() != c.tries {
					t.Errorf("%d tries, want %d: %v %s", tries.Load(), c.tries, err, out)
				}
			})
		}
	}
}

// The page for clients names problems that exist.
func TestClientsPageNamesProblems(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	problems, err := os.ReadFile("../docs/problems.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n| answer |")
	table, _, _ = strings.Cut(table, "\n## ")
	named := regexp.MustCompile("`([a-z]+(?:-[a-z]+)+)`").FindAllStringSubmatch(table, -1)
	for _, m := range named {
		if !strings.Contains(string(problems), "\n## "+m[1]+"\n") {
			t.Errorf("docs/clients.md names %s, which docs/problems.md does not have", m[1])
		}
	}
	if len(named) < 10 {
		t.Errorf("only %d problems found", len(named))
	}
}
