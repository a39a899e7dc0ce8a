package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// blocks are statements that are run together, as a profile names them.
type blocks map[string]bool

func (b blocks) hasMoreThan(other blocks) bool {
	for name := range b {
		if !other[name] {
			return true
		}
	}
	return false
}

func (b blocks) both(other blocks) blocks {
	shared := blocks{}
	for name := range b {
		if other[name] {
			shared[name] = true
		}
	}
	return shared
}

func (b blocks) add(other blocks) {
	for name := range other {
		b[name] = true
	}
}

// coverage runs inputs of one target and says what they cover.
type coverage struct {
	program string
	dir     string // where it runs: like the package's, with all inputs in testdata/fuzz
	profile string
	target  string
}

// newCoverage builds the tests of a package, and a directory where they find all inputs of the
// target. The package's own directory is left as it is.
func newCoverage(ctx context.Context, root, tmp, target, dir string, all []input) (*coverage, error) {
	c := &coverage{
		program: filepath.Join(tmp, "cover.test"), dir: filepath.Join(tmp, "run"),
		profile: filepath.Join(tmp, "profile"), target: target,
	}
	_, err := output(ctx, root, "go", "test", "-c", "-cover", "-covermode=set", "-coverpkg=./...", "-o", c.program, dir)
	if err != nil {
		return nil, err
	}
	own, err := filepath.Abs(filepath.Join(root, dir))
	if err != nil {
		return nil, fmt.Errorf("find the package: %w", err)
	}
	testdata := filepath.Join(c.dir, "testdata")
	inputs := filepath.Join(testdata, "fuzz", target)
	if err := os.MkdirAll(inputs, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for inputs: %w", err)
	}
	if err := errors.Join(link(own, c.dir, "testdata"), link(filepath.Join(own, "testdata"), testdata, "fuzz")); err != nil {
		return nil, err
	}
	for _, one := range all {
		text, err := os.ReadFile(one.path())
		if err == nil {
			err = os.WriteFile(filepath.Join(inputs, one.name), text, 0o600) //nolint:gosec // a name that was read from a directory
		}
		if err != nil {
			return nil, fmt.Errorf("copy an input: %w", err)
		}
	}
	return c, nil
}

// link has everything that is in one directory be in another one as well, except for one name.
func link(from, to, except string) error {
	entries, err := os.ReadDir(from)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look at the package: %w", err)
	}
	for _, e := range entries {
		if e.Name() == except {
			continue
		}
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return fmt.Errorf("link to the package: %w", err)
		}
	}
	return nil
}

// of is what inputs cover together, and the seeds in the source as well if they are asked for.
func (c *coverage) of(ctx context.Context, inputs []input, seeds bool) (blocks, error) {
	var names []string
	if seeds {
		names = append(names, "seed#[0-9]+")
	}
	for _, one := range inputs {
		names = append(names, regexp.QuoteMeta(one.name))
	}
	which := "^" + c.target + "$/^(" + strings.Join(names, "|") + ")$"
	if _, err := output(ctx, c.dir, c.program, "-test.run="+which, "-test.coverprofile="+c.profile); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(c.profile)
	if err != nil {
		return nil, fmt.Errorf("read what is covered: %w", err)
	}
	return covered(text), nil
}

// covered are the blocks of a profile that were run.
func covered(profile []byte) blocks {
	all := blocks{}
	for line := range bytes.Lines(profile) {
		where, counts, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" ")) // "file:1.2,3.4 5 1"
		if ok && bytes.HasSuffix(counts, []byte(" 1")) {
			all[string(where)] = true
		}
	}
	return all
}
