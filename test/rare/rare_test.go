package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each state names a line that is there, once.
func TestStatesAreThere(t *testing.T) {
	t.Parallel()
	states, err := readStates("../..", "states.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(states) < 10 {
		t.Errorf("only %d states", len(states))
	}
}

const source = `package p

func f(ok bool) {
	before()
	if ok {
		rare()
	}
	if !ok {
		never()
	}
}
`

func TestStatesAreCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("p.go", source)
	one := write("one", "mode: atomic\n"+module+"p.go:4.2,5.8 2 5\n"+module+"p.go:5.8,7.3 1 2\n"+module+"p.go:8.9,10.3 1 0\n")
	two := write("two", "mode: count\n"+module+"p.go:4.2,5.8 2 1\n"+module+"p.go:5.8,7.3 1 1\n"+module+"q.go:5.8,7.3 1 100\n")
	for list, want := range map[string]string{
		"p.go | rare() | happens":                           "",
		"# p.go\n\np.go | before() ! rare() | does not":     "",
		"p.go | if ok { ! rare() | is not":                  "",
		"p.go | never() | nobody":                           "never: nobody",
		"p.go | rare() ! before() | cannot":                 "never: cannot",
		"p.go | absent() | gone":                            "no such line",
		"p.go | } | twice":                                  "twice",
		"p.go | rare()":                                     "want file",
		"p.go | rare() | happens\np.go | never() | nobody2": "never: nobody2",
	} {
		var out bytes.Buffer
		err := run(&out, dir, write("list", list), []string{one, two})
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", list, err, want)
		}
		if strings.Contains(list, "rare() | happens") && !strings.Contains(out.String(), "figure: 3 times: happens\n") {
			t.Errorf("%q: %s", list, out.String())
		}
	}
	if err := run(&bytes.Buffer{}, dir, write("list", "p.go | rare() | happens"), []string{filepath.Join(dir, "none")}); err == nil {
		t.Error("a profile that is not there was taken")
	}
}
