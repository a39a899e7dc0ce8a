package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// asked prints what the sample of a mutant does, so that each site changes what is printed.
const asked = `package sample

import (
	"fmt"
	"testing"
)

type bit int64

var total bit

func decide(a, b int, yes bool) (bit, error) {
	if a >= b || yes {
		total += 1 << 40
	}
	if a+b > 10 {
		return 0, ErrNo
	}
	return total * 2, nil
}

func TestPrint(t *testing.T) {
	for a := range 12 {
		total = 0
		v, err := decide(a, 3, a == 1)
		fmt.Print(v, err, " ")
	}
}
`

// One build holds all mutants: with none switched on it does what the source does, and each
// that is switched on does something else.
func TestOneBuildHoldsAllMutants(t *testing.T) { //nolint:paralleltest // the go command looks at where it is started
	root := t.TempDir()
	t.Chdir(root)
	source := asked[:strings.Index(asked, "func TestPrint")]
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\t\"fmt\"\n\t\"testing\"\n", "\t\"errors\"\n"), "type bit", "var ErrNo = errors.New(\"no\")\n\ntype bit")
	tests := "package sample\n\nimport (\n\t\"fmt\"\n\t\"testing\"\n)\n\n" + asked[strings.Index(asked, "func TestPrint"):]
	for name, text := range map[string]string{
		"go.mod": "module example.test/x\n\ngo 1.26.0\n", "sample/sample.go": source, "sample/sample_test.go": tests,
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tmp := t.TempDir()
	s, err := newSchema(t.Context(), "sample", tmp)
	if err != nil {
		t.Fatal(err)
	}
	u, err := newSuite(t.Context(), s, "sample", tmp, every, map[string]*tested{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(u.tests) != 1 || u.tests[0].Fails || len(u.tests[0].Sites) != len(s.sites) {
		t.Fatalf("the test came by %v of %d sites", u.tests[0], len(s.sites))
	}
	prints := func(mutant string) string {
		cmd := exec.CommandContext(t.Context(), u.binary, "-test.run", "TestPrint")
		cmd.Env = append(os.Environ(), "MUTANT="+mutant)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("mutant %s: %v: %s", mutant, err, out)
		}
		return string(out)
	}
	seen := map[string]string{}
	seen[prints("")] = "nothing"
	for i, one := range s.sites {
		if slices.Contains(s.dropped, i) {
			t.Errorf("%s was left out", one)
			continue
		}
		out := prints(strconv.Itoa(i))
		if before := seen[out]; before == "nothing" {
			t.Errorf("%s changes nothing", one)
		}
		seen[out] = one.String()
	}
	if len(s.sites) < 10 {
		t.Errorf("%d sites", len(s.sites))
	}
}

// What does not compile beside the original is left out, and the rest is not.
func TestWhatDoesNotCompileIsLeftOut(t *testing.T) { //nolint:paralleltest // as above
	root := t.TempDir()
	t.Chdir(root)
	const text = "package sample\n\nfunc Name(s string) string {\n\tvar a [2]int\n\ta[0] = len(s)\n\treturn s + \"x\"\n}\n"
	if err := os.MkdirAll("sample", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"go.mod": "module example.test/x\n\ngo 1.26.0\n", "sample/sample.go": text} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := newSchema(t.Context(), "sample", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, i := range s.dropped {
		left = append(left, s.sites[i].kind+": "+s.sites[i].was)
	}
	if want := []string{"one more: 2", `+ became -: s + "x"`}; !slices.Equal(left, want) {
		t.Errorf("left out: %q, want %q", left, want)
	}
}
