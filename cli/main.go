package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/internal/logsink"
	"github.com/idemproxy/idemproxy/internal/redact"
)

// Exit codes.
const (
	ExitOK     = 0
	ExitFailed = 1 // it ran, and failed
	ExitUsage  = 2 // the command line or the configuration is wrong
)

// Main runs the command line and returns the exit code. ctx ends when the
// process is asked to stop.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	tuneGC()
	setTimeFormat()
	cfg := config.Default()
	root := serveCommand("idemproxy", &cfg, stderr)
	serve := serveCommand("serve", &cfg, stderr)
	serve.Short = "Run the proxy (what idemproxy does without a command)"
	root.AddCommand(serve, checkCommand(&cfg), configCommand(&cfg), routesCommand(&cfg), fingerprintCommand(&cfg),
		migrateCommand(&cfg),
		inspectCommand(), listCommand(), resolveCommand(), releaseCommand(), purgeCommand(),
		statusCommand(), tailCommand(), topCommand(), adviseCommand(), backupCommand(), restoreCommand(), copyCommand(),
		verifyCommand(), healthCommand(), versionCommand())
	versionFlag(root)
	grouped(root)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	asked, err := root.ExecuteContextC(ctx)
	var failed failure
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, errSaid):
		return ExitUsage
	case errors.Is(err, app.ErrLogged): // who reads the log as JSON gets nothing else
		return ExitFailed
	case errors.As(err, &failed):
		_, _ = fmt.Fprintln(stderr, "idemproxy:", err)
		return ExitFailed
	}
	_, _ = fmt.Fprintf(stderr, "idemproxy: %v\n%s\n", hideArgs(err, args), whereHelpIs(asked))
	return ExitUsage
}

// hideArgs is err, which may be the flag library's and repeat what was written,
// without what is secret of URLs in the arguments.
func hideArgs(err error, args []string) error {
	for _, arg := range args {
		err = redact.Repeated(err, arg)
		if _, value, has := strings.Cut(arg, "="); has {
			err = redact.Repeated(err, value)
		}
	}
	return err
}

// setTimeFormat gives logs milliseconds, which the library's default lacks.
//
//nolint:gochecknoglobals // the library's setting is global, and may be written once only
var setTimeFormat = sync.OnceFunc(func() { zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00" })

// tuneThreads adds a thread to Go's for the embedded store: an fsync blocks one
// of them, which on few cores is a large part of all. GOMAXPROCS, where set,
// stands.
func tuneThreads(store string) {
	if os.Getenv("GOMAXPROCS") == "" && strings.HasPrefix(store, "embedded:") {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
}

// errSaid is one that was printed already.
var errSaid = errors.New("said")

// failure is an error of running, as opposed to one of asking.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

func versionCommand() *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(map[string]string{
					"version": app.Version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
				})
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), versionLine())
			return err //nolint:wrapcheck // nothing to add
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// versionFlag gives a command --version. The library would do so itself, with a word more
// in its line, which only a template could change. With a template, anything may be
// called by its name, so that the linker has to keep every method of every type: the
// binary would have twice its size.
func versionFlag(root *cobra.Command) {
	asked := root.Flags().BoolP("version", "v", false, "version for "+root.Name())
	run := root.RunE
	root.RunE = func(c *cobra.Command, args []string) error {
		if !*asked {
			return run(c, args)
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), versionLine())
		return err //nolint:wrapcheck // nothing to add
	}
}

// versionLine is what both version and --version print.
func versionLine() string {
	return fmt.Sprintf("idemproxy %s %s %s/%s", app.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func configCommand(cfg *config.Config) *cobra.Command {
	c := &cobra.Command{
		Use: "config", Short: "Check the settings and print them as a YAML file", Args: cobra.NoArgs,
		Long: "Reads the settings as serve would, and prints them as a YAML file that --config takes,\n" +
			"each with its meaning and where it was set.",
		SilenceUsage: true, SilenceErrors: true,
	}
	load := addSettings(c, cfg).load
	asJSON := c.Flags().Bool("json", false, "print JSON, without meanings")
	c.RunE = func(c *cobra.Command, _ []string) error {
		origin, err := load()
		if err == nil {
			err = app.Check(cfg)
		}
		if err != nil {
			return err
		}
		if *asJSON {
			return cfg.PrintJSON(c.OutOrStdout())
		}
		return cfg.Print(c.OutOrStdout(), c.Flags(), origin)
	}
	return c
}

// settings read the settings of a command.
type settings struct {
	config *config.Config
	flags  *pflag.FlagSet
	file   string
}

// addSettings gives a command the settings, and returns what reads them.
func addSettings(c *cobra.Command, cfg *config.Config) *settings {
	s := &settings{config: cfg, flags: c.Flags()}
	c.Flags().SortFlags = false
	c.Flags().StringVarP(&s.file, "config", "c", "", "YAML file of settings, as printed by idemproxy config")
	c.Flags().AddFlagSet(cfg.Flags())
	return s
}

// load reads them into the command's configuration.
func (s *settings) load() (config.Origin, error) {
	if s.file == "" {
		s.file = os.Getenv(config.EnvPrefix + "CONFIG")
	}
	return config.Load(s.config, s.flags, s.file, os.Environ())
}

// again reads them anew, from the same places.
func (s *settings) again() (config.Config, error) { return s.from(s.file) }

// from reads them with another file.
func (s *settings) from(file string) (config.Config, error) {
	c := config.Default()
	flags := c.Flags()
	var err error
	s.flags.Visit(func(f *pflag.Flag) {
		if flags.Lookup(f.Name) != nil && err == nil {
			value := f.Value.String()
			if list, ok := f.Value.(pflag.SliceValue); ok {
				value = strings.Join(list.GetSlice(), ",")
			}
			err = flags.Set(f.Name, value)
		}
	})
	flags.String("config", "", "") // which the environment may name, too
	if err == nil {
		_, err = config.Load(&c, flags, file, os.Environ())
	}
	return c, err
}

// newLogger writes for people on a terminal, JSON otherwise. Nobody waits for a reader that stands
// still. flush is due at the end.
func newLogger(to io.Writer, c *config.Config) (log zerolog.Logger, flush func()) {
	level, _ := zerolog.ParseLevel(c.LogLevel) // validated
	console := c.LogFormat == "console"
	if f, ok := to.(*os.File); ok && c.LogFormat == "auto" {
		console = isatty.IsTerminal(f.Fd())
	}
	sink := logsink.New(to, func(lines int) {
		log.Error().Str("event", "log_dropped").Int("lines", lines).
			Msg("the reader of the log stood still: these lines are missing, the last ones before this one")
	})
	var w io.Writer = sink
	if console {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05.000"}
	}
	log = zerolog.New(w).Level(level).With().Timestamp().Logger()
	return log, func() { sink.Flush(time.Second) }
}
