package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// state is what earlier runs of a campaign left in a directory.
type state struct {
	dir     string
	results map[string]result
	first   map[string]result // what became of each when it was tried first
	reached map[string]*reach // by package
}

// result is what became of a mutant.
type result struct {
	Mutant string // its key, which does not name a line
	Line   int
	Ending string // found, timed out, survived, not reached
	By     string `json:",omitempty"`
	Commit string `json:",omitempty"` // of the sources
}

// reach is what the tests of a package came by, for one version of what they test.
type reach struct {
	Sources string
	Tests   map[string]*tested
}

func openState(dir string) (*state, error) {
	s := &state{dir: dir, results: map[string]result{}, first: map[string]result{}, reached: map[string]*reach{}}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the state's directory: %w", err)
	}
	f, err := os.Open(filepath.Join(dir, "results.jsonl")) //nolint:gosec // who runs it names it
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r result
		if json.Unmarshal(lines.Bytes(), &r) == nil { // a line that was cut off is tried again
			s.know(r)
		}
	}
	return s, nil
}

// know takes a result; the last of a mutant counts, and the first is remembered.
func (s *state) know(r result) {
	s.results[r.Mutant] = r
	if _, tried := s.first[r.Mutant]; !tried {
		s.first[r.Mutant] = r
	}
}

// add keeps a result.
func (s *state) add(r result) error {
	s.know(r)
	f, err := os.OpenFile(filepath.Join(s.dir, "results.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write a result: %w", err)
	}
	if err := json.NewEncoder(f).Encode(r); err != nil {
		_ = f.Close()
		return fmt.Errorf("write a result: %w", err)
	}
	return f.Close() //nolint:wrapcheck // rare, and it says what it is
}

// known is what the tests came by, if the sources are those of then.
func (s *state) known(dir string, sources string) *reach {
	r := &reach{}
	if text, err := os.ReadFile(s.reachFile(dir)); err == nil {
		_ = json.Unmarshal(text, r) // what cannot be read is found out anew
	}
	if r.Sources != sources || r.Tests == nil {
		r = &reach{Sources: sources, Tests: map[string]*tested{}}
	}
	return r
}

func (s *state) keep(dir string, r *reach) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write what tests came by: %w", err)
	}
	return os.WriteFile(s.reachFile(dir), text, 0o600) //nolint:wrapcheck // it names the file
}

func (s *state) reachFile(dir string) string {
	return filepath.Join(s.dir, strings.ReplaceAll(filepath.Clean(dir), "/", "_")+".reach.json")
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
