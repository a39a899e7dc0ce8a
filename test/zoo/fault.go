package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fault is one that the product has had, or that was tried by hand.
type fault struct {
	name    string
	what    string // what users see
	mended  string // the commit; or "by hand": it never was in the product
	finders []finder
	unseen  string // why it need not be found; empty: something must find it
	changes []change
}

// byHand is what stands for a commit in the file of a fault that never was in the product.
const byHand = "by hand"

// change is an exact text of a file, which is there once, and what stands there with
// the fault.
type change struct{ file, was, is string }

// finder names tests: of a generator, or of a package, for a unit test.
type finder struct {
	name    string // of a generator, or the directory of a package
	pattern string // which tests of it; empty: all
}

func (f finder) String() string {
	if f.pattern == "" {
		return f.name
	}
	return f.name + ":" + f.pattern
}

// readFaults reads all files of a directory, in the order of their names.
func readFaults(dir string) ([]*fault, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.fault"))
	if err != nil {
		return nil, fmt.Errorf("look for faults: %w", err)
	}
	slices.Sort(files)
	var all []*fault
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // of this repository
		if err != nil {
			return nil, fmt.Errorf("read a fault: %w", err)
		}
		f, err := parseFault(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		f.name = strings.TrimSuffix(filepath.Base(file), ".fault")
		all = append(all, f)
	}
	return all, nil
}

// The lines that frame a text and what replaces it.
const opens, parts, closes = "<<<", "===", ">>>"

var errFormat = errors.New("want fields like \"what: ...\", then \"<<< FILE\", a text, \"===\", another text, \">>>\"")

// parseFault reads fields, one a line, and then changes.
func parseFault(text string) (*fault, error) {
	f := &fault{}
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch name, value, ok := strings.Cut(line, ": "); {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, opens+" "):
			middle, end := slices.Index(lines[i:], parts), slices.Index(lines[i:], closes)
			if middle < 0 || end < middle {
				return nil, errFormat
			}
			f.changes = append(f.changes, change{
				file: strings.TrimPrefix(line, opens+" "),
				was:  strings.Join(lines[i+1:i+middle], "\n"), is: strings.Join(lines[i+middle+1:i+end], "\n"),
			})
			i += end
		case ok && f.set(name, value):
		default:
			return nil, fmt.Errorf("%w: %q", errFormat, line)
		}
	}
	if f.what == "" || f.mended == "" || len(f.changes) == 0 || len(f.finders) == 0 && f.unseen == "" {
		return nil, fmt.Errorf("%w; what, mended, and finders or unseen", errFormat)
	}
	return f, nil
}

// has says whether generators, or other tests, are named for the fault.
func (f *fault) has(generators bool) bool {
	return slices.ContainsFunc(f.finders, func(one finder) bool { return suiteOf(one).generator == generators })
}

func (f *fault) set(name, value string) bool {
	switch name {
	case "what":
		f.what = value
	case "mended":
		f.mended = value
	case "unseen":
		f.unseen = value
	case "finders":
		for _, one := range strings.Fields(value) {
			name, pattern, _ := strings.Cut(one, ":")
			f.finders = append(f.finders, finder{name, pattern})
		}
	default:
		return false
	}
	return true
}

// apply makes the fault in texts, which are read from root as they are needed.
func (f *fault) apply(root string, texts map[string][]byte) error {
	for _, c := range f.changes {
		text, known := texts[c.file]
		if !known {
			var err error
			if text, err = os.ReadFile(filepath.Join(root, filepath.FromSlash(c.file))); err != nil { //nolint:gosec // of this repository
				return fmt.Errorf("read a source: %w", err)
			}
		}
		if n := bytes.Count(text, []byte(c.was)); n != 1 {
			return fmt.Errorf("%s has this text %d times, want it once:\n%s", c.file, n, c.was)
		}
		texts[c.file] = bytes.Replace(text, []byte(c.was), []byte(c.is), 1)
	}
	return nil
}

// overlay writes the changed files to dir, with what the go command is told of them.
func overlay(root, dir string, texts map[string][]byte) (file string, err error) {
	var told struct{ Replace map[string]string }
	told.Replace = map[string]string{}
	for name, text := range texts {
		from, err := filepath.Abs(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return "", fmt.Errorf("name a source: %w", err)
		}
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(to, text, 0o600); err != nil {
			return "", fmt.Errorf("write a source: %w", err)
		}
		told.Replace[from] = to
	}
	text, err := json.Marshal(told)
	if err != nil {
		return "", fmt.Errorf("write the overlay: %w", err)
	}
	file = filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, text, 0o600) //nolint:wrapcheck // it names the file
}
