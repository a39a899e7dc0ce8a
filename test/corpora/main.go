package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// options are what the command line says.
type options struct {
	root  string         // of the module
	cache string         // of what fuzzing finds: a directory for each package
	fuzz  time.Duration  // how long each target is fuzzed first; 0: not at all
	only  *regexp.Regexp // the targets
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "corpora:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("corpora", flag.ContinueOnError)
	flags.StringVar(&o.root, "root", ".", "the directory of the module")
	flags.DurationVar(&o.fuzz, "for", 30*time.Second, "how long each target is fuzzed first; 0: not at all")
	flags.StringVar(&o.cache, "cache", "", "where the inputs are that fuzzing finds; by default in the cache of the go command")
	only := flags.String("only", "", "the targets alone whose names match this expression")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("read the flags: %w", err)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return fmt.Errorf("read -only: %w", err)
	}
	if o.cache == "" {
		text, err := output(ctx, o.root, "go", "env", "GOCACHE")
		if err != nil {
			return err
		}
		o.cache = filepath.Join(text, "fuzz")
	}
	if o.cache, err = filepath.Abs(o.cache); err != nil {
		return fmt.Errorf("find the cache: %w", err)
	}
	all, err := output(ctx, o.root, "scripts/fuzz.sh", "list")
	if err != nil {
		return err
	}
	for line := range strings.Lines(all) {
		name, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !o.only.MatchString(name) {
			continue
		}
		kept, err := keep(ctx, &o, name, dir)
		if err != nil {
			return fmt.Errorf("%s in %s: %w", name, dir, err)
		}
		_, _ = fmt.Fprintf(out, "%s in %s: %s\n", name, dir, kept)
	}
	return nil
}

// output is what a command prints, without the line's end.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the go command, a script of the repository, and what they built
	cmd.Dir = dir
	var complaints strings.Builder
	cmd.Stderr = &complaints
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, text, complaints.String())
	}
	return strings.TrimSpace(string(text)), nil
}
