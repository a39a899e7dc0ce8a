package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

func main() {
	if err := run(os.Stdout, ".", "test/rare/states.txt", os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rare:", err)
		os.Exit(1)
	}
}

const module = "github.com/idemproxy/idemproxy/"

// state is one that a run is to come by.
type state struct {
	file, text, unless, means string
	at, unlessAt              position
}

// run says how often the runs of the profiles came by each state. A state that they never
// came by is an error.
func run(out io.Writer, root, list string, profiles []string) error {
	states, err := readStates(root, list)
	if err != nil {
		return err
	}
	counts := counts{}
	for _, file := range profiles {
		if err := counts.add(file); err != nil {
			return err
		}
	}
	var errs []error
	for _, s := range states {
		n := counts.at(s.file, s.at)
		if s.unless != "" {
			n -= counts.at(s.file, s.unlessAt)
		}
		_, _ = fmt.Fprintf(out, "figure: %d times: %s\n", max(n, 0), s.means)
		if n <= 0 {
			errs = append(errs, fmt.Errorf("never: %s (%s:%d)", s.means, s.file, s.at.line))
		}
	}
	return errors.Join(errs...)
}

// readStates reads the list, and finds the lines.
func readStates(root, list string) (states []state, err error) {
	text, err := os.ReadFile(list) //nolint:gosec // of this repository
	if err != nil {
		return nil, fmt.Errorf("read the states: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		parts := strings.Split(line, " | ")
		if len(parts) != 3 {
			return nil, fmt.Errorf("want file | text | meaning: %s", line)
		}
		s := state{file: parts[0], means: parts[2]}
		s.text, s.unless, _ = strings.Cut(parts[1], " ! ")
		if s.at, err = lineOf(root, s.file, s.text); err != nil {
			return nil, err
		}
		if s.unless != "" {
			if s.unlessAt, err = lineOf(root, s.file, s.unless); err != nil {
				return nil, err
			}
		}
		states = append(states, s)
	}
	return states, nil
}

// position is where a statement begins.
type position struct{ line, column int }

func (p position) before(q position) bool {
	return p.line < q.line || p.line == q.line && p.column < q.column
}

// lineOf is where the line begins that has a text, and nothing else but blanks. There must be one.
func lineOf(root, file, text string) (at position, err error) {
	source, err := os.ReadFile(root + "/" + file) //nolint:gosec // of this repository
	if err != nil {
		return at, fmt.Errorf("read a source: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(source)) {
		n++
		if strings.TrimSpace(line) != text {
			continue
		}
		if at.line != 0 {
			return at, fmt.Errorf("%s has this line twice: %s", file, text)
		}
		at = position{n, strings.Index(line, text) + 1}
	}
	if at.line == 0 {
		return at, fmt.Errorf("%s has no such line: %s", file, text)
	}
	return at, nil
}

// block is some statements: how often they were executed.
type block struct {
	from, to position
	count    int
}

// counts are those of all profiles, by file.
type counts map[string][]block

// add reads lines like file.go:8.2,10.17 2 31.
func (c counts) add(profile string) error {
	f, err := os.Open(profile) //nolint:gosec // who runs it names it
	if err != nil {
		return fmt.Errorf("read a profile: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		file, rest, ok := strings.Cut(strings.TrimPrefix(lines.Text(), module), ":")
		fields := strings.Fields(strings.NewReplacer(",", " ").Replace(rest))
		if !ok || file == "mode" || len(fields) != 4 {
			continue
		}
		from, err1 := positionOf(fields[0])
		to, err2 := positionOf(fields[1])
		count, err3 := strconv.Atoi(fields[3])
		if err := errors.Join(err1, err2, err3); err != nil {
			return fmt.Errorf("%s: %w", profile, err)
		}
		c[file] = append(c[file], block{from, to, count})
	}
	return nil
}

func positionOf(text string) (p position, err error) {
	line, column, _ := strings.Cut(text, ".")
	if p.line, err = strconv.Atoi(line); err == nil {
		p.column, err = strconv.Atoi(column)
	}
	return p, err //nolint:wrapcheck // the caller says where
}

// at is how often a statement was executed, in all profiles. Blocks do not overlap.
func (c counts) at(file string, p position) (n int) {
	for _, b := range c[file] {
		if !p.before(b.from) && p.before(b.to) {
			n += b.count
		}
	}
	return n
}
