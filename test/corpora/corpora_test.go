package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// someInputs have as many bytes as their place says, and cover what of says.
func someInputs(of ...string) (all []input, covers func([]input) (blocks, error)) {
	for i := range of {
		all = append(all, input{name: strconv.Itoa(i), size: int64(i)})
	}
	return all, func(some []input) (blocks, error) {
		b := blocks{}
		for _, one := range some {
			i, err := strconv.Atoi(one.name)
			if err != nil {
				return nil, err
			}
			for _, name := range strings.Fields(of[i]) {
				b[name] = true
			}
		}
		return b, nil
	}
}

func namesOf(inputs []input) (all []string) {
	for _, one := range inputs {
		all = append(all, one.name)
	}
	return all
}

func TestChoose(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		of   []string
		have string
		most int
		want string
	}{
		"none":                     {nil, "", 9, ""},
		"nothing new":              {[]string{"a", "a b", "b"}, "a b", 9, ""},
		"the smallest":             {[]string{"a", "a", "a b", "b c", "b"}, "", 9, "0 2 3"},
		"what one before covers":   {[]string{"a b c d", "a", "b", "c", "d", "e"}, "", 9, "0 5"},
		"no more than there may":   {[]string{"a", "b", "c", "d"}, "", 2, "0 1"},
		"there is room for none":   {[]string{"a"}, "", 0, ""},
		"the last one alone":       {[]string{"", "", "", "", "", "", "x"}, "a", 1, "6"},
		"beside what is there now": {[]string{"a x", "x", "b x"}, "a b", 9, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, covers := someInputs(c.of...)
			have := blocks{}
			for _, name := range strings.Fields(c.have) {
				have[name] = true
			}
			got, err := choose(all, have, c.most, covers)
			if err != nil || !slices.Equal(namesOf(got), strings.Fields(c.want)) {
				t.Errorf("%q, %v, want %s", namesOf(got), err, c.want)
			}
			if now, _ := covers(got); now.hasMoreThan(have) {
				t.Errorf("%v is not among %v", now, have)
			}
		})
	}
}

// What is covered once only is chance: it depends on time, say.
func TestChanceIsNotKept(t *testing.T) {
	t.Parallel()
	all, _ := someInputs("", "", "")
	n := 0
	got, err := choose(all, blocks{}, 9, func([]input) (blocks, error) {
		n++
		return blocks{strconv.Itoa(n): true}, nil
	})
	if len(got) > 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAnInputThatFailsIsTold(t *testing.T) {
	t.Parallel()
	all, covers := someInputs("a", "b")
	fault := errors.New("a fault")
	_, err := choose(all, blocks{}, 9, func(some []input) (blocks, error) {
		if len(some) == 1 && some[0].name == "1" {
			return nil, fault
		}
		return covers(some)
	})
	if !errors.Is(err, fault) {
		t.Errorf("got %v", err)
	}
}

// parser is a module with a target, whose seed has no digit, and a file of the package that
// the target reads.
func parser(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.26\n",
		"p/p.go": "package p\n\nfunc Digit(s string) string {\n\tif s == \"7\" {\n\t\treturn \"seven\"\n\t}\n\tif s > \"9\" {\n\t\treturn \"none\"\n\t}\n\treturn \"\"\n}\n",
		"p/p_test.go": `package p

import ("os"; "testing")

func FuzzDigit(f *testing.F) {
	if _, err := os.ReadFile("testdata/needed"); err != nil {
		f.Fatal(err)
	}
	f.Add("x")
	f.Fuzz(func(t *testing.T, s string) {
		if Digit(s); s == "bad" {
			t.Error("a fault")
		}
	})
}
`,
		"p/testdata/needed": "",
		"scripts/fuzz.sh":   "#!/bin/sh\necho FuzzDigit ./p\n",
	} {
		put(t, filepath.Join(root, name), text)
	}
	return root
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	root, cache := parser(t), t.TempDir()
	found := filepath.Join(cache, "example.com", "m", "p", "FuzzDigit")
	for name, value := range map[string]string{"0": "1", "1": "7", "2": "2", "3": "y", "4": "7" + strings.Repeat("0", 5000)} {
		put(t, filepath.Join(found, name), "go test fuzz v1\nstring("+strconv.Quote(value)+")\n")
	}
	old := filepath.Join(root, "p", "testdata", "fuzz", "FuzzDigit", "old")
	put(t, old, "go test fuzz v1\nstring(\"2\")\n")
	var out bytes.Buffer
	args := []string{"-root", root, "-for", "0", "-cache", cache}
	if err := run(t.Context(), args, &out); err != nil {
		t.Fatal(err)
	}
	files, err := inputsIn(filepath.Dir(old))
	slices.SortFunc(files, func(a, b input) int { return strings.Compare(a.name, b.name) })
	if names := namesOf(files); err != nil || !slices.Equal(names, []string{"1", "old"}) {
		t.Errorf("the files are %q, %v", names, err)
	}
	if want := "FuzzDigit in ./p: 1 inputs kept of 4, beside 1 files; 5 blocks covered, 4 before\n"; out.String() != want {
		t.Errorf("it says %q, want %q", out.String(), want)
	}
	// A second time there is nothing to keep.
	if err := run(t.Context(), args, &out); err != nil || !strings.Contains(out.String(), " 0 inputs kept of 3, beside 2 files") {
		t.Errorf("%q, %v", out.String(), err)
	}
	put(t, filepath.Join(found, "5"), "go test fuzz v1\nstring(\"bad\")\n")
	if err := run(t.Context(), args, &out); err == nil || !strings.Contains(err.Error(), "FuzzDigit/5") {
		t.Errorf("an input that fails: %v", err)
	}
}
