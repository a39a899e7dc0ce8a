package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// What is kept of a target's inputs at most: how many files, and how large each.
const (
	mostFiles = 64
	mostBytes = 4 << 10
)

// result is what was kept of one target's inputs.
type result struct {
	known, kept, there int // inputs of the cache, those that are new files, files that were there
	before, now        int // how many blocks of statements are covered
}

func (r result) String() string {
	return fmt.Sprintf("%d inputs kept of %d, beside %d files; %d blocks covered, %d before",
		r.kept, r.known, r.there, r.now, r.before)
}

// keep fuzzes a target of the package in dir, and makes files of the inputs that are worth it.
func keep(ctx context.Context, o *options, name, dir string) (r result, err error) {
	tmp, err := os.MkdirTemp("", "idemproxy-corpora-")
	if err != nil {
		return r, fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	path, err := output(ctx, o.root, "go", "list", dir)
	if err != nil {
		return r, err
	}
	cache := filepath.Join(o.cache, filepath.FromSlash(path))
	if o.fuzz > 0 {
		if err := fuzz(ctx, o, tmp, name, dir, cache); err != nil {
			return r, err
		}
	}
	files := filepath.Join(o.root, dir, "testdata", "fuzz", name)
	there, err := inputsIn(files)
	if err != nil {
		return r, err
	}
	found, err := inputsIn(filepath.Join(cache, name))
	if err != nil {
		return r, err
	}
	found = slices.DeleteFunc(found, func(one input) bool {
		return one.size > mostBytes || slices.ContainsFunc(there, func(other input) bool { return other.name == one.name })
	})
	c, err := newCoverage(ctx, o.root, tmp, name, dir, slices.Concat(there, found))
	if err != nil {
		return r, err
	}
	have, err := c.of(ctx, there, true)
	if err != nil {
		return r, err
	}
	r = result{known: len(found), there: len(there), before: len(have)}
	chosen, err := choose(found, have, mostFiles-len(there), func(some []input) (blocks, error) { return c.of(ctx, some, false) })
	if err != nil {
		return r, err
	}
	r.kept, r.now = len(chosen), len(have)
	return r, write(files, chosen)
}

// write makes files of inputs.
func write(dir string, inputs []input) error {
	if len(inputs) == 0 {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // sources, for all to read
		return fmt.Errorf("make the directory of the files: %w", err)
	}
	for _, one := range inputs {
		text, err := os.ReadFile(one.path())
		if err != nil {
			return fmt.Errorf("read an input: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, one.name), text, 0o644); err != nil { //nolint:gosec // as above
			return fmt.Errorf("keep an input: %w", err)
		}
	}
	return nil
}

// fuzz runs a target for a while. What it finds gets into the cache.
func fuzz(ctx context.Context, o *options, tmp, name, dir, cache string) error {
	program := filepath.Join(tmp, "fuzz.test")
	if _, err := output(ctx, o.root, "go", "test", "-c", "-fuzz", "^"+name+"$", "-o", program, dir); err != nil {
		return err
	}
	_, err := output(ctx, filepath.Join(o.root, dir), program, "-test.run=^$", "-test.fuzz=^"+name+"$",
		"-test.fuzztime="+o.fuzz.String(), "-test.fuzzminimizetime=20x", "-test.fuzzcachedir="+cache)
	return err
}

// input is a file with arguments of a target.
type input struct {
	dir, name string
	size      int64
}

func (i input) path() string { return filepath.Join(i.dir, i.name) }

// inputsIn are those of a directory, the smallest first; none if it is not there.
func inputsIn(dir string) (all []input, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look for inputs: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("look at an input: %w", err)
		}
		all = append(all, input{dir, e.Name(), info.Size()})
	}
	slices.SortFunc(all, func(a, b input) int { return cmp.Or(cmp.Compare(a.size, b.size), strings.Compare(a.name, b.name)) })
	return all, nil
}

// choose returns the inputs, at most most of them, that cover something which have and the ones before
// them do not, and adds to have what they cover. Many inputs are run at once, and halved
// only if one of them covers something new: most do not.
func choose(inputs []input, have blocks, most int, covers func([]input) (blocks, error)) ([]input, error) {
	if len(inputs) == 0 || most <= 0 {
		return nil, nil
	}
	some, err := covers(inputs)
	if err != nil || !some.hasMoreThan(have) {
		return nil, err
	}
	if len(inputs) == 1 {
		// What depends on time, or on what else goes on, is not covered twice.
		again, err := covers(inputs)
		if err != nil || !again.both(some).hasMoreThan(have) {
			return nil, err
		}
		have.add(again)
		return inputs, nil
	}
	half := len(inputs) / 2
	first, err := choose(inputs[:half], have, most, covers)
	if err != nil {
		return nil, err
	}
	second, err := choose(inputs[half:], have, most-len(first), covers)
	return slices.Concat(first, second), err
}
